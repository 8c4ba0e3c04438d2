-- Applies one result event: transition, roll-up of each case, counters, indexes. `schemas.record.merge` is its model.
-- KEYS: 1 seen · 2 platform hash · 3 dead sorted set · 4 disputes list · 5 orphans list · 6 custody · 7 custody-batches
--   · 8 custody-notes · 9 dead-groups hash · 10 accepted sorted set · 11 polls sorted set · 12 late list
--   · 13 paused sorted set · 14 totals · and where settled cases are told of, 15 outbox stream; those of the jobs are made
--   of prefixes, for there may be a thousand
-- ARGV: 1 run key prefix · 2 run · 3 platform · 4 TTL of seen, s · 5 event id · 6 attempt · 7 generation
--   · 8 started, s · 9 ended, s · 10 batch, whose custody ends, or '' · 11 dead-at key prefix · 12 trail key prefix
--   · 13 TTL of a trail, s · 14 what a trail says of the attempt: JSON fields · 15 codes of the states that a job must
--   be in to be changed, each between commas, or '' · 16 jobs key prefix · 17 details key prefix · 18 case key prefix
--   · 19 manifest that places are places of, or '' · 20 number of counters (c) · 2c names and increments, for run and
--   platform alike · then 4 for each result: state code, reason code, detail JSON or '', its cases: their ids without
--   anything between them, or '@' and places of the manifest, `start end` each, the end not among them
-- returns: {applied, unchanged, disputed, orphaned, case ids applied where ARGV 15 is given …}; {-1} if the event was
--   applied before
-- STATES (code → final, clean, rank, settles, unanswered), codes of some states and of the reason USER_ACTION, TRAIL_MAX,
-- CASE_SETTLED, ID_BYTES and RECORD_BYTES are put before this text by backends/store.py.
if ARGV[10] ~= '' then
  redis.call('ZREM', KEYS[6], ARGV[10])
  redis.call('HDEL', KEYS[7], ARGV[10])
  redis.call('HDEL', KEYS[8], ARGV[10])
end
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[4]) then return {-1} end
local prefix, event_run, platform = ARGV[1], ARGV[2], ARGV[3]
local attempt, generation = tonumber(ARGV[6]), tonumber(ARGV[7])
local started, ended = tonumber(ARGV[8]), tonumber(ARGV[9])
local allowed = ARGV[15]
local jobs_prefix, details_prefix, case_prefix, manifest = ARGV[16], ARGV[17], ARGV[18], ARGV[19]
local count = tonumber(ARGV[20])
local answer = {0, 0, 0, 0}
local applied, unchanged, disputed_now, orphaned = 0, 0, 0, 0
local by_run, by_platform = {}, {}

local function add(run, name, n)
  local counters = by_run[run]
  if not counters then counters = {}; by_run[run] = counters end
  counters[name] = (counters[name] or 0) + n
end

local function moved(run, from, to, n)
  if from then
    add(run, 'state:' .. from, -n)
    by_platform['state:' .. from] = (by_platform['state:' .. from] or 0) - n
  end
  add(run, 'state:' .. to, n)
  by_platform['state:' .. to] = (by_platform['state:' .. to] or 0) + n
end

local function verdict(open, exceptions)
  if open > 0 then return nil end
  if exceptions > 0 then return 'verdict:CLEAN_WITH_EXCEPTIONS' end
  return 'verdict:CLEAN'
end

-- Whether the change stands higher than what is known, and whether both stand equal.
local function compare(state, gen, tries, reason, new_state, new_gen, new_tries, new_reason)
  local a, b = STATES[state], STATES[new_state]
  if a.final or b.final then
    if a.final and b.final then return false, state == new_state and reason == new_reason end
    return b.final, false
  end
  if new_gen ~= gen then return new_gen > gen, false end
  if b.rank ~= a.rank then return b.rank > a.rank, false end
  if state == WAITING and new_tries ~= tries then return new_tries > tries, false end
  if new_reason ~= reason then return new_reason > reason, false end
  return false, true
