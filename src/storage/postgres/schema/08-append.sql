-- Gives a watermark below all that is on its way. append() is made with what it needs, in 20: the order of its steps is what
-- everything rests on; docs/log.md has it, with what goes wrong in any other.

CREATE FUNCTION ${ws}.set_append_floor() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $set_append_floor$
DECLARE
  is_set boolean;
BEGIN
  SELECT pg_try_advisory_xact_lock_shared('${ws}.positions'::regclass::oid::integer,
      ((p.last_value + 2147483648) % 4294967296 - 2147483648)::integer) INTO is_set FROM ${ws}.positions AS p
    -- Read after what is visible, which was drawn before.
    WHERE p.last_value >= coalesce((SELECT e.position FROM ${ws}.events AS e ORDER BY e.position DESC LIMIT 1), 0);
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the sequence ${ws}.positions is behind the log. '
      'Run: SELECT setval(''${ws}.positions'', (SELECT max(position) FROM ${ws}.events))';
  END IF;
  IF NOT is_set THEN
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = 'another session holds an advisory lock that appends take: '
      'look for ${ws}.positions (classid) in pg_locks';
  END IF;
END
$set_append_floor$;
COMMENT ON FUNCTION ${ws}.set_append_floor IS
  'Sets the floor of an append, held until the commit: the watermark goes no further than it, and whatever is drawn from now on is above it. Fails where the sequence is behind the log, and where others are in the way.';

CREATE FUNCTION ${ws}.watermark(OUT watermark bigint, OUT log_end bigint, OUT in_flight boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $watermark$
DECLARE
  ends bigint;
  lowest bigint;
BEGIN
  -- The end first: who is not in flight by the next statement has committed, or draws above it.
  SELECT p.last_value INTO ends FROM ${ws}.positions AS p;
  -- Anybody may take advisory locks; only who may append has also locked rows of the topics.
  WITH locks AS MATERIALIZED (SELECT * FROM pg_locks)
  SELECT min(ends - l.behind) INTO lowest FROM (
    SELECT mod(mod(ends - objid::bigint, 4294967296) + 4294967296, 4294967296) AS behind FROM locks
      WHERE locktype = 'advisory' AND classid = '${ws}.positions'::regclass::oid AND objsubid = 2
        AND database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
        AND pid IN (SELECT t.pid FROM locks AS t WHERE t.locktype = 'relation' AND t.relation = '${ws}.topics'::regclass
          AND t.mode = 'RowShareLock')) AS l
    -- The others began after the end was read.
    WHERE l.behind < 2147483648;
  -- No further than what is or was there: numbers that were drawn and not used may be drawn again after a crash.
  SELECT e.position INTO log_end FROM ${ws}.events AS e ORDER BY e.position DESC LIMIT 1;
  IF NOT FOUND THEN
    SELECT coalesce(max(t.trimmed_position), 0) INTO log_end FROM ${ws}.trims AS t;
  END IF;
  log_end := greatest(log_end, (SELECT max(t.forgotten_position) FROM ${ws}.trims AS t WHERE t.forgotten_position > 0));
  watermark := least(ends, lowest, log_end);
  in_flight := lowest IS NOT NULL;
END
$watermark$;
COMMENT ON FUNCTION ${ws}.watermark IS
  'Every event with a position up to the watermark is visible to the next statement of a transaction that reads committed; log_end is the highest position that is visible; in_flight: appends are on their way.';

CREATE FUNCTION ${ws}.end_stalled(longer_than_ms bigint) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $end_stalled$
  SELECT count(*) FROM (
    SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a
      -- It waits for its client, which may be frozen or cut off; what works or waits for a standby is let alone.
      WHERE a.wait_event_type = 'Client' AND a.usename = current_user AND a.pid <> pg_backend_pid()
        AND a.state_change < clock_timestamp() - longer_than_ms * interval '1 ms'
        AND EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.objsubid = 2
          AND l.classid = '${ws}.positions'::regclass::oid)) AS ended;
$end_stalled$;
COMMENT ON FUNCTION ${ws}.end_stalled IS 'Ends sessions that have held cursors back for longer than that in the middle of an append.';

CREATE FUNCTION ${ws}.prove_writes(payload_bytes bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $prove_writes$
BEGIN
  BEGIN
    -- Touches no row that an append would wait for, and needs the right all the same.
    PERFORM FROM ${ws}.topics WHERE false FOR NO KEY UPDATE;
    PERFORM ${ws}.set_append_floor();
    -- An event as large as asked for that cannot be compressed, under numbers that no other session takes.
    INSERT INTO ${ws}.events (topic_id, position, seq, created_at, id, type, payload)
      SELECT 0, -pg_backend_pid(), -pg_backend_pid(), 0, '', '', coalesce(string_agg(md5(random()::text), ''), '')
        FROM generate_series(1, payload_bytes / 32);
    IF NOT has_sequence_privilege('${ws}.positions', 'USAGE') THEN
      RAISE EXCEPTION 'permission denied for sequence positions' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RAISE SQLSTATE 'WS001';
  EXCEPTION WHEN SQLSTATE 'WS001' THEN
    -- Taken back; the transaction still has a commit to write.
    NULL;
  END;
END
$prove_writes$;
COMMENT ON FUNCTION ${ws}.prove_writes IS
  'Fails where an append of so many bytes would: read-only, no room, no right. Leaves nothing behind.';
