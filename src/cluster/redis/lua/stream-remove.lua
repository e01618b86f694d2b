-- Takes away what every group of the stream has done with: another installation may read the same one.
-- KEYS: stream. ARGV: group, ids.
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
