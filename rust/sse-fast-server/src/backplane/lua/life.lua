-- What the scripts share: it stands before each of them.
--
-- A stream is a hash m (its meta) and a Redis stream l (its log), whose entries have our own ids: <epoch>-<position>.
-- Fields of m: e epoch, n newest position, v version (counts every other change), b an upper bound of the log's bytes,
-- f the fence its life began under, x "1" once ended, r "1" once removed, s/se/sn the snapshot's data, name and position,
-- o1 to o7 the options (history, history_bytes, start, ids, linger ms, expire ms or "", private).
-- Either may have been evicted: without m the stream does not exist, and a log that was left is deleted when it is made;
-- without l its events are gone, and its numbers go on.
local SLACK = 30000      -- Kept so much longer than asked, so that a comparison every ten seconds keeps what is read.
local OPTIONS = {'o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7'}

local function text(number) return string.format('%.0f', number) end

-- How long the keys of a stream stay. Those of an open one without `expire` stay.
local function expire(ended, linger, after, keys)
  local ms = nil
  if ended then ms = tonumber(linger) + SLACK elseif after and after ~= '' then ms = tonumber(after) + SLACK end
  if ms then
    for _, key in ipairs(keys) do redis.call('PEXPIRE', key, text(ms)) end
  end
end

-- Begins a life: the log is empty, and its epoch greater than the last. `options` are put in force where given.
local function begin(m, l, old, fence, epoch, options)
  epoch = tonumber(epoch)
  if old.e and tonumber(old.e) >= epoch then epoch = tonumber(old.e) + 1 end
  local version = (tonumber(old.v or '0') or 0) + 1
  redis.call('DEL', l)
  redis.call('HDEL', m, 's', 'se', 'sn', 'x', 'r')
  redis.call('HSET', m, 'e', text(epoch), 'n', '0', 'v', text(version), 'b', '0', 'f', fence)
  redis.call('PERSIST', m)
  if options then
    for at, field in ipairs(OPTIONS) do redis.call('HSET', m, field, options[at]) end
  end
  return epoch, version
end
