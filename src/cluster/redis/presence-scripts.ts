/** What Redis does with devices in one step; each script works on the keys of one bucket. */
import { script } from "./scripts.ts";

/** Takes a user off the list of a run of a node that has no device of the user's left. */
const disown = `
local function disown(devices, ownedPrefix, owner, userId)
  for _, text in ipairs(redis.call('HVALS', devices)) do
    if cjson.decode(text).owner == owner then return end
  end
  redis.call('SREM', ownedPrefix .. owner, userId)
end`;

/**
 * KEYS: the user's devices, counts. ARGV: device id, entry, most devices, owner, prefix of owners, user id.
 * @returns 1 (added) or 0, how many devices there were, the entry replaced
 */
export const addScript = script(`${disown}
local old = redis.call('HGET', KEYS[1], ARGV[1])
local size = redis.call('HLEN', KEYS[1])
if not old and size >= tonumber(ARGV[3]) then return {0, size} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('SADD', ARGV[5] .. ARGV[4], ARGV[6])
if old then
  disown(KEYS[1], ARGV[5], cjson.decode(old).owner, ARGV[6])
else
  redis.call('HINCRBY', KEYS[2], 'devices', 1)
  if size == 0 then redis.call('HINCRBY', KEYS[2], 'users', 1) end
end
return {1, size, old}
`);

/** KEYS: the user's devices. ARGV: device id, connection id, status. @returns 1 where the connection owned it */
export const updateScript = script(`
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then return 0 end
local entry = cjson.decode(text)
if entry.connectionId ~= ARGV[2] then return 0 end
entry.status = ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(entry))
return 1
`);

/**
 * KEYS: the user's devices, counts. ARGV: device id, connection id, prefix of owners, user id.
 * @returns `removed`, `other` (another connection's) or `missing`, and how many devices are left
 */
export const removeScript = script(`${disown}
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then return {'missing', redis.call('HLEN', KEYS[1])} end
local entry = cjson.decode(text)
if entry.connectionId ~= ARGV[2] then return {'other', redis.call('HLEN', KEYS[1])} end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[2], 'devices', -1)
local left = redis.call('HLEN', KEYS[1])
if left == 0 then redis.call('HINCRBY', KEYS[2], 'users', -1) end
disown(KEYS[1], ARGV[3], entry.owner, ARGV[4])
return {'removed', left}
`);

/**
 * Puts devices of one run of a node back where nothing newer is there.
 * KEYS: counts, the owner's users. ARGV: prefix of devices, prefix of owners, then entries.
 * @returns the users of whom a device was not there, and the connections of devices that have a newer one
 */
export const restoreScript = script(`${disown}
local missing = {}
local superseded = {}
for at = 3, #ARGV do
  local entry = cjson.decode(ARGV[at])
  local devices = ARGV[1] .. entry.userId
  local text = redis.call('HGET', devices, entry.deviceId)
  local old = text and cjson.decode(text)
  if not old or old.connectionId == entry.connectionId or old.connectedAt < entry.connectedAt then
    if redis.call('HLEN', devices) == 0 then redis.call('HINCRBY', KEYS[1], 'users', 1) end
    if not old then
      redis.call('HINCRBY', KEYS[1], 'devices', 1)
      missing[#missing + 1] = entry.userId
    end
    redis.call('HSET', devices, entry.deviceId, ARGV[at])
    redis.call('SADD', KEYS[2], entry.userId)
    if old and old.owner ~= entry.owner then disown(devices, ARGV[2], old.owner, entry.userId) end
  else
    superseded[#superseded + 1] = entry.connectionId
  end
end
return {missing, superseded}
`);

/**
 * KEYS: the owner's users. ARGV: prefix of devices, owner, then users.
 * @returns the entries that these have under the owner's name; who has none is not the owner's any more
 */
export const ownedScript = script(`
local owned = {}
for at = 3, #ARGV do
  local before = #owned
  for _, text in ipairs(redis.call('HVALS', ARGV[1] .. ARGV[at])) do
    if cjson.decode(text).owner == ARGV[2] then owned[#owned + 1] = text end
  end
  if #owned == before then redis.call('SREM', KEYS[1], ARGV[at]) end
end
return owned
`);

/**
 * Takes away devices of a dead run of a node, of so many users.
 * KEYS: counts, the owner's users. ARGV: prefix of devices, owner, most users.
 * @returns how many users are still to be looked at, then those left without any device
 */
export const sweepScript = script(`
local result = {0}
for _, userId in ipairs(redis.call('SRANDMEMBER', KEYS[2], ARGV[3])) do
  local devices = ARGV[1] .. userId
  local all = redis.call('HGETALL', devices)
  local removed = 0
  for at = 1, #all, 2 do
    if cjson.decode(all[at + 1]).owner == ARGV[2] then
      removed = removed + redis.call('HDEL', devices, all[at])
    end
  end
  redis.call('SREM', KEYS[2], userId)
  redis.call('HINCRBY', KEYS[1], 'devices', -removed)
  if removed > 0 and redis.call('HLEN', devices) == 0 then
    redis.call('HINCRBY', KEYS[1], 'users', -1)
    result[#result + 1] = userId
  end
end
result[1] = redis.call('SCARD', KEYS[2])
return result
`);
