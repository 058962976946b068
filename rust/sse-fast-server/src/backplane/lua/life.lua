-- What the scripts share: it stands before each of them.
--
-- A stream is a hash m (its meta) and a Redis stream l (its log), whose entries have our own ids: <epoch>-<position>.
-- Fields of m: e epoch, n newest position, v version (counts every other change), b an upper bound of the log's bytes,
-- f the fence its life began under, k the newest position it had then, x "1" once ended, r "1" once removed, s/se/sn the snapshot's data, name and position,
-- o1 to o7 the options (history, history_bytes, start, ids, linger ms, expire ms or "", private).
-- Either may have been evicted: without m the stream does not exist, and a log that was left is deleted when it is made;
-- without l its events are gone, and its numbers go on.
local SLACK = 30000      -- What is read is kept so much longer than asked: a comparison every ten seconds keeps it.
local OPTIONS = {'o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7'}

local function text(number) return string.format('%.0f', number) end

-- Whether somebody reads a stream: r has a field for each process that does, and "" once anybody did.
local function is_read(r) return redis.call('HLEN', r) > redis.call('HEXISTS', r, '') end

-- How long the keys of a stream stay. Those of an open one without `expire` stay.
local function expire(ended, linger, after, keys, read)
  local ms = nil
  if ended then
    ms = tonumber(linger)
  elseif after and after ~= '' then
    ms = tonumber(after)
    if read then ms = ms + SLACK end
  end
  if ms then
    for _, key in ipairs(keys) do redis.call('PEXPIRE', key, text(ms)) end
  end
end

-- Notes what was answered to a process last, for so long (ms).
local function answered(q, process, answer, keep)
  if redis.call('HSET', q, process, answer) == 1 and redis.call('HLEN', q) > 256 then
    redis.call('DEL', q)
    redis.call('HSET', q, process, answer)
  end
  redis.call('PEXPIRE', q, keep)
end

-- The epoch of a life that follows `last`: see `later` of protocol.rs.
local function later(candidate, last)
  if candidate > last then return candidate end
  return last + 1 + candidate % 1048576
end

-- Begins a life, whose epoch is greater than the last. With `options` the stream is made: its log is empty. Without, it
-- lives on: its events and its snapshot keep their places under ids of the new life, so that no id means two events, and
-- what the server still has is there for who comes.
local function begin(m, l, old, fence, epoch, options)
  epoch = later(tonumber(epoch), tonumber(old.e or '0'))
  local version = (tonumber(old.v or '0') or 0) + 1
  local kept, newest = {}, '0'
  if not options then
    kept, newest = redis.call('XRANGE', l, old.e, old.e), redis.call('HGET', m, 'n')
  end
  -- First, so that a server without memory refuses it, and nothing is done.
  redis.call('HSET', m, 'e', text(epoch), 'v', text(version), 'f', fence, 'k', newest)
  redis.call('DEL', l)
  for _, entry in ipairs(kept) do
    redis.call('XADD', l, text(epoch) .. string.match(entry[1], '-%d+$'), 'f', entry[2][2])
  end
  redis.call('HDEL', m, 'x', 'r')
  redis.call('PERSIST', m)
  if options then
    redis.call('HDEL', m, 's', 'se', 'sn')
    redis.call('HSET', m, 'n', '0', 'b', '0')
    for at, field in ipairs(OPTIONS) do redis.call('HSET', m, field, options[at]) end
  end
  return epoch, version
end
