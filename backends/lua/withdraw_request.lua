-- Asks for the withdrawal of jobs, each once.
-- KEYS: 1 withdrawals · 2 withdrawals-due
-- ARGV: 1 now, ms · 2 JSON of a withdrawal as it begins · then the jobs
-- returns: how many of them were not asked for before
local new = 0
for i = 3, #ARGV do
  if redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[2]) == 1 then
    redis.call('ZADD', KEYS[2], ARGV[1], ARGV[i])
    new = new + 1
  end
end
return new
