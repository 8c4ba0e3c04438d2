-- A person's hand on the gate of one platform.
-- KEYS: 1 gate hash · 2 slots sorted set
-- ARGV: 1 now, us, or '' for the server's clock · 2 pause, resume, suspend, probe or limit · 3 pause: until, us, or 0;
--   limit: calls a second, or '' · 4 pause, suspend: reason; limit: in-flight slots, or ''
-- returns: {view before, view after}, each as `view` of gate.lua makes it
-- gate.lua is put before this text by backends/admission.py.
local now_us, verb = clock_us(ARGV[1]), ARGV[2]
load_gate(KEYS[1])
local before = view(KEYS[2], now_us)
if verb == 'pause' then
  put('pause_since', whole(now_us))
  put('pause_until', ARGV[3])
  put('pause_reason', ARGV[4])
elseif verb == 'resume' then
  for _, name in ipairs({'pause_since', 'pause_until', 'pause_reason'}) do put(name, nil) end
  if state() ~= 'flowing' and state() ~= 'ramping' then ramp('resumed', now_us) end
elseif verb == 'suspend' then
  suspend(ARGV[4], now_us)
elseif verb == 'probe' then
  if gate.probe_at then put('probe_at', whole(now_us)) end
elseif verb == 'limit' then
  put('limit_calls_per_s', ARGV[3] ~= '' and ARGV[3] or nil)
  put('limit_in_flight', ARGV[4] ~= '' and ARGV[4] or nil)
end
save_gate(KEYS[1])
return {before, view(KEYS[2], now_us)}
