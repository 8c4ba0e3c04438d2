-- Takes withdrawals that are due; nobody else sees them until the given time, unless who took them says otherwise.
-- KEYS: 1 withdrawals-due
-- ARGV: 1 now, ms · 2 until when they are the caller's, ms · 3 at most so many
-- returns: the jobs
local jobs = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, job in ipairs(jobs) do redis.call('ZADD', KEYS[1], ARGV[2], job) end
return jobs