end

-- A trail is kept of what is or was not plain: the great rest is answered once and needs none.
local function note(case, new_state, new_reason, said, known)
  local trail = ARGV[12] .. case .. '.' .. platform
  if STATES[new_state].final and not (known and redis.call('EXISTS', trail) == 1) then return end
  redis.call('RPUSH', trail, '{' .. ARGV[14] .. ',"state":' .. new_state .. ',"reason":' .. new_reason .. ',"said":'
    .. (said == '' and 'null' or said) .. '}')
  redis.call('LTRIM', trail, -TRAIL_MAX, -1)
  redis.call('EXPIRE', trail, ARGV[13])
end

-- Dead letters stand in three indexes: by time, by time within platform and reason, and as a count of each group.
local function unlist(job, reason)
  local group = platform .. ':' .. reason
  redis.call('ZREM', KEYS[3], job)
  if redis.call('ZREM', ARGV[11] .. group, job) == 1 and redis.call('HINCRBY', KEYS[9], group, -1) == 0 then
    redis.call('HDEL', KEYS[9], group)
  end
end

local function list(job, reason)
  local group = platform .. ':' .. reason
  redis.call('ZADD', KEYS[3], ended * 1000, job)
  if redis.call('ZADD', ARGV[11] .. group, ended * 1000, job) == 1 then redis.call('HINCRBY', KEYS[9], group, 1) end
end

-- Jobs whose answer is still to come: by when they were first sent, and by when to ask for it, which a worker decides.
-- The clock of those whose owner has to act stands still: their time is not told by when they were sent.
local function expect(job, first, newly, paused)
  redis.call('ZADD', paused and KEYS[13] or KEYS[10], (first > 0 and first or ended) * 1000, job)
  if paused then redis.call('ZREM', KEYS[10], job) end
  if newly then redis.call('ZADD', KEYS[11], 0, job) end
end

local function expect_no_more(job)
  redis.call('ZREM', KEYS[10], job)
  redis.call('ZREM', KEYS[11], job)
  redis.call('ZREM', KEYS[13], job)
end

local UNTRIED = string.rep('\0', RECORD_BYTES)
local ROLL_BYTES = 4
local sheets = {}

