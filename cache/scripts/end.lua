-- Keeps sign-outs, which outlive the roster; forgets those of passwords that are good again.
-- KEYS: ends. ARGV: 1 ttl in ms  2 channel  3 its message  4 "keep" or "passwords" (no end of a
-- password may stand but those given here)  then field and value of each end.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then
    redis.call('DEL', KEYS[1])
end
local given = {}
for i = 5, #ARGV, 2 do
    given[ARGV[i]] = true
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
if ARGV[4] == 'passwords' then
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
        if string.sub(field, 1, 1) == 'p' and not given[field] then
            redis.call('HDEL', KEYS[1], field)
        end
    end
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {1}
