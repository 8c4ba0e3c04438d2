-- Takes batches out of the waiting set after they were published, if the lease is still the caller's.
-- KEYS: 1 waiting · 2 waiting-batches · 3 waiting-leases · then waiting-at of each batch's platform
-- ARGV: 1 fence · then the batch ids
-- returns: how many were taken out
local finished = 0
for i = 4, #KEYS do
  local id = ARGV[i - 2]
  if redis.call('HGET', KEYS[3], id) == ARGV[1] then
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZREM', KEYS[i], id)
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
    finished = finished + 1
  end
end
return finished
