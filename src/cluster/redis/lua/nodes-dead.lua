-- KEYS: seen. ARGV: ms without a sign of life after which a run of a node counts as dead.
-- Returns the dead runs, each with its last sign of life, ms.
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ARGV[1]), 'WITHSCORES')
