-- Tells every process that a reader was disconnected, and keeps it. KEYS: d. ARGV: channel, reader, before, keep (ms);
-- without a reader: gives all that are kept.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
if ARGV[3] then
  redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[4])), ARGV[3] .. ' ' .. ARGV[2])
  redis.call('PUBLISH', ARGV[1], 'D ' .. ARGV[3] .. '\n' .. ARGV[2])
  return {'DONE'}
end
return redis.call('ZRANGE', KEYS[1], '0', '-1')
