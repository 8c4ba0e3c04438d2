-- Shows the gates of many platforms as they are at one moment; changes nothing.
-- KEYS: 2 a platform: gate hash, slots sorted set
-- ARGV: 1 now, us, or '' for the server's clock
-- returns: a view for each platform, as `view` of gate.lua makes it
-- gate.lua is put before this text by backends/admission.py.
local now_us, views = clock_us(ARGV[1]), {}
for i = 1, #KEYS, 2 do
  load_gate(KEYS[i])
  views[#views + 1] = view(KEYS[i + 1], now_us)
end
return views
