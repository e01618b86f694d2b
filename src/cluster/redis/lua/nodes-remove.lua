-- KEYS: seen, figures. ARGV: run of a node, its last sign of life as it was known: one that has lived since stays; '' for any.
if ARGV[2] ~= '' and redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
