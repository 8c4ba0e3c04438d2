-- Writes how far a replay is at one platform, if the lock is still the caller's; the lock then lasts longer.
-- KEYS: 1 replay-lock · 2 replay · 3 replay-sent
-- ARGV: 1 token · 2 TTL of the lock, s · 3 platform · 4 JSON of the progress · 5 JSON of what is out, or ''
-- returns: 1, or 0 if somebody else has the lock
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], 'at:' .. ARGV[3], ARGV[4])
if ARGV[5] == '' then
  redis.call('HDEL', KEYS[3], ARGV[3])
else
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[5])
end
return 1
