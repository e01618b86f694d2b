-- Writes a user's record where it is still what the change was made of, and in the same step tells the nodes that listen:
-- the order of their words is the order of versions.
-- KEYS: after those of answer.lua the record, totals, two channels, and for runs of nodes the users that have devices there.
-- ARGV: after those of answer.lua mark and version of what the change was made of; the record, and for how many ms it is
-- kept, 0: for as long as it is; user id; users more; devices more; of how many of the runs the user has devices now; the
-- command that publishes; the word without its mark and version.
-- Returns after its answer 1 and the version written, or 0 and the record that is there, with its version in front.
local _, _, _, madeOfMark, madeOf, record, keptMs, userId, users, devices, runs, publish, word = unpack(ARGV)
local recordKey, totals = KEYS[3], KEYS[4]
local there = redis.call('GET', recordKey)
local version = there and string.match(there, '^%d+') or '0'
if mark ~= madeOfMark or version ~= madeOf then
  answer[4], answer[5] = 0, there
  return answer
end

-- Versions are moments of Redis's clock in µs, or the next number where that is not past the last one.
local last = tonumber(redis.call('HGET', totals, 'version') or 0)
version = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
redis.call('HSET', totals, 'version', version)
redis.call('SET', recordKey, version .. ' ' .. record, unpack(keptMs == '0' and {} or {'PX', keptMs}))
if users ~= '0' then redis.call('HINCRBY', totals, 'users', users) end
if devices ~= '0' then redis.call('HINCRBY', totals, 'devices', devices) end
for at = 7, #KEYS do redis.call(at - 6 <= tonumber(runs) and 'SADD' or 'SREM', KEYS[at], userId) end

local partial = answer[2] == 1 and ',"isPartial":true' or ''
local text = word .. partial .. ',"mark":"' .. mark .. '","version":' .. version .. '}}'
for at = 5, 6 do redis.call(publish, KEYS[at], text) end
answer[4], answer[5] = 1, version
return answer
