-- What the scripts of a platform's gate share; no script of its own. The figures of `Rules` are put before this text,
-- and this text before each of theirs, by backends/admission.py.
-- KEYS: none of its own · ARGV: none of its own
-- returns: nothing
-- A gate is one hash; what is not in it is at its usual, so a platform that was never in trouble has a short one:
--   state, reason, since, epoch                  · where it stands, why, since when, us; a number for each such change
--   probe_at, probes, wins, trips, tries         · broken and suspended: next probe; leases of those out; successes;
--                                                  trips in a row; probes of a suspension that failed
--   step, step_at, step_calls, step_failed       · ramping
--   window, streak                               · flowing: `bucket calls failed …`; calls failed in a row
--   share, down_at, up_at                        · the learned share of the rate
--   pause_since, pause_until, pause_reason       · a person's pause, over whatever the state is; until 0 is no end
--   limit_calls_per_s, limit_in_flight           · a person's limits
--   first_until, bulk_until                      · until then a batch of the one lane or the other is awaited, us
--   behind_since                                 · since when the bulk lane has had no leave while the other asked, us
local OF_ONE_STATE =
  {'probe_at', 'probes', 'wins', 'tries', 'step', 'step_at', 'step_calls', 'step_failed', 'window'}
local gate, changed = {}, {}

local function whole(us) return string.format('%.0f', us) end

local function clock_us(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function load_gate(key)
  gate, changed = {}, {}
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do gate[flat[i]] = flat[i + 1] end
end

local function figure(name) return tonumber(gate[name] or 0) end

local function put(name, value)
  if type(value) == 'number' then value = string.format('%.17g', value) end
  gate[name], changed[name] = value, value or false
end

local function save_gate(key)
  local set, gone = {}, {}
  for name, value in pairs(changed) do
    if value then
      set[#set + 1] = name
      set[#set + 1] = value
    else
      gone[#gone + 1] = name
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  if #set > 0 then redis.call('HSET', key, unpack(set)) end
end

local function state() return gate.state or 'flowing' end

local function paused(now_us)
  return gate.pause_since ~= nil and (figure('pause_until') == 0 or figure('pause_until') > now_us)
end

local function trips_now(now_us)
  if state() == 'flowing' and now_us - figure('since') >= FORGET_US then return 0 end
  return figure('trips')
end

-- A permit of an earlier epoch no longer says anything about the state: that is how a late answer undoes nothing.
local function enter(to, reason, now_us)
  if gate.trips and trips_now(now_us) == 0 then put('trips', nil) end
  if to == 'flowing' then
    put('state', nil)
    put('reason', nil)
  else
    put('state', to)
    put('reason', reason)
    put('epoch', figure('epoch') + 1)
    put('streak', nil)
  end
  put('since', whole(now_us))
  for _, name in ipairs(OF_ONE_STATE) do
    if gate[name] then put(name, nil) end
  end
end

local function trip(reason, now_us)
  local trips = trips_now(now_us) + 1
  enter('broken', reason, now_us)
  put('trips', trips)
  put('probe_at', whole(now_us + math.min(BROKEN_MAX_US, BROKEN_US * 2 ^ math.min(trips - 1, 20))))
end

local function suspension_us() return math.min(SUSPENDED_MAX_US, SUSPENDED_US * 2 ^ math.min(figure('tries'), 20)) end

local function suspend(reason, now_us)
  if state() == 'suspended' then
    put('reason', reason)
    put('probe_at', whole(math.max(figure('probe_at'), now_us + suspension_us())))
  else
    enter('suspended', reason, now_us)
    put('probe_at', whole(now_us + suspension_us()))
  end
end

local function ramp(reason, now_us)
  enter('ramping', reason, now_us)
  put('step', 1)
  put('step_at', whole(now_us))
end

-- The leases of probes that are out, as {holder, until}; those that are over are left out.
local function probes_out(now_us)
  local out = {}
  for holder, till in string.gmatch(gate.probes or '', '(%S+) (%S+)') do
    if tonumber(till) > now_us then out[#out + 1] = {holder, till} end
  end
  return out
end

local function put_probes(out)
  local parts = {}
  for i, lease in ipairs(out) do parts[i] = lease[1] .. ' ' .. lease[2] end
  put('probes', #parts > 0 and table.concat(parts, ' ') or nil)
end

local function share() return tonumber(gate.share or 1) end

-- What a person is shown: nine fields, '' where there is none.
local function view(slots, now_us)
  local held = paused(now_us)
  local ends = held and gate.pause_until or gate.probe_at
  return {
    held and 'paused' or state(),
    held and gate.pause_reason or gate.reason or '',
    held and gate.pause_since or gate.since or '',
    ends ~= '0' and ends or '',
    trips_now(now_us),
    string.format('%.17g', share()),
    gate.limit_calls_per_s or '',
    gate.limit_in_flight or '',
    redis.call('ZCOUNT', slots, string.format('(%.17g', now_us / 1000), '+inf'),
  }
end
