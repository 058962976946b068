-- Appends what several publishers have, in this order, in one step.
-- KEYS: m, l, q (what was answered to each process last), r, then the keys of the units that have one.
-- ARGV: channel, fence ("" = trusted), sure, epoch, process, call, seven options for a stream that is made,
--   how long answers are kept (ms), number of units, then for each unit: index of its key in KEYS (0 = none), hash of
--   its body, number of events, end, index of the event its snapshot comes with (0 = none; 1 where there are no events),
--   the snapshot's name ("" = that of the last) and data, the events.
-- Gives OK and one line for each unit, or FENCE or STALE: then nothing was written.
local m, l, q, r = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, fence, sure, candidate, process = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4], ARGV[5]
local call, keep, units = tonumber(ARGV[6]), ARGV[14], tonumber(ARGV[15])

local last = redis.call('HGET', q, process)
if last then
  local number, answer = string.match(last, '^(%d+) (.*)$')
  if tonumber(number) == call then return {'OK', answer} end
  if tonumber(number) > call then return {'STALE'} end
end

local got = redis.call('HMGET', m, 'e', 'n', 'v', 'b', 'f', 'x', 'r', 'se', 'o1', 'o2', 'o5', 'o6')
local old = {e = got[1], v = got[3]}
local exists = got[1] and got[7] ~= '1'
local epoch, newest, version, bytes = tonumber(got[1] or '0'), tonumber(got[2] or '0'), tonumber(got[3] or '0'), tonumber(got[4] or '0')
local ended = exists and got[6] == '1'
local name = got[8]
local history, most, linger, after = got[9], got[10], got[11], got[12]
-- Whether the life is one to append to; it is made so before the first event.
local ready = exists and (fence == '' or got[5] == fence)
local first_new, count, pushed, wrote, snapshot = nil, 0, {}, false, nil
local answers = {}
local at = 16

for unit = 1, units do
  local key, hash, events = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2])
  local ends, with = ARGV[at + 3] == '1', tonumber(ARGV[at + 4])
  local before = key > 0 and redis.call('GET', KEYS[key])
  local answer
  if before then
    local body, said = string.match(before, '^(%S+) (.*)$')
    answer = body == hash and ('A ' .. said) or 'C'
  elseif ended then
    answer = 'E'
  else
    if not ready then
      if exists and not sure then return {'FENCE'} end
      local options
      if not exists then
        options = {}
        for index = 1, 7 do options[index] = ARGV[6 + index] end
        history, most, linger, after = options[1], options[2], options[5], options[6]
        newest, bytes, name = 0, 0, false
      end
      epoch, version = begin(m, l, old, fence, candidate, options)
      ready, exists = true, true
    end
    wrote = true
    local first = newest + 1
    if events == 0 then first = newest end
    if with > 0 then
      if ARGV[at + 5] ~= '' then name = ARGV[at + 5] end
      local position = newest
      if events > 0 then position = newest + with end
      snapshot = {position, name or 'snapshot', ARGV[at + 6]}
    end
    for index = 1, events do
      local event = ARGV[at + 6 + index]
      newest = newest + 1
      redis.call('XADD', l, text(epoch) .. '-' .. text(newest), 'f', event)
      bytes = bytes + #event + 32
      first_new = first_new or newest
      count = count + 1
      pushed[count] = event
    end
    ended = ends
    local said = text(epoch) .. ' ' .. text(first)
    if key > 0 then redis.call('SET', KEYS[key], hash .. ' ' .. said, 'PX', keep) end
    answer = 'N ' .. said
  end
  answers[unit] = answer
  at = at + 7 + events
end

local answer = table.concat(answers, '\n')
if wrote then
  if count > 0 then
    redis.call('XTRIM', l, 'MAXLEN', history)
    if bytes > tonumber(most) then
      -- The bound counts what the trimming above has removed: count anew, and leave an eighth free where it bites.
      local kept, oldest = 0, newest
      for _, entry in ipairs(redis.call('XREVRANGE', l, '+', '-')) do
        local size = #entry[2][2] + 32
        local position = tonumber(string.match(entry[1], '-(%d+)$'))
        if kept + size > tonumber(most) then
          if kept > 0 then break end
        end
        kept = kept + size
        oldest = position
      end
      redis.call('XTRIM', l, 'MINID', text(epoch) .. '-' .. text(oldest))
      bytes = kept
    end
  end
  if snapshot then
    version = version + 1
    redis.call('HSET', m, 's', snapshot[3], 'se', snapshot[2], 'sn', text(snapshot[1]))
  end
  redis.call('HSET', m, 'n', text(newest), 'v', text(version), 'b', text(bytes))
  if ended then redis.call('HSET', m, 'x', '1') end
  expire(ended, linger, after, {m, l}, is_read(r))
  local parts = {table.concat({
    'E', text(epoch), text(newest), text(version), text(first_new or newest + 1), text(count), ended and '1' or '0',
    snapshot and text(snapshot[1]) or '-', snapshot and #snapshot[2] or 0}, ' '), '\n',
    snapshot and snapshot[2] or '', table.concat(pushed), snapshot and snapshot[3] or ''}
  redis.call('PUBLISH', channel, table.concat(parts))
  answered(q, process, text(call) .. ' ' .. answer, keep)
end
return {'OK', answer}
