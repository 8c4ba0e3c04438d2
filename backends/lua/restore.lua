-- Puts a message that was not acknowledged back on its queue, unless it was acknowledged or put back meanwhile.
-- KEYS: 1 unacked · 2 unacked-index · 3 … queues
-- ARGV: 1 delivery tag · 2 claimed no later than this, seconds · 3 message · 4 RPUSH to be next, LPUSH to be last
-- returns: 1 if it was put back
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end
local claimed = redis.call('ZSCORE', KEYS[2], ARGV[1])
if claimed and tonumber(claimed) > tonumber(ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
for place = 3, #KEYS do redis.call(ARGV[4], KEYS[place], ARGV[3]) end
return 1
