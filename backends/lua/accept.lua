-- Records a chunk of cases, each once.
-- KEYS: 1 run hash · 2 run-cases sorted set · then 4 a case: case hash, jobs hash, token set, reference set
-- ARGV: 1 run id · 2 fields a case (n) · 3 bytes of a record · then a case: case id, line, jobs wanted, name of the list
--   of wanted platforms, n fields as name and value (2n)
-- returns: a list, one entry a case: 0 new · 1 known but not yet queued · 2 known · 3 this very row, known and
--   queued; and after them the run that owns each case
local run, width, record_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local answers, owners = {}, {}
local accepted, jobs = 0, 0
local at = 4
for i = 3, #KEYS, 4 do
  local id, line, wanted, list = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 3]
  at = at + 4
  local known = redis.call('HMGET', KEYS[i], 'run', 'line', 'unqueued')
  if not known[1] then
    local fields = {'run', run, 'line', line, 'unqueued', '1'}
    for j = at, at + 2 * width - 1 do fields[#fields + 1] = ARGV[j] end
    redis.call('HSET', KEYS[i], unpack(fields))
    -- Whole from the start: a record is then written in its place, and the string never grows.
    redis.call('SET', KEYS[i + 1], struct.pack('>I2I2', wanted, 0) .. run .. list .. string.rep('\0', wanted * record_bytes))
    redis.call('SADD', KEYS[i + 2], id)
    if KEYS[i + 3] ~= '' then redis.call('SADD', KEYS[i + 3], id) end
    accepted, jobs = accepted + 1, jobs + wanted
    answers[#answers + 1] = 0
    owners[#owners + 1] = run
  else
    owners[#owners + 1] = known[1]
    if known[3] then
      answers[#answers + 1] = 1
    elseif known[1] == run and known[2] == line then
      answers[#answers + 1] = 3
    else
      answers[#answers + 1] = 2
    end
  end
  -- The first line that names a case keeps it, so that a second reading of the file changes nothing.
  redis.call('ZADD', KEYS[2], 'NX', line, id)
  at = at + 2 * width
end
if accepted > 0 then
  redis.call('HINCRBY', KEYS[1], 'accepted', accepted)
  redis.call('HINCRBY', KEYS[1], 'jobs', jobs)
end
return {answers, owners}
