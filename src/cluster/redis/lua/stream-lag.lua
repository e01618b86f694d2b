-- KEYS: stream. ARGV: group. Returns how many entries wait for the group, and the id of the oldest of them.
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
