-- Tells of a change once, whoever sees it first.
-- KEYS: 1 announced hash · 2 outbox stream
-- ARGV: 1 what has a state · 2 its state now · 3 type of the notice, or '' to remember the state in silence · 4 its data
-- returns: 1 if the state is new, else 0
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('XADD', KEYS[2], '*', 'type', ARGV[3], 'data', ARGV[4]) end
return 1
