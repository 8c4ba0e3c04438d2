-- Takes, or keeps, the right to send to a subscriber.
-- KEYS: 1 subscriber-lease
-- ARGV: 1 holder · 2 TTL, s
-- returns: 1 · 0 if another has it
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
