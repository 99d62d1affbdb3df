-- Reads an account in one step; writes nothing, so that a read-only Redis serves it too.
-- KEYS: meta, items, journal, ends. ARGV: 1 the version that the reader has ("" none).
-- Returns {owner, version, state, ends, items, journal}; the last two are empty if the reader
-- has that version.
local owner = redis.call('HGET', KEYS[1], 'owner') or ''
local at = redis.call('HGET', KEYS[1], 'at') or ''
local ends = {}
if redis.call('TYPE', KEYS[4]).ok == 'hash' then
    ends = redis.call('HGETALL', KEYS[4])
end
if at == '' or at == ARGV[1] then
    return {owner, at, '', ends, {}, {}}
end
local state = redis.call('HGET', KEYS[1], 'state') or ''
return {owner, at, state, ends, redis.call('HGETALL', KEYS[2]),
        redis.call('LRANGE', KEYS[3], 0, -1)}
