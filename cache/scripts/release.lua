-- Gives an account up: whoever writes next need not wait for this writer's heartbeat to end.
-- Where Redis was emptied that is noted, too: others believe in the owner they know.
-- KEYS: meta. ARGV: 1 writer  2 channel  3 message that tells of it  4 ttl in ms.
local owner = redis.call('HGET', KEYS[1], 'owner')
if not owner or owner == ARGV[1] then
    redis.call('HSET', KEYS[1], 'owner', '')
    -- It goes when the items go; but nothing stays for ever.
    if redis.call('PTTL', KEYS[1]) < 0 then
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
    end
    redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return {1}
