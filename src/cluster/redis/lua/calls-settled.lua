-- Shared: no call is decided on while other nodes may still have something to put back. Raises SETTLING then.
if redis.call('EXISTS', ARGV[1] .. 'settling') == 1 then
  return redis.error_reply('SETTLING calls are being put back')
end
