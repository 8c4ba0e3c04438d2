-- Says how many calls a platform may be sent now, and leases as many in-flight slots as they need.
-- KEYS: 1 rate string · 2 slots sorted set · 3 waiting-at sorted set of the platform · 4 gate hash
-- ARGV: 1 now, us, or '' for the server's clock · 2 calls wanted · 3 calls a second · 4 in-flight slots in all
--   · 5 lease, ms · 6 holder · 7 TTL, s, at least · 8 window from, us, or '' · 9 window until, us
-- returns: {calls granted, slots leased, first call after, us, calls a second now, epoch, state};
--   where this is the first probe also the change: {…, state before, state after, reason}; or
--   {0, come back after, ms, why}
-- A refused call spends nothing: neither a token nor a slot nor a probe (rule 5).
-- gate.lua is put before this text by backends/admission.py.
local now_us = clock_us(ARGV[1])
local wanted, ceiling, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_us / 1000)
load_gate(KEYS[4])
ceiling = math.min(ceiling, tonumber(gate.limit_calls_per_s or ceiling))
most = math.min(most, tonumber(gate.limit_in_flight or most))
local now_state = state()
local part = now_state == 'ramping' and RAMP[figure('step')] or 1
local per_s = math.max(ceiling * share() * part, math.min(ceiling, FLOOR_PER_S))
local step_us = 1000000 / per_s
-- A ramp is over in seconds: who lines up by its pace would still stand there when the platform has long been well.
local queue_us = wanted * 1000000 / math.max(ceiling * share(), math.min(ceiling, FLOOR_PER_S))

-- Its turn comes after those that are due before it, not after all that wait: a batch that comes back a moment too
-- early keeps its place in the queue.
local function refuse(why, soonest_us, early_us)
  local turn_us, before = soonest_us, -1
  repeat
    local due = redis.call('ZCOUNT', KEYS[3], '-inf', (now_us + turn_us) / 1000)
    local moved = due > before
    before, turn_us = due, soonest_us + due * queue_us
  until not moved or before > 1000
  return {0, math.ceil(math.max(turn_us - early_us, 50000) / 1000), why}
end

if paused(now_us) then
  local until_us = figure('pause_until')
  return refuse('paused', until_us > 0 and until_us - now_us or PAUSE_LOOK_US, 0)
end
if ARGV[8] ~= '' and tonumber(ARGV[8]) <= now_us and now_us < tonumber(ARGV[9]) then
  return refuse('window', tonumber(ARGV[9]) - now_us, 0)
end
local calls, out = wanted, nil
if now_state == 'broken' or now_state == 'probing' or now_state == 'suspended' then
  local why, quota = 'breaker', PROBES
  if now_state == 'suspended' then why, quota = 'suspended', 1 end
  if figure('probe_at') > now_us then return refuse(why, figure('probe_at') - now_us, 0) end
  out = probes_out(now_us)
  if #out >= quota then return refuse(why, PROBE_LOOK_US, 0) end
  calls = 1
end
local free = most - redis.call('ZCARD', KEYS[2])
-- GCRA without burst: calls are granted at the platform's even pace, the next one not before `next_us`.
local granted_us = tonumber(redis.call('GET', KEYS[1]) or 0)
local next_us = math.max(granted_us, now_us)
local ahead_us = next_us - now_us
if free < 1 or ahead_us > HORIZON_US then
  -- Half the horizon before its turn is early enough that the platform never idles.
  local why = ahead_us > HORIZON_US and 'rate' or 'in_flight'
  -- Full, and nothing granted for a while: its calls hang, and who asks at once again only costs the others time.
  local full_us = math.min(SLOT_LOOK_MAX_US, math.max(SLOT_LOOK_US, (now_us - granted_us) / 2))
  return refuse(why, math.max(ahead_us, free < 1 and full_us or 0), HORIZON_US / 2)
end
-- The first call starts within the horizon, the last within two: a batch is sized to about a second of its platform, so
-- it is granted whole instead of in splinters.
local granted = math.min(calls, math.floor((2 * HORIZON_US - ahead_us) / step_us) + 1)
local slots = math.min(granted, free)
local until_us = next_us + granted * step_us
-- A platform that is called once an hour must be remembered for an hour.
local ttl_ms = math.max(tonumber(ARGV[7]) * 1000, math.ceil((until_us - now_us) / 1000))
redis.call('SET', KEYS[1], whole(until_us), 'PX', whole(ttl_ms))
local leases, lease_ms = {}, now_us / 1000 + tonumber(ARGV[5])
for i = 1, slots do
  leases[2 * i - 1] = lease_ms
  leases[2 * i] = ARGV[6] .. ':' .. i
end
redis.call('ZADD', KEYS[2], unpack(leases))
redis.call('EXPIRE', KEYS[2], ARGV[7])
if out then
  if now_state == 'broken' then enter('probing', gate.reason, now_us) end
  out[#out + 1] = {ARGV[6], whole(lease_ms * 1000)}
  put_probes(out)
  save_gate(KEYS[4])
end
local answer = {granted, slots, math.ceil(ahead_us), string.format('%.17g', per_s), figure('epoch'), state()}
if state() ~= now_state then
  for _, word in ipairs({now_state, state(), gate.reason or ''}) do answer[#answer + 1] = word end
end
return answer
