-- Says how many calls a platform may be sent now, and leases as many in-flight slots as they need.
-- KEYS: 1 rate string · 2 slots sorted set · 3 waiting-at sorted set of the platform · 4 gate hash
--   · 5 waiting-first-at sorted set of the platform · 6 quota hash
-- ARGV: 1 now, us, or '' for the server's clock · 2 calls wanted · 3 calls a second · 4 in-flight slots in all
--   · 5 lease, ms · 6 holder · 7 TTL, s, at least · 8 window from, us, or '' · 9 window until, us
--   · 10 lane, interactive or bulk · for the bulk lane: 11 jobs of one call · 12 jobs a day, or '' · 13 its hours from,
--   us, or '' · 14 its hours until, us · 15 TTL of the quota, s
-- returns: {calls granted, slots leased, first call after, us, calls a second now, epoch, state, day of the quota or 0};
--   where this is the first probe also the change: {…, state before, state after, reason}; or
--   {0, come back after, ms, why}
-- A refused call spends nothing: neither a token nor a slot nor a probe (rule 5). A lane whose turn it is, refused for
-- rate or slots, leaves a note in the gate, so that the other lane does not take what it comes back for.
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

local first = ARGV[10] == 'interactive'
-- The bulk lane has stood behind long enough: once it goes first.
local its_turn = not first and gate.behind_since ~= nil and now_us - figure('behind_since') >= BULK_TURN_US
local horizon_us = first and FIRST_HORIZON_US or its_turn and BULK_HORIZON_US or HORIZON_US

-- How many batches have their turn before one that comes back then: of the bulk lane those that are due until then, and
-- interactive ones, but not so many that it would stand behind them for ever.
local function line_before(turn_us)
  local till_ms = (now_us + turn_us) / 1000
  local firsts = redis.call('ZCOUNT', KEYS[5], '-inf', till_ms)
  if first then return firsts end
  local all = redis.call('ZCOUNT', KEYS[3], '-inf', till_ms)
  return all - firsts + math.min(firsts, math.floor(BULK_TURN_US / queue_us))
end

-- Its turn comes after those that are due before it, not after all that wait: a batch that comes back a moment too
-- early keeps its place in the queue. A long line is looked through in leaps: this is the one slow thing here.
local function refuse(why, soonest_us, early_us, last_us)
  local taken, place = -1, 0
  local before = line_before(soonest_us)
  while before > place do
    taken, place = place, math.max(before, 2 * place)
    before = line_before(soonest_us + place * queue_us)
  end
  while place - taken > 1 do
    local middle = math.floor((taken + place) / 2)
    if line_before(soonest_us + middle * queue_us) > middle then taken = middle else place = middle end
  end
  local turn_us = math.min(soonest_us + place * queue_us, last_us or math.huge)
  return {0, math.ceil(math.max(turn_us - early_us, 50000) / 1000), why}
end

if paused(now_us) then
  local until_us = figure('pause_until')
  return refuse('paused', until_us > 0 and until_us - now_us or PAUSE_LOOK_US, 0)
end
if ARGV[8] ~= '' and tonumber(ARGV[8]) <= now_us and now_us < tonumber(ARGV[9]) then
  return refuse('window', tonumber(ARGV[9]) - now_us, 0)
end
if not first and ARGV[13] ~= '' then
  if now_us < tonumber(ARGV[13]) then return refuse('hours', tonumber(ARGV[13]) - now_us, 0) end
  -- They have just ended, by this clock before the asker's: it shall look at the next ones.
  if now_us >= tonumber(ARGV[14]) then return refuse('hours', HOURS_LOOK_US, 0) end
end
local quota, day, used, each = not first and tonumber(ARGV[12]) or nil, 0, 0, tonumber(ARGV[11])
if quota then
  day = math.floor((now_us + SHANGHAI_US) / DAY_US)
  local counted = redis.call('HMGET', KEYS[6], 'day', 'used')
  if tonumber(counted[1] or 0) == day then used = tonumber(counted[2]) end
  if used + each > quota then return refuse('quota', (day + 1) * DAY_US - SHANGHAI_US - now_us, 0) end
