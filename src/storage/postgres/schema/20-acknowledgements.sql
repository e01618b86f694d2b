-- Keeps how far many devices have acknowledged the log by one statement [LOG6].

CREATE FUNCTION ${ws}.acknowledge(
  given_users text[], given_devices text[], given_epochs text[], given_positions bigint[], now_ms bigint, other_devices_max bigint
) RETURNS TABLE (user_id text, epoch text, "position" bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $acknowledge$
#variable_conflict use_column
BEGIN
  DELETE FROM ${ws}.cursors AS c WHERE c.ctid = ANY (ARRAY(
    SELECT l.place FROM unnest(given_users, given_devices) AS g (user_id, device_id)
      CROSS JOIN LATERAL (
        SELECT o.device_id FROM ${ws}.cursors AS o WHERE o.user_id = g.user_id AND o.device_id <> g.device_id
          ORDER BY o.seen_at DESC, o.device_id OFFSET other_devices_max) AS old
      -- Locks what goes, and nothing of what is passed over before.
      CROSS JOIN LATERAL (
        SELECT c.ctid AS place FROM ${ws}.cursors AS c WHERE c.user_id = g.user_id AND c.device_id = old.device_id
          LIMIT 1 FOR UPDATE SKIP LOCKED) AS l));
  RETURN QUERY
  INSERT INTO ${ws}.cursors AS c (user_id, device_id, epoch, position, seen_at)
    -- By one order for everybody: whoever waits, waits for somebody further on.
    SELECT g.user_id, g.device_id, g.epoch, g.position, now_ms
      FROM unnest(given_users, given_devices, given_epochs, given_positions) AS g (user_id, device_id, epoch, position)
      ORDER BY g.user_id, g.device_id
  ON CONFLICT (user_id, device_id) DO UPDATE SET
    (epoch, position) = (
      SELECT CASE WHEN is_ahead THEN excluded.epoch ELSE c.epoch END,
          CASE WHEN is_ahead THEN excluded.position ELSE c.position END
        -- Of an epoch that is not known any more, or of a part of the log that is lost, whatever comes is better.
        FROM (SELECT excluded.position > c.position OR NOT EXISTS (
          SELECT FROM ${ws}.epochs AS e WHERE e.id = c.epoch AND c.position <= coalesce(
            (SELECT min(later.began_at) FROM ${ws}.epochs AS later WHERE later.no > e.no), c.position)) AS is_ahead) AS it),
    seen_at = greatest(c.seen_at, excluded.seen_at)
  RETURNING c.user_id, c.epoch, c.position;
END
$acknowledge$;
COMMENT ON FUNCTION ${ws}.acknowledge IS
  'Keeps the farther of what each device has acknowledged before and acknowledges now, and forgets the devices of its user that were seen longest ago. given_users: each once. Says what is kept.';
