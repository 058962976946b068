-- Forgets a name; that it was removed stays for a while. KEYS: m, l. ARGV: channel, how long (ms).
local m, l = KEYS[1], KEYS[2]
local got = redis.call('HMGET', m, 'e', 'n', 'v', 'r')
if not got[1] or got[4] == '1' then return {'NONE'} end
local version = tonumber(got[3]) + 1
-- First, because a server without memory refuses a script whose first write takes some.
redis.call('DEL', l)
redis.call('HSET', m, 'r', '1', 'v', text(version))
redis.call('HDEL', m, 's', 'se', 'sn', 'x')
redis.call('PEXPIRE', m, ARGV[2])
redis.call('PUBLISH', ARGV[1], 'R ' .. got[1] .. ' ' .. got[2] .. ' ' .. text(version) .. '\n')
return {'GONE', got[1], got[2], text(version)}
