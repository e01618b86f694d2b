-- KEYS: stream, turn. ARGV: token, turn ms, group, entries at most, bytes at most.
-- Returns {0}: another's turn, or {1, entries, id of the newest entry}. What was read before and not removed comes
-- first, from the oldest on, whichever node had read it; new entries come only where there is nothing of that. Where
-- there is nothing at all, what all groups have done with goes: it was kept for one that is gone since.
local stream, group, consumer = KEYS[1], ARGV[3], 'ws-service'
local holder = redis.call('get', KEYS[2])
if holder and holder ~= ARGV[1] then return {0} end
redis.call('set', KEYS[2], ARGV[1], 'px', ARGV[2])

local taken, bytes = {}, 0
local function isFull()
  return #taken >= tonumber(ARGV[4]) or bytes >= tonumber(ARGV[5])
end
local function keep(entries)
  for _, entry in ipairs(entries) do
    -- An entry that was deleted while it was pending has nothing to say any more.
    if type(entry) == 'table' and entry[2] then
      taken[#taken + 1] = entry
      for _, text in ipairs(entry[2]) do bytes = bytes + #text end
    elseif type(entry) == 'table' then
      redis.call('xack', stream, group, entry[1])
    end
  end
end

local function claim(from)
  return redis.pcall('xautoclaim', stream, group, consumer, '0', from, 'count', '16')
end
local claimed = claim('0-0')
if claimed.err then
  if not string.find(claimed.err, 'NOGROUP', 1, true) then return claimed end
  -- From the beginning: what was added before the first node came is published too.
  redis.call('xgroup', 'create', stream, group, '0', 'mkstream')
  claimed = claim('0-0')
end
keep(claimed[2])
while claimed[1] ~= '0-0' and not isFull() do
  claimed = claim(claimed[1])
  keep(claimed[2])
end

local last, length = '0-0', 0
if #taken == 0 then
  while not isFull() do
    local found = redis.call('xreadgroup', 'group', group, consumer, 'count', '16', 'streams', stream, '>')
    if not found then break end
    keep(found[1][2])
  end
end
if #taken == 0 then
  local info = redis.call('xinfo', 'stream', stream)
  for at = 1, #info, 2 do
    if info[at] == 'length' then length = info[at + 1] end
    if info[at] == 'last-generated-id' then last = info[at + 1] end
  end
  if length > 0 then
    local kept = '18446744073709551615-18446744073709551615'
    for _, group in ipairs(readGroups(stream)) do
      local wanted = oldestPending(stream, group) or firstUnread(stream, group)
      if wanted and isBefore(wanted, kept) then kept = wanted end
    end
    redis.call('xtrim', stream, 'minid', kept)
  end
end
return {1, taken, last}
