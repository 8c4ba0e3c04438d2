-- Takes the lease of a sweep, to begin the night of a day or to go on with the one that is open.
-- KEYS: 1 sweep · 2 sweep-nights
-- ARGV: 1 day · 2 now, ms · 3 until when the lease shall last, ms · 4 JSON of the night as it begins · 5 holder
-- returns: {fence, JSON of the night} · {0, why not: paused, leased, settled or other}
local found = redis.call('HMGET', KEYS[1], 'paused', 'until', 'open', 'done')
local paused, held, open, done = found[1], found[2], found[3], found[4]
if paused and paused ~= '' then return {0, 'paused'} end
if held and tonumber(held) > tonumber(ARGV[2]) then return {0, 'leased'} end
if open and open ~= '' then
  if open ~= ARGV[1] then return {0, 'other'} end
elseif done and done >= ARGV[1] then
  return {0, 'settled'}
else
  redis.call('HSET', KEYS[1], 'open', ARGV[1])
  redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[4])
end
local fence = redis.call('HINCRBY', KEYS[1], 'fence', 1)
redis.call('HSET', KEYS[1], 'until', ARGV[3], 'holder', ARGV[5])
return {fence, redis.call('HGET', KEYS[2], ARGV[1])}
