-- Reads a few cases of a manifest at all their platforms, without sending those of its other cases.
-- KEYS: 1 jobs hash
-- ARGV: places
-- returns: {field, value …} as HGETALL does, each value cut down to these places, in their order
-- RECORD_BYTES is put before this text by backends/store.py.
local answer = redis.call('HGETALL', KEYS[1])
for i = 1, #answer, 2 do
  local width = answer[i] == '#' and 4 or RECORD_BYTES
  if answer[i] == '$' then
    answer[i + 1] = ''
  elseif answer[i] ~= '@' then
    local parts = {}
    for j, place in ipairs(ARGV) do
      parts[j] = string.sub(answer[i + 1], place * width + 1, (place + 1) * width)
    end
    answer[i + 1] = table.concat(parts)
  end
end
return answer
