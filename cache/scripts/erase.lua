-- Forgets an account for all: whoever held it finds out that it was erased, not lost, and does not
-- write it back.
-- KEYS: meta, items, journal. ARGV: 1 how long that stands, in ms  2 channel  3 message that tells
-- of it.
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'run', 'erased')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
