-- Shared: a mark stands beside what nodes share, as long as nothing of it was lost. It ends with the id of what its
-- master writes, which is made anew where a replica becomes the master; a user that may not ask for that goes by the rest.
local function isMarkOfMaster(mark)
  local info = redis.pcall('INFO', 'replication')
  local history = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
  return history == '' or string.match(mark, '%x*$') == history, history
end

-- The mark as it is; a new one where there is none, or another server is the master now. `known` is the mark that the node
-- knows, '' where it knows none; for `settlingMs` after a loss nodes put back what was lost.
local function markOf(key, settling, fresh, known, settlingMs)
  local mark = redis.call('GET', key)
  local isSame, history = isMarkOfMaster(mark or '')
  -- A node that starts on an empty Redis knows of nothing that could be lost: it makes a `first` mark, and nothing settles.
  -- Redis may have been emptied just before, and another node that knows the mark of then comes only now: for it the `first`
  -- mark was made too early. So it makes one that settles, and the nodes put back what they know.
  local isEarly = mark and string.find(mark, '^first ') and known ~= '' and known ~= mark
  if mark and isSame and not isEarly then return mark end
  local isFirst = not mark and known == ''
  local made = (isFirst and 'first ' or '') .. fresh .. ' ' .. history
  redis.call('SET', key, made)
  if not isFirst then redis.call('SET', settling, made, 'PX', settlingMs) end
  return made
end
