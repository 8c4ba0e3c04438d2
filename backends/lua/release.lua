-- Gives leased slots back.
-- KEYS: 1 slots sorted set
-- ARGV: 1 holder · 2 slots that were leased
-- returns: slots given back
local removed = 0
for i = 1, tonumber(ARGV[2]) do
  removed = removed + redis.call('ZREM', KEYS[1], ARGV[1] .. ':' .. i)
end
return removed
