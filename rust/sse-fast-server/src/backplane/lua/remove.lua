-- Forgets a name; that it was removed stays for a while. One that asks again, because it did not hear the answer, is answered
-- as it was: the next life is not what it asks to be removed.
-- KEYS: m, l, q (what was answered to each process last). ARGV: channel, how long (ms), process, call, how long answers are
--   kept (ms).
local m, l, q, process, call = KEYS[1], KEYS[2], KEYS[3], 'remove ' .. ARGV[3], tonumber(ARGV[4])
local last = redis.call('HGET', q, process)
if last then
  local number, epoch, newest, version = string.match(last, '^(%d+) (%d+) (%d+) (%d+)$')
  if tonumber(number) == call then return {'GONE', epoch, newest, version} end
  if tonumber(number) > call then return {'STALE'} end
end
local got = redis.call('HMGET', m, 'e', 'n', 'v', 'r')
if not got[1] or got[4] == '1' then return {'NONE'} end
local version = tonumber(got[3]) + 1
-- First, because a server without memory refuses a script whose first write takes some.
redis.call('DEL', l)
redis.call('HSET', m, 'r', '1', 'v', text(version))
redis.call('HDEL', m, 's', 'se', 'sn', 'x')
redis.call('PEXPIRE', m, ARGV[2])
local said = got[1] .. ' ' .. got[2] .. ' ' .. text(version)
redis.call('PUBLISH', ARGV[1], 'R ' .. said .. '\n')
answered(q, process, ARGV[4] .. ' ' .. said, ARGV[5])
return {'GONE', got[1], got[2], text(version)}
