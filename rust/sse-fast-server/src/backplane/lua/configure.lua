-- Puts options in force. KEYS: m, l, r. ARGV: channel, fence, sure, epoch, seven options ("-" = not given).
local m, l, r = KEYS[1], KEYS[2], KEYS[3]
local got = redis.call('HMGET', m, 'e', 'n', 'v', 'f', 'x', 'r', 'o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7')
if not got[1] or got[6] == '1' then return {'NONE'} end
local epoch, newest, version, ended = tonumber(got[1]), tonumber(got[2]), tonumber(got[3]), got[5] == '1'
local options, changes = {}, {}
for at = 1, 7 do
  options[at] = got[6 + at]
  if ARGV[4 + at] ~= '-' and ARGV[4 + at] ~= options[at] then
    options[at] = ARGV[4 + at]
    changes[#changes + 1] = OPTIONS[at]
    changes[#changes + 1] = options[at]
  end
end
if #changes == 0 then return {'DONE'} end
if ARGV[2] ~= '' and got[4] ~= ARGV[2] and not ended then
  if ARGV[3] ~= '1' then return {'FENCE'} end
  epoch, version = begin(m, l, {e = got[1], v = got[3]}, ARGV[2], ARGV[4], nil)
end
version = version + 1
redis.call('HSET', m, 'v', text(version), unpack(changes))
redis.call('XTRIM', l, 'MAXLEN', options[1])
if options[6] == '' and not ended then
  redis.call('PERSIST', m)
  redis.call('PERSIST', l)
end
expire(ended, options[5], options[6], {m, l}, is_read(r))
redis.call('PUBLISH', ARGV[1], 'O ' .. text(epoch) .. ' ' .. text(newest) .. ' ' .. text(version) .. '\n'
  .. table.concat(options, ' '))
return {'DONE'}
