-- Makes batches due now, but not those that a scheduler has under a lease.
-- KEYS: 1 waiting · 2 waiting-leases · then waiting-at of each batch's platform
-- ARGV: 1 now, ms · then the batch ids
-- returns: for each batch 1 if it is due now, 0 if it is leased, -1 if it does not wait any more
local now = tonumber(ARGV[1])
local answer = {}
for i = 3, #KEYS do
  local id = ARGV[i - 1]
  local score = redis.call('ZSCORE', KEYS[1], id)
  if not score then
    answer[#answer + 1] = -1
  elseif redis.call('HEXISTS', KEYS[2], id) == 1 and tonumber(score) > now then
    answer[#answer + 1] = 0
  else
    redis.call('ZADD', KEYS[1], now, id)
    redis.call('ZADD', KEYS[i], now, id)
    answer[#answer + 1] = 1
  end
end
return answer
