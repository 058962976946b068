-- How many readers a process has. KEYS: r. ARGV: channel, process, readers ("" = none).
local r = KEYS[1]
local changed
if ARGV[3] == '' then
  changed = redis.call('HDEL', r, ARGV[2]) == 1
else
  changed = redis.call('HGET', r, ARGV[2]) ~= ARGV[3]
  if changed then redis.call('HSET', r, ARGV[2], ARGV[3]) end
end
if changed then
  local count = redis.call('HINCRBY', r, '', 1)
  redis.call('PEXPIRE', r, '86400000')
  redis.call('PUBLISH', ARGV[1], 'P ' .. text(count) .. ' ' .. ARGV[2] .. '\n' .. ARGV[3])
end
return {'DONE'}
