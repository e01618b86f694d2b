-- KEYS: due. ARGV: prefix, mark, call id, user ids. Returns version and JSON of each call there is.
local userIds = {}
for at = 4, #ARGV do userIds[#userIds + 1] = ARGV[at] end
local found = {}
for _, id in ipairs(collect(ARGV[1], ARGV[3], userIds)) do
  local call = redis.call('HMGET', ARGV[1] .. 'call:' .. id, 'version', 'json')
  if call[1] then
    found[#found + 1] = call[1]
    found[#found + 1] = call[2]
  end
end
return found
