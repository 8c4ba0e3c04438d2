-- A worker begins a batch: it holds it until its lease ends, and nobody else begins it meanwhile.
-- KEYS: 1 custody · 2 custody-notes · 3 custody-lanes
-- ARGV: 1 batch id · 2 now, ms · 3 end of the lease, ms · 4 holder · 5 lane · 6 when to look after it, ms
-- returns: the note of the batch; '' if it is in nobody's custody; nil if another holds it
local note = redis.call('HGET', KEYS[2], ARGV[1])
if not note then return '' end
local phase, since, ends, starts, redrives, holder = string.match(note, '^(%a+)|(%d+)|(%d+)|(%d+)|(%d+)|(.*)$')
-- The same holder asks twice when the first answer was lost on its way.
if phase == 'begun' and holder == ARGV[4] then return note end
if phase ~= 'queued' and tonumber(ends) > tonumber(ARGV[2]) then return nil end
if phase == 'queued' and tonumber(since) > tonumber(redis.call('HGET', KEYS[3], ARGV[5]) or 0) then
  redis.call('HSET', KEYS[3], ARGV[5], since)
end
note = table.concat({'begun', ARGV[2], ARGV[3], tonumber(starts) + 1, redrives, ARGV[4]}, '|')
redis.call('HSET', KEYS[2], ARGV[1], note)
redis.call('ZADD', KEYS[1], ARGV[6], ARGV[1])
return note
