/** The steps on a stream that must not be torn apart: reading while it is one's turn, removing, giving up the turn. */
import { script } from "./commands.ts";

/**
 * The stream's groups, each as a table by name of field, none where there is no stream; the oldest entry that a group has
 * read and not done with, and the first that it has not read, or nothing; and which of two ids is the older.
 */
const groups = `
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
end`;

/**
 * KEYS: stream, turn. ARGV: token, turn ms, group, entries at most, bytes at most.
 * Answers {0}: another's turn, or {1, entries, id of the newest entry}. What was read before and not removed comes
 * first, from the oldest on, whoever had read it; new entries come only where there is nothing of that. Where there is
 * nothing at all, what all groups have done with goes: it was kept for one that is gone since.
 */
export const takeEntries = script(`${groups}
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
`);

/**
 * Takes away what every group of the stream has done with: another installation may read the same one.
 * KEYS: stream. ARGV: group, ids.
 */
export const removeEntries = script(`${groups}
redis.call('xack', KEYS[1], unpack(ARGV))
local others = {}
for _, group in ipairs(readGroups(KEYS[1])) do
  if group.name ~= ARGV[1] then others[#others + 1] = group end
end
local function isAwaited(id)
  for _, group in ipairs(others) do
    if isBefore(group['last-delivered-id'], id) then return true end
    if group.pending > 0 and #redis.call('xpending', KEYS[1], group.name, id, id, 1) > 0 then return true end
  end
  return false
end
for at = 2, #ARGV do
  if not isAwaited(ARGV[at]) then redis.call('xdel', KEYS[1], ARGV[at]) end
end
`);

/**
 * KEYS: stream. ARGV: group.
 * @returns how many entries wait for the group, and the id of the oldest of them
 */
export const readLag = script(`${groups}
local stream = KEYS[1]
local length = redis.call('xlen', stream)
for _, group in ipairs(readGroups(stream)) do
  if group.name == ARGV[1] then
    local unread = firstUnread(stream, group)
    -- Before Redis 7, or where an entry was deleted that it had not read, what others still wait for may count as well.
    local after = unread and (group.lag or length - group.pending) or 0
    return {group.pending + after, oldestPending(stream, group) or unread}
  end
end
local first = redis.call('xrange', stream, '-', '+', 'count', 1)[1]
return {length, first and first[1]}
`);

/** KEYS: turn. ARGV: token. */
export const releaseTurn = script(`
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end
return 0
`);
