-- Says how many calls a platform may be sent now, and leases as many in-flight slots as they need.
-- KEYS: 1 rate string · 2 slots sorted set · 3 waiting-at sorted set of the platform
-- ARGV: 1 calls wanted · 2 calls a second · 3 in-flight slots in all · 4 lease, ms · 5 holder
--   · 6 horizon, us: how far ahead the first call may lie · 7 TTL, s, at least
-- returns: {calls granted, slots leased, first call after, us, come back after, ms}
-- A refused call spends nothing: neither a token nor a slot (rule 5).
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local wanted, step_us = tonumber(ARGV[1]), 1000000 / tonumber(ARGV[2])
local horizon_us = tonumber(ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_us / 1000)
local free = tonumber(ARGV[3]) - redis.call('ZCARD', KEYS[2])
-- GCRA without burst: calls are granted at the platform's even pace, the next one not before `next_us`.
local next_us = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now_us)
local ahead_us = next_us - now_us
if free < 1 or ahead_us > horizon_us then
  -- Its turn comes after those that are due before it, not after all that wait: a batch that comes back a moment too
  -- early keeps its place in the queue. Half the horizon before its turn is early enough that the platform never idles.
  local soonest_us = math.max(ahead_us, free < 1 and 100000 or 0)
  local turn_us, before = soonest_us, -1
  repeat
    local due = redis.call('ZCOUNT', KEYS[3], '-inf', (now_us + turn_us) / 1000)
    local moved = due > before
    before, turn_us = due, soonest_us + due * wanted * step_us
  until not moved or before > 1000
  return {0, 0, 0, math.ceil(math.max(turn_us - horizon_us / 2, 50000) / 1000)}
end
-- The first call starts within the horizon, the last within two: a batch is sized to about a second of its platform, so
-- it is granted whole instead of in splinters.
local granted = math.min(wanted, math.floor((2 * horizon_us - ahead_us) / step_us) + 1)
local slots = math.min(granted, free)
local until_us = next_us + granted * step_us
-- A platform that is called once an hour must be remembered for an hour.
local ttl_ms = math.max(tonumber(ARGV[7]) * 1000, math.ceil((until_us - now_us) / 1000))
redis.call('SET', KEYS[1], string.format('%.0f', until_us), 'PX', string.format('%.0f', ttl_ms))
local leases = {}
for i = 1, slots do
  leases[2 * i - 1] = now_us / 1000 + tonumber(ARGV[4])
  leases[2 * i] = ARGV[5] .. ':' .. i
end
redis.call('ZADD', KEYS[2], unpack(leases))
redis.call('EXPIRE', KEYS[2], ARGV[7])
return {granted, slots, math.ceil(ahead_us), 0}
