-- How far streams have come. KEYS: m, l, r of each. ARGV: for each "1" where it is read, and so must stay.
local all = {}
for at = 1, #ARGV do
  local m, l, r = KEYS[3 * at - 2], KEYS[3 * at - 1], KEYS[3 * at]
  local got = redis.call('HMGET', m, 'e', 'n', 'v', 'r', 'x', 'o6')
  if got[1] then
    all[at] = (got[4] == '1' and 'R ' or 'T ') .. got[1] .. ' ' .. got[2] .. ' ' .. got[3] .. ' '
      .. (redis.call('HGET', r, '') or '0')
    if ARGV[at] == '1' then
      if got[4] ~= '1' and got[5] ~= '1' then expire(false, '0', got[6], {m, l}, true) end
      redis.call('PEXPIRE', r, '86400000')
    end
  else
    all[at] = 'G'
  end
end
return all
