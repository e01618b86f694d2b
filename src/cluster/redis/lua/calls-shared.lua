-- Ids of the call named and of the calls of users, each once.
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
end

local function put(prefix, due, call, version)
  local key = prefix .. 'call:' .. call.callId
  redis.call('HSET', key, 'version', version, 'json', call.json, 'caller', call.caller, 'callee', call.callee)
  redis.call('SADD', prefix .. 'user:' .. call.caller, call.callId)
  redis.call('SADD', prefix .. 'user:' .. call.callee, call.callId)
  redis.call('ZADD', due, call.deadline, call.callId)
end

-- Versions are moments of Redis's clock (µs), or the next number where that is not past the last one: what is changed
-- once Redis has come back empty is newer than everything that nodes put back after it.
local function newVersion(prefix)
  local time = redis.call('TIME')
  local last = tonumber(redis.call('GET', prefix .. 'version') or 0)
  local version = string.format('%.0f', math.max(last + 1, tonumber(time[1]) * 1000000 + tonumber(time[2])))
  redis.call('SET', prefix .. 'version', version)
  return version
end
