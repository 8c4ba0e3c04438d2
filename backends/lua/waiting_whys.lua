-- Counts why batches wait; changes nothing. Their bodies are large, so they are read here and not sent.
-- KEYS: 1 waiting-batches
-- ARGV: batch ids
-- returns: {why, count …}
local counts, answer = {}, {}
for _, body in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do
  if body then
    local why = string.match(string.sub(body, 1, 40), '^{"why":"(%l+)"') or 'unreadable'
    counts[why] = (counts[why] or 0) + 1
  end
end
for why, count in pairs(counts) do
  answer[#answer + 1] = why
  answer[#answer + 1] = count
end
return answer
