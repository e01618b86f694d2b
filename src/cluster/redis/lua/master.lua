-- Shared: a mark ends with the id of what its master writes, which is made anew where a replica becomes the master.
-- A user that may not ask for that goes by the rest alone.
local function isMarkOfMaster(mark)
  local info = redis.pcall('INFO', 'replication')
  local history = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
  return history == '' or string.match(mark, '%x*$') == history, history
end
