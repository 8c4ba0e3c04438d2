-- Reads the records of jobs; those that nobody has tried are left out.
-- KEYS: none, for there may be a thousand: they are made of prefixes
-- ARGV: 1 case key prefix · 2 jobs key prefix · 3 job ids, each behind a line feed
-- returns: {place of the job among those asked for, record, place, record …}
-- RECORD_BYTES is put before this text by backends/store.py.
local untried = string.rep('\0', RECORD_BYTES)
local columns, answer, at = {}, {}, 0
for case, platform in string.gmatch(ARGV[3], '\n([^.]+)%.([^\n]+)') do
  local found = redis.call('HMGET', ARGV[1] .. case, 'manifest', 'place')
  if found[1] then
    local name = found[1] .. platform
    if columns[name] == nil then columns[name] = redis.call('HGET', ARGV[2] .. found[1], platform) end
    if columns[name] then
      local record = string.sub(columns[name], found[2] * RECORD_BYTES + 1, (found[2] + 1) * RECORD_BYTES)
      if record ~= untried then
        answer[#answer + 1] = at
        answer[#answer + 1] = record
      end
    end
  end
  at = at + 1
end
return answer
