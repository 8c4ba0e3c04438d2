-- Records the cases of a manifest, each once.
-- KEYS: 1 run hash · 2 run-cases sorted set · 3 manifest · 4 its jobs hash · 5 totals · then 3 a case: case hash, token
--   set, reference set
-- ARGV: 1 run id · 2 manifest id · 3 name of the list of wanted platforms · 4 how many these are · 5 fields a case (n)
--   · then a case, in the order of their places: case id, line, n fields as name and value (2n)
-- returns: a list, one entry a case: 0 new · 1 known but not yet queued · 2 known · 3 this very row, known and
--   queued; after them the run that owns each case; its manifest; its place there
local run, manifest, wanted, width = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local answers, owners, manifests, places = {}, {}, {}, {}
local accepted, place, ids = 0, 0, {}
local at = 6
for i = 6, #KEYS, 3 do
  local id, line = ARGV[at], ARGV[at + 1]
  at = at + 2
  local known = redis.call('HMGET', KEYS[i], 'run', 'line', 'unqueued', 'manifest', 'place')
  if not known[1] then
    known = {run, line, '1', manifest, place}
    local fields = {'run', run, 'line', line, 'unqueued', '1', 'manifest', manifest, 'place', place}
    for j = at, at + 2 * width - 1 do fields[#fields + 1] = ARGV[j] end
    redis.call('HSET', KEYS[i], unpack(fields))
    redis.call('SADD', KEYS[i + 1], id)
    if KEYS[i + 2] ~= '' then redis.call('SADD', KEYS[i + 2], id) end
    accepted = accepted + 1
    answers[#answers + 1] = 0
  elseif known[3] then
    answers[#answers + 1] = 1
  elseif known[1] == run and known[2] == line then
    answers[#answers + 1] = 3
  else
    answers[#answers + 1] = 2
  end
  owners[#owners + 1], manifests[#manifests + 1], places[#places + 1] = known[1], known[4], tonumber(known[5])
  -- The first line that names a case keeps it, so that a second reading of the file changes nothing.
  redis.call('ZADD', KEYS[2], 'NX', line, id)
  place = place + 1
  ids[place] = id
  at = at + 2 * width
end
if accepted > 0 then
  redis.call('HINCRBY', KEYS[1], 'accepted', accepted)
  redis.call('HINCRBY', KEYS[1], 'jobs', accepted * wanted)
  redis.call('HINCRBY', KEYS[5], 'cases', accepted)
  redis.call('HINCRBY', KEYS[5], 'jobs', accepted * wanted)
  redis.call('HSETNX', KEYS[4], '@', run .. ARGV[3])
  redis.call('HSETNX', KEYS[4], '#', string.rep(struct.pack('>I2I2', wanted, 0), place))
  redis.call('HSETNX', KEYS[4], '$', table.concat(ids))
elseif redis.call('EXISTS', KEYS[4]) == 0 then
  -- Every case of it is known by another manifest.
  redis.call('DEL', KEYS[3])
end
return {answers, owners, manifests, places}
