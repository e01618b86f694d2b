-- KEYS: seen, figures. ARGV: run of a node, its figures. Returns the figures of all runs.
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return redis.call('HVALS', KEYS[2])
