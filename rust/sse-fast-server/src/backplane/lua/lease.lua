-- Renews a process's lease, or gives it back (0). KEYS: a. ARGV: process, lease (ms). Gives all that have one.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], text(now + tonumber(ARGV[2])), ARGV[1])
end
return redis.call('ZRANGE', KEYS[1], '0', '-1')
