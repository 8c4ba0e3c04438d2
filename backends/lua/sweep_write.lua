-- Writes how far a night is, keeps or gives back the lease, or settles the night; only under the newest fence.
-- KEYS: 1 sweep · 2 sweep-nights
-- ARGV: 1 fence · 2 day · 3 JSON of the night, or '' to leave it · 4 until when the lease shall last, ms (0: given back)
--   · 5 '1' if the night is settled · 6 why it cannot go on, or '' (looked at with 3) · 7 when it was completed, ms, or ''
-- returns: 1 · 0 if somebody else has taken the lease since · 2 if the sweep is paused: it was written all the same
local found = redis.call('HMGET', KEYS[1], 'fence', 'open', 'done', 'paused')
local fence, open, done, paused = found[1], found[2], found[3], found[4]
if fence ~= ARGV[1] then return 0 end
if open ~= ARGV[2] then
  -- The answer to the first of two equal calls may have been lost.
  if ARGV[5] == '1' and done == ARGV[2] and redis.call('HGET', KEYS[2], ARGV[2]) == ARGV[3] then return 1 end
  return 0
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  redis.call('HSET', KEYS[1], 'problem', ARGV[6])
end
redis.call('HSET', KEYS[1], 'until', ARGV[4])
if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'open', '', 'done', ARGV[2], 'until', 0, 'problem', '') end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'completed', ARGV[7]) end
if paused and paused ~= '' then return 2 end
return 1
