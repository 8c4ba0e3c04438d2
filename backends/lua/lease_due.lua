-- Leases batches that are due: until the lease ends nobody else gets them.
-- KEYS: 1 waiting · 2 waiting-batches · 3 waiting-leases · 4 fence
-- ARGV: 1 now, ms · 2 lease, ms · 3 at most
-- returns: {fence, batch id, JSON, batch id, JSON, …}
local now, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])
if #due == 0 then return {0} end
local fence = redis.call('INCR', KEYS[4])
local answer = {fence}
for _, id in ipairs(due) do
  redis.call('ZADD', KEYS[1], now + lease, id)
  redis.call('HSET', KEYS[3], id, fence)
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call('HGET', KEYS[2], id)
end
return answer
