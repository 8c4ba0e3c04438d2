-- Puts a batch into the waiting set; the same batch again changes nothing.
-- KEYS: 1 waiting · 2 waiting-batches · 3 waiting-at
-- ARGV: 1 batch id · 2 due, ms · 3 JSON
-- returns: 1 if it is new, else 0
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[3]) == 0 then return 0 end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
return 1
