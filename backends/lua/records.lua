-- Reads the records of jobs; those that nobody has tried are left out.
-- KEYS: none, for there may be a thousand: they are made of prefixes
-- ARGV: 1 jobs key prefix · 2 wanted key prefix · 3 bytes of a head · 4 bytes of a record · 5 job ids, each behind a line feed
-- returns: {place of the job among those asked for, record, place, record …}
local head_bytes, record_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local untried = string.rep('\0', record_bytes)
local places, answer, at = {}, {}, 0
for case, platform in string.gmatch(ARGV[5], '\n([^.]+)%.([^\n]+)') do
  local key = ARGV[1] .. case
  local list = redis.call('GETRANGE', key, head_bytes - 26, head_bytes - 1)
  if list ~= '' then
    local known = places[list]
    if not known then known = {}; places[list] = known end
    local place = known[platform]
    if place == nil then
      place = redis.call('HGET', ARGV[2] .. list, platform)
      known[platform] = place
    end
    if place then
      local from = head_bytes + place * record_bytes
      local record = redis.call('GETRANGE', key, from, from + record_bytes - 1)
      if record ~= untried then
        answer[#answer + 1] = at
        answer[#answer + 1] = record
      end
    end
  end
  at = at + 1
end
return answer
