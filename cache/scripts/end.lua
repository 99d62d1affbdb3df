-- Keeps sign-outs, which outlive the roster; forgets those of passwords that are good again.
-- KEYS: ends. ARGV: 1 ttl in ms  2 channel  3 its message  4 how many fields to forget; these; then
-- field and value of each end.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then
    redis.call('DEL', KEYS[1])
end
local first = 5 + tonumber(ARGV[4])
for i = 5, first - 1 do
    redis.call('HDEL', KEYS[1], ARGV[i])
end
for i = first, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1}
