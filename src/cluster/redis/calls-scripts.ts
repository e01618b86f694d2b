/** What Redis does with calls in one step; all calls are in one slot, so a script may touch any of them. */
import { script } from "./commands.ts";
import { isMarkOfMaster } from "./epoch.ts";

/** ARGV: prefix, mark that the node knows. Raises LOST where that is not the mark any more. */
const marked = `${isMarkOfMaster}
local mark = redis.call('GET', ARGV[1] .. 'epoch')
if mark ~= ARGV[2] or not isMarkOfMaster(mark) then return redis.error_reply('LOST calls may have been lost') end`;

/** Nobody decides on a call while others may still have something to put back: raises LOST or SETTLING. */
const settled = `${marked}
if redis.call('EXISTS', ARGV[1] .. 'settling') == 1 then
  return redis.error_reply('SETTLING calls are being put back')
end`;

/** Ids of the call named and of the calls of users, each once. */
const collect = `
local function collect(prefix, callId, userIds)
  local ids, seen = {callId}, {[callId] = true}
  for _, userId in ipairs(userIds) do
    for _, id in ipairs(redis.call('SMEMBERS', prefix .. 'user:' .. userId)) do
      if not seen[id] then
        seen[id] = true
        ids[#ids + 1] = id
      end
    end
  end
  return ids
end`;

const put = `
local function put(prefix, due, call, version)
  local key = prefix .. 'call:' .. call.callId
  redis.call('HSET', key, 'version', version, 'json', call.json, 'caller', call.caller, 'callee', call.callee)
  redis.call('SADD', prefix .. 'user:' .. call.caller, call.callId)
  redis.call('SADD', prefix .. 'user:' .. call.callee, call.callId)
  redis.call('ZADD', due, call.deadline, call.callId)
end`;

/**
 * Versions are moments of Redis' clock (µs), or the next number where that is not past the last one: what is changed once
 * Redis has come back empty is newer than everything that nodes put back after it.
 */
const newVersion = `
local function newVersion(prefix)
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', prefix .. 'version') or 0)
  local version = string.format('%.0f', math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2])))
  redis.call('SET', prefix .. 'version', version)
  return version
end`;

/** KEYS: due. ARGV: prefix, mark, call id, user ids. @returns version and JSON of each call there is */
export const readScript = script(`${settled}${collect}
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
`);

/**
 * Writes where nothing has changed since it was read.
 * KEYS: due. ARGV: prefix, mark, JSON of {callId, userIds, versions: {id: version}, put, forget}, 1 where the same has
 * been asked before and the answer was lost.
 * @returns the new versions in the order of `put`; nil where something has changed
 */
export const writeScript = script(`${settled}${collect}${put}${newVersion}
local prefix, asked = ARGV[1], cjson.decode(ARGV[3])
local function writtenBefore()
  local versions = {}
  for _, call in ipairs(asked.put) do
    local there = redis.call('HMGET', prefix .. 'call:' .. call.callId, 'version', 'json')
    if there[2] ~= call.json then return false end
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
`);

/** KEYS: due. ARGV: prefix, mark, now, most, end of the lease. @returns ids, the earliest first */
export const takeDueScript = script(`${settled}
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], ARGV[5], id) end
return ids
`);

/** KEYS: due. ARGV: prefix, mark, ids and versions. @returns ids of calls that have another version now, or are gone */
export const staleScript = script(`${marked}
local stale = {}
for at = 3, #ARGV, 2 do
  if redis.call('HGET', ARGV[1] .. 'call:' .. ARGV[at], 'version') ~= ARGV[at + 1] then stale[#stale + 1] = ARGV[at] end
end
return stale
`);

/**
 * Puts calls back where nothing newer is there. What is there may have been made of an older state that another node put
 * back before: a call that was answered never rings again, and one that has ended stays so.
 * KEYS: due. ARGV: prefix, mark, JSON of the calls, each with its version.
 * @returns ids and new versions of calls that were put in place of what was made of an older state
 */
export const restoreScript = script(`${marked}${put}${newVersion}
local ranks = {ringing = 0, connecting = 1, active = 1, ended = 2}
local function rankOf(json) return ranks[cjson.decode(json).state] end
local prefix = ARGV[1]
local renewed = {}
for _, call in ipairs(cjson.decode(ARGV[3])) do
  local version = tonumber(call.version)
  local there = redis.call('HMGET', prefix .. 'call:' .. call.callId, 'version', 'json')
  local further = there[2] and rankOf(call.json) - rankOf(there[2]) or 0
  if not there[1] or (further >= 0 and tonumber(there[1]) < version) then
    put(prefix, KEYS[1], call, call.version)
  elseif further > 0 then
    local fresh = newVersion(prefix)
    put(prefix, KEYS[1], call, fresh)
    renewed[#renewed + 1] = call.callId
    renewed[#renewed + 1] = fresh
  end
  -- Versions go on growing, so that no two states of a call ever share one.
  if tonumber(redis.call('GET', prefix .. 'version') or 0) < version then
    redis.call('SET', prefix .. 'version', call.version)
  end
end
return renewed
`);
