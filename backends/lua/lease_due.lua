-- Leases batches that are due, interactive ones first: until the lease ends nobody else gets them.
-- KEYS: 1 waiting · 2 waiting-batches · 3 waiting-leases · 4 fence · 5 waiting-first
-- ARGV: 1 now, ms · 2 lease, ms · 3 at most · 4 of them interactive ones at most, before those due longest are taken
--   · 5 1 to take interactive ones only, else 0
-- returns: {fence, batch id, JSON, batch id, JSON, …}
local now, lease, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, ARGV[4])
if ARGV[5] == '0' then
  local taken = {}
  for _, id in ipairs(due) do taken[id] = true end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])) do
    if not taken[id] and #due < most then due[#due + 1] = id end
  end
end
if #due == 0 then return {0} end
local fence = redis.call('INCR', KEYS[4])
local answer = {fence}
for _, id in ipairs(due) do
  redis.call('ZADD', KEYS[1], now + lease, id)
  redis.call('ZADD', KEYS[5], 'XX', now + lease, id)
  redis.call('HSET', KEYS[3], id, fence)
  answer[#answer + 1] = id
  answer[#answer + 1] = redis.call('HGET', KEYS[2], id)
end
return answer