-- What is known of a manifest's jobs at this platform, and of its cases: read once, changed here, written once.
local function sheet_of(name)
  local sheet = sheets[name]
  if sheet == nil then
    local found = redis.call('HMGET', jobs_prefix .. name, '@', '#', platform)
    sheet = found[1] and {
      key = jobs_prefix .. name, run = string.sub(found[1], 1, ID_BYTES), rolls = found[2],
      column = found[3] or string.rep(UNTRIED, #found[2] / ROLL_BYTES),
      new_records = {}, new_rolls = {}, turns = {},
    }
    sheets[name] = sheet
  end
  return sheet
end

local function case_at(sheet, place)
  sheet.ids = sheet.ids or redis.call('HGET', sheet.key, '$')
  return string.sub(sheet.ids, place * ID_BYTES + 1, (place + 1) * ID_BYTES)
end

-- Says that a case has a verdict, or after a contradiction another one.
local function tell(sheet, place, after)
  if not KEYS[15] then return end
  redis.call('XADD', KEYS[15], '*', 'type', CASE_SETTLED, 'data', '{"case":"' .. case_at(sheet, place) .. '","run":"'
    .. sheet.run .. '","verdict":"' .. string.sub(after, 9) .. '"}')
end

-- Counts a case's job as closed or as an exception. Nearly all cases turn in the same few ways: each is found once.
local function turn(sheet, place, closes, excepts)
  if not closes and not excepts then return end
  local roll = sheet.new_rolls[place] or string.sub(sheet.rolls, place * ROLL_BYTES + 1, (place + 1) * ROLL_BYTES)
  local name = (closes and 'c' or '') .. (excepts and 'e' or '') .. roll
  local turned = sheet.turns[name]
  if not turned then
    local open, exceptions = struct.unpack('>I2I2', roll)
    turned = {before = verdict(open, exceptions)}
    if closes then open = open - 1 end
    if excepts then exceptions = exceptions + 1 end
    turned.roll, turned.after = struct.pack('>I2I2', open, exceptions), verdict(open, exceptions)
    sheet.turns[name] = turned
  end
  sheet.new_rolls[place] = turned.roll
  if turned.before ~= turned.after then
    if turned.before then add(sheet.run, turned.before, -1) end
    add(sheet.run, turned.after, 1)
    tell(sheet, place, turned.after)
  end
end

local function settle(sheet, place, case, new_state, new_reason, detail)
  local old = sheet.new_records[place] or string.sub(sheet.column, place * RECORD_BYTES + 1, (place + 1) * RECORD_BYTES)
  if old == UNTRIED then old = nil end
  local code = old and string.byte(old) % 128 or QUEUED
  if allowed ~= '' and not string.find(allowed, ',' .. code .. ',', 1, true) then
    unchanged = unchanged + 1
    return
  end
  local run = sheet.run
  local state, reason, tries, gen, first, settled, disputed = QUEUED, 0, 0, 0, 0, 0, false
  if old then
    state, reason, tries, gen, first, settled = struct.unpack('>BBBBI4I4', old)
    disputed = state >= 128
    state = code
  end
  note(case, new_state, new_reason, detail, old)
  local new_settled = STATES[new_state].settles and ended or 0
  local higher, equal = compare(state, gen, tries, reason, new_state, generation, attempt, new_reason)
  local both_final = STATES[state].final and STATES[new_state].final and not equal
  local contradicts = both_final and STATES[state].unanswered == STATES[new_state].unanswered
  local was_open, was_exception = not STATES[state].final, (STATES[state].final and not STATES[state].clean) or disputed
  local from = old and state or nil
  if both_final and (contradicts or STATES[state].unanswered) then
    redis.call('RPUSH', contradicts and KEYS[4] or KEYS[12], cjson.encode({case = case, platform = platform, event = ARGV[5], at = ended,
      kept = state, kept_reason = reason, other = new_state, other_reason = new_reason}))
    if contradicts then disputed, disputed_now = true, disputed_now + 1 end
  end
  if equal and detail ~= '' then
    -- Heard twice in other words (an attempt that ran twice): which words stay must not depend on the order.
    local kept = redis.call('HGET', details_prefix .. case, platform)
    if not kept or redis.sha1hex(detail) < redis.sha1hex(kept) then
      redis.call('HSET', details_prefix .. case, platform, detail)
    end
  end
  if higher and state == DEAD then unlist(case .. '.' .. platform, reason) end
  if higher then
    state, reason, settled = new_state, new_reason, new_settled
  elseif equal and new_settled < settled then
    settled = new_settled
  end
  if started > 0 and (first == 0 or started < first) then first = started end
  tries, gen = math.min(255, math.max(tries, attempt)), math.max(gen, generation)
  local new = struct.pack('>BBBBI4I4', disputed and state + 128 or state, reason, tries, gen, first, settled)
  if new == old then
    unchanged = unchanged + 1
    return
  end
  local is_open, is_exception = not STATES[state].final, (STATES[state].final and not STATES[state].clean) or disputed
  sheet.new_records[place] = new
  turn(sheet, place, was_open and not is_open, is_exception and not was_exception)
  if from ~= state then moved(run, from, state, 1) end
  if state == ACCEPTED then
    expect(case .. '.' .. platform, first, from ~= ACCEPTED, reason == USER_ACTION)
  elseif from == ACCEPTED then
    expect_no_more(case .. '.' .. platform)
  end
  if not higher then
    unchanged = unchanged + 1
    return
  end
  applied = applied + 1
  if detail ~= '' then
    redis.call('HSET', details_prefix .. case, platform, detail)
  elseif from and not STATES[from].final then
    redis.call('HDEL', details_prefix .. case, platform)
  end
  if state == DEAD then list(case .. '.' .. platform, reason) end
  if allowed ~= '' then answer[#answer + 1] = case end
end

local function orphan(case, place, state)
  orphaned = orphaned + 1
  redis.call('RPUSH', KEYS[5], cjson.encode({case = case, manifest = not case and manifest or nil, place = place,
    platform = platform, event = ARGV[5], state = state}))
end

-- Jobs that nobody has tried, and that end with nothing to be said of them, are nearly all: their records are alike.
local function settle_span(sheet, first, last, state, reason, detail)
  local rule = STATES[state]
  local plain = detail == '' and rule.final and allowed == ''
  local fresh = plain and struct.pack('>BBBBI4I4', state, reason, math.min(255, attempt), generation, started,
    rule.settles and ended or 0)
  local count = 0
  for place = first, last - 1 do
    if plain and not sheet.new_records[place]
      and string.sub(sheet.column, place * RECORD_BYTES + 1, (place + 1) * RECORD_BYTES) == UNTRIED then
      sheet.new_records[place] = fresh
      turn(sheet, place, true, not rule.clean)
      count = count + 1
    else
      settle(sheet, place, case_at(sheet, place), state, reason, detail)
    end
  end
  if count > 0 then
    applied = applied + count
    moved(sheet.run, nil, state, count)
  end
end

for i = 21 + 2 * count, #ARGV, 4 do
  local state, reason, detail, cases = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  if string.sub(cases, 1, 1) == '@' then
    local sheet = sheet_of(manifest)
    for first, last in string.gmatch(cases, '(%d+) (%d+)') do
      if sheet then
        settle_span(sheet, tonumber(first), tonumber(last), state, reason, detail)
      else
        for place = tonumber(first), last - 1 do orphan(nil, place, state) end
      end
    end
  else
    for at = 1, #cases, ID_BYTES do
      local case = string.sub(cases, at, at + ID_BYTES - 1)
      local found = redis.call('HMGET', case_prefix .. case, 'manifest', 'place')
      local sheet = found[1] and sheet_of(found[1])
      if sheet then
        settle(sheet, tonumber(found[2]), case, state, reason, detail)
      else
        orphan(case, nil, state)
      end
    end
  end
end

local function patched(text, width, changes)
  local places = {}
  for place in pairs(changes) do places[#places + 1] = place end
  table.sort(places)
  local pieces, at = {}, 1
  for _, place in ipairs(places) do
    local from = place * width + 1
    if at < from then pieces[#pieces + 1] = string.sub(text, at, from - 1) end
    pieces[#pieces + 1] = changes[place]
    at = from + width
  end
  pieces[#pieces + 1] = string.sub(text, at)
  return table.concat(pieces)
end

for _, sheet in pairs(sheets) do
  if sheet and next(sheet.new_records) then
    redis.call('HSET', sheet.key, platform, patched(sheet.column, RECORD_BYTES, sheet.new_records),
      '#', patched(sheet.rolls, ROLL_BYTES, sheet.new_rolls))
  end
end

for j = 21, 20 + 2 * count, 2 do
  add(event_run, ARGV[j], tonumber(ARGV[j + 1]))
  by_platform[ARGV[j]] = (by_platform[ARGV[j]] or 0) + tonumber(ARGV[j + 1])
end
local totals = {}
for run, counters in pairs(by_run) do
  for name, n in pairs(counters) do
    if n ~= 0 then redis.call('HINCRBY', prefix .. run, name, n) end
    if string.find(name, '^state:') or string.find(name, '^verdict:') then totals[name] = (totals[name] or 0) + n end
  end
end
for name, n in pairs(totals) do
  if n ~= 0 then redis.call('HINCRBY', KEYS[14], name, n) end
end
for name, n in pairs(by_platform) do
  if n ~= 0 then redis.call('HINCRBY', KEYS[2], name, n) end
end
answer[1], answer[2], answer[3], answer[4] = applied, unchanged, disputed_now, orphaned
return answer
