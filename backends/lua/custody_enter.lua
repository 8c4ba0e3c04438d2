-- Takes batches into custody before they are published; a batch that is there already is left as it is.
-- KEYS: 1 custody · 2 custody-batches · 3 custody-notes
-- ARGV: 1 now, ms · 2 when to look after them, ms · then 2 a batch: id, JSON
-- returns: how many are new
local new = 0
for i = 3, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[2], ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('HSET', KEYS[3], ARGV[i], 'queued|' .. ARGV[1] .. '|0|0|0|')
    redis.call('ZADD', KEYS[1], ARGV[2], ARGV[i])
    new = new + 1
  end
end
return new
