-- Shared: what every answer about presence begins with: the mark, 1 while nodes put back what was lost, and the time in ms.
-- KEYS: mark, settling. ARGV: a new mark, the mark that the node knows, ms for which a loss settles.
local mark = markOf(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
local time = redis.call('TIME')
local answer = {mark, redis.call('EXISTS', KEYS[2]), time[1] * 1000 + math.floor(time[2] / 1000)}
