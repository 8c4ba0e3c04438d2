-- Takes jobs that are due; nobody else sees them until the given time, unless who took them says otherwise.
-- KEYS: 1 sorted set of jobs by when they are due, ms
-- ARGV: 1 now, ms · 2 until when they are the caller's, ms · 3 at most so many
-- returns: each job, followed by when it was due, ms
local taken = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
for i = 1, #taken, 2 do redis.call('ZADD', KEYS[1], ARGV[2], taken[i]) end
return taken
