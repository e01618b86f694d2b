-- Reads the mark, and makes a new one where there is none, or another server is the master now.
-- KEYS: mark, settling. ARGV: a new mark, the mark that is known, for how long after a loss is to be waited, ms.
local mark = redis.call('GET', KEYS[1])
local isSame, history = isMarkOfMaster(mark or '')
-- A node that starts on an empty Redis knows of nothing that could be lost; one that does may come to it later.
local isEarly = mark and string.find(mark, '^first ') and ARGV[2] ~= '' and ARGV[2] ~= mark
if mark and isSame and not isEarly then return mark end
local isFirst = not mark and ARGV[2] == ''
local fresh = (isFirst and 'first ' or '') .. ARGV[1] .. ' ' .. history
redis.call('SET', KEYS[1], fresh)
if not isFirst then redis.call('SET', KEYS[2], fresh, 'PX', ARGV[3]) end
return fresh
