-- Reads a stream; makes it where it is to be made.
-- KEYS: m, l, r (who reads it, by process; the field "" says when that last changed).
-- ARGV: channel, fence, sure, epoch, make ("1" or ""), seven options for a new one, seven that were given ("-" = not),
--   an epoch that the life must be above (0 = any), then what is known: epoch, position, version.
-- Gives OK and everything; FENCE; NONE; or REMOVED with epoch, position, version.
local m, l, r = KEYS[1], KEYS[2], KEYS[3]
local channel, fence, sure, candidate, make = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5] == '1'
local above, from = tonumber(ARGV[20]), {tonumber(ARGV[21]), tonumber(ARGV[22]), tonumber(ARGV[23])}

local got = redis.call('HMGET', m, 'e', 'n', 'v', 'f', 'x', 'r', 'o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7')
local old = {e = got[1], v = got[3]}
local exists = got[1] and got[6] ~= '1'
local ended = got[5] == '1'
local epoch, newest, version = tonumber(got[1] or '0'), tonumber(got[2] or '0'), tonumber(got[3] or '0')
local options = {}
for at = 1, 7 do options[at] = got[6 + at] end
local made, begun = false, false

if not exists then
  if not make then
    if got[1] then return {'REMOVED', got[1], got[2], got[3]} end
    return {'NONE'}
  end
  for at = 1, 7 do
    options[at] = ARGV[5 + at]
    if ARGV[12 + at] ~= '-' then options[at] = ARGV[12 + at] end
  end
  epoch, version = begin(m, l, old, fence, candidate, options)
  newest, ended, made, begun = 0, false, true, true
else
  local changes = {}
  for at = 1, 7 do
    if ARGV[12 + at] ~= '-' and ARGV[12 + at] ~= options[at] then
      options[at] = ARGV[12 + at]
      changes[#changes + 1] = OPTIONS[at]
      changes[#changes + 1] = options[at]
    end
  end
  local differs = fence ~= '' and got[4] ~= fence and not ended
  if #changes > 0 and differs and not sure then return {'FENCE'} end
  if not ended and ((above > 0 and epoch <= above) or (#changes > 0 and differs)) then
    epoch, version = begin(m, l, old, fence, candidate, nil)
    begun = true
  end
  if #changes > 0 then
    version = version + 1
    redis.call('HSET', m, 'v', text(version), unpack(changes))
    redis.call('XTRIM', l, 'MAXLEN', options[1])
    if options[6] == '' and not ended then
      redis.call('PERSIST', m)
      redis.call('PERSIST', l)
    end
    if not begun then
      redis.call('PUBLISH', channel, 'O ' .. text(epoch) .. ' ' .. text(newest) .. ' ' .. text(version) .. '\n'
        .. table.concat(options, ' '))
    end
  end
  if #changes > 0 then expire(ended, options[5], options[6], {m, l}, is_read(r)) end
end
if begun then
  expire(false, options[5], options[6], {m, l}, is_read(r))
  redis.call('PUBLISH', channel, 'L ' .. text(epoch) .. ' ' .. text(newest) .. ' ' .. text(version) .. '\n')
end

local start = text(epoch) .. '-0'
if from[1] == epoch then start = '(' .. text(epoch) .. '-' .. text(from[2]) end
local entries = redis.call('XRANGE', l, start, '+')
local base = newest
if #entries > 0 then base = tonumber(string.match(entries[1][1], '-(%d+)$')) - 1 end
local events = {}
for at, entry in ipairs(entries) do events[at] = entry[2][2] end
local snapshot = {}
if from[1] ~= epoch or from[3] ~= version or base > from[2] then
  local saved = redis.call('HMGET', m, 'sn', 'se', 's')
  if saved[1] then snapshot = saved end
end
return {'OK', text(epoch), text(newest), text(version), made and '1' or '0', ended and '1' or '0',
  table.concat(options, ' '), text(base), events, snapshot, redis.call('HGETALL', r),
  redis.call('HGET', m, 'k') or '0', text(redis.call('PTTL', m))}