end
local calls, out = wanted, nil
if now_state == 'broken' or now_state == 'probing' or now_state == 'suspended' then
  local why, at_once = 'breaker', PROBES
  if now_state == 'suspended' then why, at_once = 'suspended', 1 end
  if figure('probe_at') > now_us then return refuse(why, figure('probe_at') - now_us, 0) end
  out = probes_out(now_us)
  if #out >= at_once then return refuse(why, PROBE_LOOK_US, 0) end
  calls = 1
end
-- One slot is kept for the interactive lane where there are several: bulk batches may hold theirs for long.
local kept = not first and most >= FIRST_SLOT_FROM and 1 or 0
local free = most - kept - redis.call('ZCARD', KEYS[2])
-- GCRA without burst: calls are granted at the platform's even pace, the next one not before `next_us`.
local granted_us = tonumber(redis.call('GET', KEYS[1]) or 0)
local next_us = math.max(granted_us, now_us)
local ahead_us = next_us - now_us
local other = first and 'bulk_until' or 'first_until'
local yields = not its_turn and figure(other) > now_us
if free < 1 or ahead_us > horizon_us or yields then
  local why = (ahead_us > horizon_us or free >= 1) and 'rate' or 'in_flight'
  -- Full, and nothing granted for a while: its calls hang, and who asks at once again only costs the others time.
  local look_max_us = (first or its_turn) and FIRST_SLOT_LOOK_MAX_US or SLOT_LOOK_MAX_US
  local full_us = math.min(look_max_us, math.max(SLOT_LOOK_US, (now_us - granted_us) / 2))
  local soonest_us = math.max(ahead_us, free < 1 and full_us or 0)
  -- Slots come free as slowly as they have lately, and who stands far back in the line need not look before.
  local in_line = free < 1 and not first and not its_turn
  if in_line then queue_us = math.max(queue_us, (now_us - granted_us) / most) end
  if yields then
    local comes_us = figure(other) - GRACE_US
    if not first then comes_us = math.min(comes_us, figure('behind_since') + BULK_TURN_US) end
    soonest_us = math.max(soonest_us, comes_us - now_us)
  end
  -- Half a second before the horizon reaches its turn is early enough that the platform never idles.
  local early_us = horizon_us - HORIZON_US / 2
  if why == 'in_flight' and (first or its_turn) then early_us = 0 end
  local answer = refuse(why, soonest_us, early_us, in_line and math.max(soonest_us, SLOT_LINE_MAX_US) or nil)
  if first or its_turn then
    local own = first and 'first_until' or 'bulk_until'
    put(own, whole(math.max(figure(own), now_us + answer[2] * 1000 + GRACE_US)))
    if not gate.behind_since then put('behind_since', whole(now_us)) end
    save_gate(KEYS[4])
  end
  return answer
end
-- The first call starts within the horizon, the last within a second more: a batch is sized to about a second of its
-- platform, so it is granted whole instead of in splinters.
local granted = math.min(calls, math.floor((horizon_us + HORIZON_US - ahead_us) / step_us) + 1)
if quota then
  granted = math.min(granted, math.floor((quota - used) / each))
  redis.call('HSET', KEYS[6], 'day', whole(day), 'used', whole(used + granted * each))
  redis.call('EXPIRE', KEYS[6], ARGV[15])
end
local slots = math.min(granted, free)
local until_us = next_us + granted * step_us
-- A platform that is called once an hour must be remembered for an hour.
local ttl_ms = math.max(tonumber(ARGV[7]) * 1000, math.ceil((until_us - now_us) / 1000))
redis.call('SET', KEYS[1], whole(until_us), 'PX', whole(ttl_ms))
-- The lease counts on a first call within a second.
local leases, lease_ms = {}, (now_us + math.max(0, ahead_us - HORIZON_US)) / 1000 + tonumber(ARGV[5])
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
end
if first then
  if not gate.behind_since then put('behind_since', whole(now_us)) end
  -- What the note was for has come, unless another one is on its way.
  if gate.first_until and redis.call('ZCOUNT', KEYS[5], '-inf', figure('first_until') / 1000) == 0 then
    put('first_until', nil)
  end
elseif gate.behind_since then
  put('behind_since', nil)
  put('bulk_until', nil)
end
save_gate(KEYS[4])
local answer = {granted, slots, math.ceil(ahead_us), string.format('%.17g', per_s), figure('epoch'), state(), day}
if state() ~= now_state then
  for _, word in ipairs({now_state, state(), gate.reason or ''}) do answer[#answer + 1] = word end
end
return answer
