-- Makes batches due now, but not those that a scheduler has under a lease.
-- KEYS: 1 waiting · 2 waiting-leases · 3 waiting-first · then for each batch waiting-at and waiting-first-at of its
--   platform
-- ARGV: 1 now, ms · then the batch ids
-- returns: for each batch 1 if it is due now, 0 if it is leased, -1 if it does not wait any more
local now = tonumber(ARGV[1])
local answer = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local score = redis.call('ZSCORE', KEYS[1], id)
  if not score then
    answer[#answer + 1] = -1
  elseif redis.call('HEXISTS', KEYS[2], id) == 1 and tonumber(score) > now then
    answer[#answer + 1] = 0
  else
    -- Each index that has it; a bulk batch is in none of the interactive ones.
    for _, index in ipairs({KEYS[1], KEYS[3], KEYS[2 * i], KEYS[2 * i + 1]}) do
      redis.call('ZADD', index, 'XX', now, id)
    end
    answer[#answer + 1] = 1
  end
end
return answer
