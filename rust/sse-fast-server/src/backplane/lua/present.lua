-- How many readers a process has. KEYS: r, m, l. ARGV: channel, process, readers ("" = none).
local r, m, l = KEYS[1], KEYS[2], KEYS[3]
local before = is_read(r)
local changed
if ARGV[3] == '' then
  changed = redis.call('HDEL', r, ARGV[2]) == 1
else
  changed = redis.call('HGET', r, ARGV[2]) ~= ARGV[3]
  if changed then
    -- First, because a server without memory refuses a script whose first write takes some.
    redis.call('HDEL', r, ARGV[2])
    redis.call('HSET', r, ARGV[2], ARGV[3])
  end
end
if changed then
  local read = is_read(r)
  if read ~= before then
    local got = redis.call('HMGET', m, 'e', 'x', 'r', 'o6')
    if got[1] and got[2] ~= '1' and got[3] ~= '1' then expire(false, '0', got[4], {m, l}, read) end
  end
  -- The field "" is when it last changed, in microseconds, and always greater than before: it never says the same of
  -- two states, also where the server lost one.
  local time = redis.call('TIME')
  local last = tonumber(redis.call('HGET', r, '') or '0')
  local count = math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2]))
  redis.call('HSET', r, '', text(count))
  redis.call('PEXPIRE', r, '86400000')
  redis.call('PUBLISH', ARGV[1], 'P ' .. text(last) .. ' ' .. text(count) .. ' ' .. ARGV[2] .. '\n' .. ARGV[3])
end
return {'DONE'}
