-- KEYS: seen. ARGV: ms without a sign of life after which a run counts as dead. Returns the dead runs.
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ARGV[1]))
