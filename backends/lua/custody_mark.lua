-- Writes down a new phase of a batch, if its note is still the one that the caller knows (compare and set).
-- KEYS: 1 custody · 2 custody-notes · 3 redriven string
-- ARGV: 1 batch id · 2 the known note · 3 the new note · 4 when to look after it, ms · 5 '1' if this is a redrive
-- returns: 1 if it was written, else 0
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[1])
if ARGV[5] == '1' then redis.call('INCR', KEYS[3]) end
return 1
