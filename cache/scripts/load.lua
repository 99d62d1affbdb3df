-- Reads an account in one step; writes only if the reader claims it and may, so that a read-only
-- Redis serves it too.
-- KEYS: meta, items, journal, ends.
-- ARGV: 1 the version that the reader has ("" none)  2 "tail": what was added to it is enough
--       3 who claims the account ("" nobody)  4 owner that is gone  5 ttl in ms
--       6 channel  7 message that tells of the claim  8 owner as the reader knows it: it counts
--       if nothing is kept, as it may live and only Redis was emptied.
-- Returns {owner, version, state, ends, items, journal, "same", "tail" or "whole", run of Redis in
-- which it was written, "1" if nobody has written since it was last claimed}: with "same" state,
-- items and journal are empty; with "tail" the journal is what came after the reader's version, if
-- it is in there at all, and items are empty.
local owner = redis.call('HGET', KEYS[1], 'owner') or ARGV[8]
local at = redis.call('HGET', KEYS[1], 'at') or ''
if ARGV[3] ~= '' and owner ~= ARGV[3] and (owner == '' or owner == ARGV[4]) then
    redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'unread', '1')
    for k = 1, 3 do
        redis.call('PEXPIRE', KEYS[k], ARGV[5])
    end
    redis.call('PUBLISH', ARGV[6], ARGV[7])
    owner = ARGV[3]
end
local ends = {}
if redis.call('TYPE', KEYS[4]).ok == 'hash' then
    ends = redis.call('HGETALL', KEYS[4])
end
local run = redis.call('HGET', KEYS[1], 'run') or ''
local unread = redis.call('HGET', KEYS[1], 'unread') or ''
local have = ARGV[1]
if at == '' or at == have then
    return {owner, at, '', ends, {}, {}, 'same', run, unread}
end
local state = redis.call('HGET', KEYS[1], 'state') or ''
local n = 0
if ARGV[2] == 'tail' and string.sub(at, 1, 16) == string.sub(have, 1, 16) then
    n = (tonumber(string.match(at, '%-(%d+)$')) or 0) - (tonumber(string.match(have, '%-(%d+)$')) or 0)
end
if n > 0 and n <= redis.call('LLEN', KEYS[3]) then
    return {owner, at, state, ends, {}, redis.call('LRANGE', KEYS[3], -n, -1), 'tail', run, unread}
end
return {owner, at, state, ends, redis.call('HGETALL', KEYS[2]),
        redis.call('LRANGE', KEYS[3], 0, -1), 'whole', run, unread}
