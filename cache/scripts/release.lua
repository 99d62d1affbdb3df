-- Gives an account up: whoever writes next need not wait for this writer's heartbeat to end.
-- KEYS: meta. ARGV: 1 writer.
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
    redis.call('HSET', KEYS[1], 'owner', '')
end
return {1}
