-- Gives an account up: whoever writes next need not wait for this writer's heartbeat to end.
-- KEYS: meta. ARGV: 1 writer  2 channel  3 message that tells of it.
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
    redis.call('HSET', KEYS[1], 'owner', '')
    redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return {1}
