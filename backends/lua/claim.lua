-- Takes the next message off the first queue that has one, and in the same step records it as unacknowledged.
-- KEYS: 1 unacked · 2 unacked-index · 3 unreadable · 4 … queues, in the order in which they are asked
-- ARGV: for each queue its name, or '' if its messages need no acknowledgement
-- returns: {} · {place of the queue, message} · {place of the queue}: that was no message, unreadable has it now
for place = 1, #ARGV do
  -- Before any other write: a full server refuses a script whose first write needs memory, and could not be drained.
  local raw = redis.call('RPOP', KEYS[3 + place])
  if raw then
    local ok, message = pcall(cjson.decode, raw)
    local properties = ok and type(message) == 'table' and message.properties
    local tag = type(properties) == 'table' and properties.delivery_tag
    if type(tag) ~= 'string' then
      redis.call('LPUSH', KEYS[3], raw)
      return {place}
    end
    if ARGV[place] ~= '' then
      local now = redis.call('TIME')
      redis.call('ZADD', KEYS[2], string.format('%d.%06d', now[1], now[2]), tag)
      -- As kombu writes it: message, exchange, routing key. By the default exchange it goes back where it came from.
      redis.call('HSET', KEYS[1], tag, '[' .. raw .. ',"",' .. cjson.encode(ARGV[place]) .. ']')
    end
    return {place, raw}
  end
end
return {}
