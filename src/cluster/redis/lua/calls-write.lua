-- Writes where nothing has changed since it was read.
-- KEYS: due. ARGV: prefix, mark, JSON of {callId, userIds, versions: {id: version}, put, forget}, 1 where the same has
-- been asked before and the answer was lost.
-- Returns the new versions in the order of `put`; nil where something has changed.
local prefix, asked = ARGV[1], cjson.decode(ARGV[3])
local function writtenBefore()
  local versions = {}
  for _, call in ipairs(asked.put) do
    local there = redis.call('HMGET', prefix .. 'call:' .. call.callId, 'version', 'json')
    -- Where it says the same as what was read, only another version tells that it was written.
    if there[2] ~= call.json or there[1] == asked.versions[call.callId] then return false end
    versions[#versions + 1] = there[1]
  end
  for _, id in ipairs(asked.forget) do
    if redis.call('EXISTS', prefix .. 'call:' .. id) == 1 then return false end
  end
  return versions
end
local before = ARGV[4] == '1' and writtenBefore()
if before then return before end
local known = 0
for _ in pairs(asked.versions) do known = known + 1 end
for _, id in ipairs(collect(prefix, asked.callId, asked.userIds)) do
  local version = redis.call('HGET', prefix .. 'call:' .. id, 'version')
  if version then
    if asked.versions[id] ~= version then return false end
    known = known - 1
  end
end
if known ~= 0 then return false end
local versions = {}
for _, call in ipairs(asked.put) do
  local version = newVersion(prefix)
  put(prefix, KEYS[1], call, version)
  versions[#versions + 1] = version
end
for _, id in ipairs(asked.forget) do
  local users = redis.call('HMGET', prefix .. 'call:' .. id, 'caller', 'callee')
  for _, userId in ipairs(users) do
    if userId then redis.call('SREM', prefix .. 'user:' .. userId, id) end
  end
  redis.call('DEL', prefix .. 'call:' .. id)
  redis.call('ZREM', KEYS[1], id)
end
return versions
