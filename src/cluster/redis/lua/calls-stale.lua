-- KEYS: due. ARGV: prefix, mark, ids and versions. Returns ids of calls that have another version now, or are gone.
local stale = {}
for at = 3, #ARGV, 2 do
  if redis.call('HGET', ARGV[1] .. 'call:' .. ARGV[at], 'version') ~= ARGV[at + 1] then stale[#stale + 1] = ARGV[at] end
end
return stale
