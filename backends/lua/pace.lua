-- Lets one caller go on at an even pace, with a burst: GCRA.
-- KEYS: 1 pace string
-- ARGV: 1 now, us, or '' for the server's clock · 2 step between two requests, us · 3 burst · 4 cost, 0 to look only
--   · 5 TTL, s
-- returns: {1 if it may go on, else 0, how many more may at once, us until the whole burst may, us until the next may}
local time = redis.call('TIME')
local now_us = tonumber(ARGV[1]) or time[1] * 1000000 + time[2]
local step_us, burst, cost = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local full_us = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now_us)
local may = (full_us - now_us) + step_us <= burst * step_us
if may and cost > 0 then
  full_us = full_us + step_us
  redis.call('SET', KEYS[1], string.format('%.0f', full_us), 'EX', ARGV[5])
end
local taken_us = full_us - now_us
local more = math.max(0, math.floor((burst * step_us - taken_us) / step_us))
return {may and 1 or 0, more, taken_us, math.max(0, taken_us + step_us - burst * step_us)}
