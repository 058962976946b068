-- Tries each command of the other scripts on keys of its own, which are gone after it.
-- KEYS: a hash, a stream, a sorted set, a string. ARGV: a channel of its own.
-- Gives those that this user may not use, each with what the server says.
local h, s, z, t = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local refused = {}
for _, call in ipairs({
  {'TIME'}, {'PUBLISH', ARGV[1], '0'},
  {'HSET', h, 'a', '1'}, {'HGET', h, 'a'}, {'HMGET', h, 'a'}, {'HGETALL', h}, {'HEXISTS', h, 'a'}, {'HLEN', h},
  {'HDEL', h, 'b'}, {'PERSIST', h}, {'PTTL', h},
  {'XADD', s, '1-1', 'f', 'x'}, {'XRANGE', s, '-', '+'}, {'XREVRANGE', s, '+', '-'}, {'XTRIM', s, 'MAXLEN', '1'},
  {'ZADD', z, '1', 'a'}, {'ZREM', z, 'b'}, {'ZRANGE', z, '0', '-1'}, {'ZREMRANGEBYSCORE', z, '-inf', '0'},
  {'SET', t, '1', 'PX', '1000'}, {'GET', t},
  {'PEXPIRE', h, '1000'}, {'PEXPIRE', s, '1000'}, {'PEXPIRE', z, '1000'}, {'DEL', h, s, z, t},
}) do
  local answer = redis.pcall(unpack(call))
  if type(answer) == 'table' and answer.err then refused[#refused + 1] = string.lower(call[1]) .. ' ' .. answer.err end
end
return refused
