-- Writes a user's record where it is still what the change was made of, and in the same step tells the nodes that listen:
-- the order of their words is the order of versions.
-- KEYS: after those of answer.lua the record, totals, two channels, and for runs of nodes the users that have devices there.
-- ARGV: after those of answer.lua mark and version of what the change was made of; the record, and for how many ms it is
-- kept, 0: for as long as it is; user id; users more; devices more; of how many of the runs the user has devices now; the
-- command that publishes; the word without its mark and version.
-- Returns after its answer 1 and the version written, or 0 and the record that is there, with its version in front.
local there = redis.call('GET', KEYS[3])
local version = there and string.match(there, '^%d+') or '0'
if mark ~= ARGV[4] or version ~= ARGV[5] then
  answer[4], answer[5] = 0, there
  return answer
end

-- Versions are moments of Redis's clock in µs, or the next number where that is not past the last one.
local last = tonumber(redis.call('HGET', KEYS[4], 'version') or 0)
version = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
redis.call('HSET', KEYS[4], 'version', version)
redis.call('SET', KEYS[3], version .. ' ' .. ARGV[6], unpack(ARGV[7] == '0' and {} or {'PX', ARGV[7]}))
if ARGV[9] ~= '0' then redis.call('HINCRBY', KEYS[4], 'users', ARGV[9]) end
if ARGV[10] ~= '0' then redis.call('HINCRBY', KEYS[4], 'devices', ARGV[10]) end
for at = 7, #KEYS do
  redis.call(at - 6 <= tonumber(ARGV[11]) and 'SADD' or 'SREM', KEYS[at], ARGV[8])
end
local partial = answer[2] == 1 and ',"isPartial":true' or ''
local word = ARGV[13] .. partial .. ',"mark":"' .. mark .. '","version":' .. version .. '}}'
for at = 5, 6 do redis.call(ARGV[12], KEYS[at], word) end
answer[4], answer[5] = 1, version
return answer
