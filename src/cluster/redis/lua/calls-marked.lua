-- Shared by all scripts on calls, which are in one slot, so that a script may touch any of them.
-- ARGV: prefix, mark that the node knows. Raises LOST where that is not the mark any more.
local mark = redis.call('GET', ARGV[1] .. 'epoch')
if mark ~= ARGV[2] or not isMarkOfMaster(mark) then return redis.error_reply('LOST calls may have been lost') end
