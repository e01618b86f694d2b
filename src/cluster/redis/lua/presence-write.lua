-- Writes users' records where each is still what its change was made of, and in the same step tells the nodes that listen:
-- the order of their words is the order of versions.
-- KEYS: after those of answer.lua, for each change the record, totals, two channels, and for runs of nodes the users that
-- have devices there.
-- ARGV: after those of answer.lua the command that publishes; for each change mark and version of what it was made of; the
-- record, and for how many ms it is kept, 0: for as long as it is; user id; users more; devices more; how many runs there
-- are, and of how many of them, the first ones, the user has devices now; the word without its mark and version.
-- Returns after its answer, for each change, 1 and the version written, or 0 and the record that is there, with its version
-- in front.
local publish = ARGV[4]
local partial = answer[2] == 1 and ',"isPartial":true' or ''
local key = 3

local function write(madeOfMark, madeOf, record, keptMs, userId, users, devices, lists, runs, word)
  local recordKey, totals = KEYS[key], KEYS[key + 1]
  local there = redis.call('GET', recordKey)
  local version = there and string.match(there, '^%d+') or '0'
  if mark ~= madeOfMark or version ~= madeOf then return 0, there end

  -- Versions are moments of Redis's clock in µs, or the next number where that is not past the last one.
  local last = tonumber(redis.call('HGET', totals, 'version') or 0)
  version = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
  redis.call('HSET', totals, 'version', version)
  redis.call('SET', recordKey, version .. ' ' .. record, unpack(keptMs == '0' and {} or {'PX', keptMs}))
  if users ~= '0' then redis.call('HINCRBY', totals, 'users', users) end
  if devices ~= '0' then redis.call('HINCRBY', totals, 'devices', devices) end
  for at = 1, lists do redis.call(at <= tonumber(runs) and 'SADD' or 'SREM', KEYS[key + 3 + at], userId) end

  local text = word .. partial .. ',"mark":"' .. mark .. '","version":' .. version .. '}}'
  for at = key + 2, key + 3 do redis.call(publish, KEYS[at], text) end
  return 1, version
end

for at = 5, #ARGV, 10 do
  answer[#answer + 1], answer[#answer + 2] = write(unpack(ARGV, at, at + 9))
  key = key + 4 + ARGV[at + 7]
end
return answer
