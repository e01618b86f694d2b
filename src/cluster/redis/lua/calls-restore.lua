-- Puts calls back where nothing newer is there. What is there may have been made of an older state that another node put
-- back before: a call that was answered never rings again, and one that has ended stays so.
-- KEYS: due. ARGV: prefix, mark, JSON of the calls, each with its version.
-- Returns ids and new versions of calls that were put in place of what was made of an older state.
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
