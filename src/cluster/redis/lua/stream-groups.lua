-- Shared: the stream's groups, each as a table by name of field, none where there is no stream; the oldest entry that a
-- group has read and not done with, and the first that it has not read, or nothing; and which of two ids is the older.
local function readGroups(stream)
  local groups = redis.pcall('xinfo', 'groups', stream)
  if groups.err then return {} end
  for at, group in ipairs(groups) do
    local fields = {}
    for field = 1, #group, 2 do fields[group[field]] = group[field + 1] end
    groups[at] = fields
  end
  return groups
end
local function oldestPending(stream, group)
  return group.pending > 0 and redis.call('xpending', stream, group.name)[2] or nil
end
local function firstUnread(stream, group)
  local entry = redis.call('xrange', stream, '(' .. group['last-delivered-id'], '+', 'count', 1)[1]
  return entry and entry[1]
end
local function isBefore(id, other)
  local ms, number = string.match(id, '(%d+)-(%d+)')
  local otherMs, otherNumber = string.match(other, '(%d+)-(%d+)')
  if ms ~= otherMs then return tonumber(ms) < tonumber(otherMs) end
  return tonumber(number) < tonumber(otherNumber)
end
