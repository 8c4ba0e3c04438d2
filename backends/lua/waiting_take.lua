-- Leases batches by their names, due or not, but not those that a scheduler has under a lease.
-- KEYS: 1 waiting · 2 waiting-batches · 3 waiting-leases · 4 fence · 5 waiting-first
-- ARGV: 1 now, ms · 2 lease, ms · then the batch ids
-- returns: {fence, then for each batch its JSON, 0 if it is leased, -1 if it does not wait any more}
local now, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local fence = redis.call('INCR', KEYS[4])
local answer = {fence}
for i = 3, #ARGV do
  local id = ARGV[i]
  local score = redis.call('ZSCORE', KEYS[1], id)
  if not score then
    answer[#answer + 1] = -1
  elseif redis.call('HEXISTS', KEYS[3], id) == 1 and tonumber(score) > now then
    answer[#answer + 1] = 0
  else
    redis.call('ZADD', KEYS[1], now + lease, id)
    redis.call('ZADD', KEYS[5], 'XX', now + lease, id)
    redis.call('HSET', KEYS[3], id, fence)
    answer[#answer + 1] = redis.call('HGET', KEYS[2], id)
  end
end
return answer
