-- Keeps the farther of what a device has acknowledged before and acknowledges now, and forgets the devices of the user that were
-- seen longest ago. $1 user, $2 device, $3 epoch, $4 position, $5 now. Says what is kept.

WITH forgotten AS (
  DELETE FROM ${ws}.cursors WHERE user_id = $1 AND device_id IN (
    SELECT device_id FROM ${ws}.cursors WHERE user_id = $1 AND device_id <> $2
    ORDER BY seen_at DESC, device_id OFFSET ${otherDevicesMax} FOR UPDATE SKIP LOCKED)
)
INSERT INTO ${ws}.cursors AS c (user_id, device_id, epoch, position, seen_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_id, device_id) DO UPDATE SET
  (epoch, position) = (
    SELECT CASE WHEN is_ahead THEN excluded.epoch ELSE c.epoch END,
        CASE WHEN is_ahead THEN excluded.position ELSE c.position END
      -- Of an epoch that is not known any more, or of a part of the log that is lost, whatever comes is better.
      FROM (SELECT excluded.position > c.position OR NOT EXISTS (
        SELECT FROM ${ws}.epochs AS e WHERE e.id = c.epoch AND c.position <= coalesce(
          (SELECT min(later.began_at) FROM ${ws}.epochs AS later WHERE later.no > e.no), c.position)) AS is_ahead) AS it),
  seen_at = greatest(c.seen_at, excluded.seen_at)
RETURNING epoch, position
