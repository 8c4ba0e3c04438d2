-- Gives the lock of a replay back; lets the replay sleep if there is nothing left to do and nobody has resumed it.
-- KEYS: 1 replay-lock · 2 replay · 3 replays-open
-- ARGV: 1 token · 2 replay · 3 '1' if there is nothing left to do · 4 round for which that was found
-- returns: 1, or 0 if somebody else has the lock
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[3] == '1' and redis.call('HGET', KEYS[2], 'round') == ARGV[4] then redis.call('SREM', KEYS[3], ARGV[2]) end
return 1
