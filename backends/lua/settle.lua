-- Gives leased slots back and tells the gate how the calls went.
-- KEYS: 1 slots sorted set · 2 gate hash · 3 rate string · 4 quota hash
-- ARGV: 1 now, us, or '' for the server's clock · 2 holder · 3 slots that were leased · 4 epoch of the permit · 5 calls
--   · 6 of them failed · 7 of them throttled · 8 mean latency, s · 9 what counts as slow, s, or 0 · 10 fault that suspends
--   the platform, or '' · 11 Retry-After, s, or 0 · 12 TTL of the rate string, s, at least
--   · 13 day on which its jobs were counted, or 0 · 14 jobs of calls that never left
-- returns: {} if the state is what it was, or {state before, state after, reason}
-- gate.lua is put before this text by backends/admission.py.
local now_us, holder = clock_us(ARGV[1]), ARGV[2]
local members = {}
for i = 1, tonumber(ARGV[3]) do members[i] = holder .. ':' .. i end
-- Settled before, or so late that the lease is over: what it says has been counted or is too old.
if redis.call('ZREM', KEYS[1], unpack(members)) == 0 then return {} end
if tonumber(ARGV[14]) > 0 and redis.call('HGET', KEYS[4], 'day') == ARGV[13] then
  redis.call('HINCRBY', KEYS[4], 'used', -tonumber(ARGV[14]))
end
load_gate(KEYS[2])
local calls, failed, throttled = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local counted, fault = calls - throttled, ARGV[10] ~= '' and ARGV[10] or nil
local before = state()

-- Down fast, but once for one burst of complaints; up slowly.
local function learn()
  local slow = tonumber(ARGV[9]) > 0 and calls > 0 and tonumber(ARGV[8]) > tonumber(ARGV[9])
  if throttled > 0 or slow then
    if gate.down_at and now_us - figure('down_at') < DOWN_EVERY_US then return end
    -- As far down as it complains: one 429 among many answers is a wink, nothing but 429 a shout.
    local factor = throttled > 0 and 1 - (1 - SHARE_THROTTLED) * throttled / calls or SHARE_SLOW
    put('share', math.max(SHARE_MIN, share() * factor))
    put('down_at', whole(now_us))
    put('up_at', whole(now_us))
  elseif share() < 1 and counted > failed and now_us - figure('up_at') >= UP_EVERY_US then
    put('share', math.min(1, share() + SHARE_UP))
    put('up_at', whole(now_us))
  end
end

local function hold_back()
  local hold_us = math.min(RETRY_AFTER_MAX_US, tonumber(ARGV[11]) * 1000000)
  if throttled == 0 or hold_us <= 0 then return end
  local until_us = math.max(tonumber(redis.call('GET', KEYS[3]) or 0), now_us + hold_us)
  local ttl_ms = math.max(tonumber(ARGV[12]) * 1000, math.ceil((until_us - now_us) / 1000))
  redis.call('SET', KEYS[3], whole(until_us), 'PX', whole(ttl_ms))
end

-- The probe's lease, taken off the list; false if this permit is no probe that is still out.
local function take_probe()
  local left, found = {}, false
  for _, lease in ipairs(probes_out(now_us)) do
    if lease[1] == holder then found = true else left[#left + 1] = lease end
  end
  if found then put_probes(left) end
  return found
end

local function settle_probe()
  local ill = before == 'suspended'
  if fault or failed > 0 then
    if not ill then
      if fault then suspend(fault, now_us) else trip('probe_failed', now_us) end
      return
    end
    put('tries', figure('tries') + 1)
    put('probe_at', whole(now_us + suspension_us()))
    if fault then put('reason', fault) end
  elseif counted > 0 then
    put('wins', figure('wins') + 1)
    if ill or figure('wins') >= PROBES then ramp('resumed', now_us) end
  elseif throttled > 0 and ill then
    put('probe_at', whole(now_us + suspension_us()))
  end
end

-- Adds to the newest bucket and forgets those that are too old. Returns the calls of the window and how many failed.
local function slide()
  local newest, parts, sum, sum_failed = math.floor(now_us / BUCKET_US), {}, counted, failed
  local own_calls, own_failed = counted, failed
  for bucket, n, bad in string.gmatch(gate.window or '', '(%d+) (%d+) (%d+)') do
    bucket, n, bad = tonumber(bucket), tonumber(n), tonumber(bad)
    if bucket == newest then
      own_calls, own_failed = own_calls + n, own_failed + bad
    elseif bucket > newest - BUCKETS then
      parts[#parts + 1] = string.format('%d %d %d', bucket, n, bad)
    end
    if bucket > newest - BUCKETS then sum, sum_failed = sum + n, sum_failed + bad end
  end
  parts[#parts + 1] = string.format('%d %d %d', newest, own_calls, own_failed)
  put('window', table.concat(parts, ' '))
  return sum, sum_failed
end

local function settle_ramp()
  put('step_calls', figure('step_calls') + counted)
  put('step_failed', figure('step_failed') + failed)
  local n = figure('step_calls')
  if n < STEP_CALLS then return end
  if figure('step_failed') >= n * FAILURE_RATE then return trip('ramp_failed', now_us) end
  if now_us - figure('step_at') < STEP_US then return end
  if figure('step') >= #RAMP then return enter('flowing', nil, now_us) end
  put('step', figure('step') + 1)
  put('step_at', whole(now_us))
  put('step_calls', nil)
  put('step_failed', nil)
end

local function settle_flow()
  if fault then return suspend(fault, now_us) end
  if counted == 0 then return end
  local streak = failed == counted and figure('streak') + failed or 0
  if streak > 0 then put('streak', streak) elseif gate.streak then put('streak', nil) end
  if streak >= STREAK then return trip('failures_in_a_row', now_us) end
  if before == 'ramping' then return settle_ramp() end
  local n, bad = slide()
  if n >= WINDOW_CALLS and bad >= n * FAILURE_RATE then trip('failure_rate', now_us) end
end

learn()
hold_back()
if take_probe() then
  settle_probe()
elseif before == 'suspended' then
  -- Sent before the suspension: a complaint is one more reason to wait, a success is none to go on.
  if fault then suspend(fault, now_us) end
elseif (before == 'flowing' or before == 'ramping') and tonumber(ARGV[4]) == figure('epoch') then
  settle_flow()
end
save_gate(KEYS[2])
if state() == before then return {} end
return {before, state(), gate.reason or ''}
