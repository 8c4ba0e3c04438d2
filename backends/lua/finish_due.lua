-- Takes batches out of the waiting set after they were published, if the lease is still the caller's.
-- KEYS: 1 waiting · 2 waiting-batches · 3 waiting-leases · 4 waiting-first · then for each batch waiting-at and
--   waiting-first-at of its platform
-- ARGV: 1 fence · then the batch ids
-- returns: how many were taken out
local finished = 0
for i = 2, #ARGV do
  local id = ARGV[i]
  if redis.call('HGET', KEYS[3], id) == ARGV[1] then
    for _, index in ipairs({KEYS[1], KEYS[4], KEYS[2 * i + 1], KEYS[2 * i + 2]}) do redis.call('ZREM', index, id) end
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
    finished = finished + 1
  end
end
return finished
