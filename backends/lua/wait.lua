-- Puts a batch into the waiting set; the same batch again changes nothing.
-- KEYS: 1 waiting-batches · then those that index it: waiting, waiting-at; if it is interactive also waiting-first,
--   waiting-first-at
-- ARGV: 1 batch id · 2 due, ms · 3 JSON
-- returns: 1 if it is new, else 0
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[3]) == 0 then return 0 end
for i = 2, #KEYS do redis.call('ZADD', KEYS[i], ARGV[2], ARGV[1]) end
return 1
