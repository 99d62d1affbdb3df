-- Moves an account from the version this writer believes in to its own, all of it or nothing.
-- KEYS: meta, items, journal.
-- ARGV: 1 writer  2 owner that may be followed  3 version expected ("" none)  4 new version
--       5 state  6 ttl in ms  7 "full" or "delta"  8 number of items expected (delta)
--       9 journal length kept  10 removals  11 items  12 changes; then these, items as pairs.
-- Returns {1}; {0, owner, version} if somebody else's or at another version; {2} if items are
-- missing, so that only a full write helps.
local owner = redis.call('HGET', KEYS[1], 'owner') or ''
local at = redis.call('HGET', KEYS[1], 'at') or ''
if (owner ~= '' and owner ~= ARGV[1] and owner ~= ARGV[2]) or at ~= ARGV[3] then
    return {0, owner, at}
end
local full = ARGV[7] == 'full'
if not full and redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[8]) then
    return {2}
end
-- The first write is one that a full or read-only Redis refuses: then nothing has happened.
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'at', ARGV[4], 'state', ARGV[5])
if full then
    redis.call('DEL', KEYS[2], KEYS[3])
end
local i = 13
for _ = 1, tonumber(ARGV[10]) do
    redis.call('HDEL', KEYS[2], ARGV[i])
    i = i + 1
end
for _ = 1, tonumber(ARGV[11]) do
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    i = i + 2
end
for _ = 1, tonumber(ARGV[12]) do
    redis.call('RPUSH', KEYS[3], ARGV[i])
    i = i + 1
end
local kept = tonumber(ARGV[9])
if kept == 0 then
    redis.call('DEL', KEYS[3])
else
    redis.call('LTRIM', KEYS[3], -kept, -1)
end
for k = 1, 3 do
    redis.call('PEXPIRE', KEYS[k], ARGV[6])
end
return {1}
