-- Moves an account from the version this writer believes in to its own, all of it or nothing.
-- KEYS: meta, items, journal.
-- ARGV: 1 writer  2 version expected ("" none)  3 new version  4 state  5 ttl in ms
--       6 "full" or "delta"  7 number of items expected (delta)  8 journal length kept
--       9 channel  10 message that tells of it  11 run of Redis  12 removals  13 items  14 changes;
--       then these, items as pairs.
-- Returns {1}; {0, owner, version} if somebody else's or at another version; {2} if items are
-- missing, so that only a full write helps.
local owner = redis.call('HGET', KEYS[1], 'owner') or ''
local at = redis.call('HGET', KEYS[1], 'at') or ''
if (owner ~= '' and owner ~= ARGV[1]) or at ~= ARGV[2] then
    return {0, owner, at}
end
local full = ARGV[6] == 'full'
if not full and redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[7]) then
    return {2}
end
local run = redis.call('HGET', KEYS[1], 'run')
-- The first write is one that a full or read-only Redis refuses: then nothing has happened.
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'at', ARGV[3], 'state', ARGV[4], 'run', ARGV[11])
if full then
    redis.call('DEL', KEYS[2], KEYS[3])
end
local i = 15
for _ = 1, tonumber(ARGV[12]) do
    redis.call('HDEL', KEYS[2], ARGV[i])
    i = i + 1
end
for _ = 1, tonumber(ARGV[13]) do
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    i = i + 2
end
for _ = 1, tonumber(ARGV[14]) do
    redis.call('RPUSH', KEYS[3], ARGV[i])
    i = i + 1
end
local kept = tonumber(ARGV[8])
if kept == 0 then
    redis.call('DEL', KEYS[3])
else
    redis.call('LTRIM', KEYS[3], -kept, -1)
end
for k = 1, 3 do
    redis.call('PEXPIRE', KEYS[k], ARGV[5])
end
-- An owner that has read the roster stands by what it found, even if that is the same.
local read = redis.call('HDEL', KEYS[1], 'unread') == 1
if read or at ~= ARGV[3] or owner ~= ARGV[1] or run ~= ARGV[11] then
    redis.call('PUBLISH', ARGV[9], ARGV[10])
end
return {1}
