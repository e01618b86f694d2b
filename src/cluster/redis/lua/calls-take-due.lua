-- KEYS: due. ARGV: prefix, mark, now, most, end of the lease. Returns ids, the earliest first.
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], ARGV[5], id) end
return ids
