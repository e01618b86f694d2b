-- Appends, changes the messages that events speak of (amend() is made with what it needs, in 13), and gives a watermark below
-- all that is on its way. The order of its steps is what everything rests on; docs/log.md has it, with what goes wrong in any
-- other.

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

CREATE FUNCTION ${ws}.append(
  given_topics text[], given_ids text[], given_types text[], given_payloads text[], given_created_at bigint[],
  given_keys text[], given_key_indexes bigint[], given_digests text[], given_named bigint[],
  given_compaction_keys text[], given_sender_ids text[], given_units bigint[], names text[],
  given_amendments text[]
) RETURNS TABLE (
  n bigint, seq bigint, "position" bigint, topic text, id text, created_at bigint, digest text, outcome text
)
-- One plan, whatever the statistics say, in which every table is reached by an index. Functions and operators of other schemas
-- are never looked for.
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_mergejoin = off
-- Compiles nothing: plans with what is turned off count as very dear.
SET enable_nestloop = off SET jit = off AS $append$
#variable_conflict use_column
DECLARE
  found_names text[];
  crowded text[];
  firsts ${ws}.idempotency_keys[];
  -- Of what is not appended: left alone, or known by a key or by its id.
  passed_over bigint[];
  given bigint;
  head record;
  pair record;
  amendment text[];
  made text;
  replaced record;
BEGIN
  -- Waits for the disk, whatever the database has as its default: an event that somebody was told of is there after a power cut.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;

  -- Finds the topics and, of them, those that somebody may be appending to, before a lock is taken: where many wait for one of
  -- them already its events are left alone, or the batch's other topics would wait with it.
  -- xmax is who locked the row last, and is not cleared: it counts only where that transaction may still run. It is 32 bits
  -- of a number of 64, and may not be compared as it is; so what is in flight is cut to 32 bits as well, and what is not
  -- below the snapshot's end is found by the distance round the circle, less than half of it.
  SELECT array_agg(t.name), array_agg(t.name) FILTER (WHERE t.xmax <> '0' AND (
      -- Locked by one that was in flight when this statement began, or by one that has begun since.
      t.xmax = ANY (ARRAY(
        SELECT (x.xid::text::bigint & 4294967295)::text::xid FROM pg_snapshot_xip(pg_current_snapshot()) AS x (xid)))
      OR mod(t.xmax::text::bigint + 4294967296 - (pg_snapshot_xmax(pg_current_snapshot())::text::bigint & 4294967295),
        4294967296) < 2147483648))
    INTO found_names, crowded FROM ${ws}.topics AS t WHERE t.name = ANY (names);
  -- New topics by name before any is locked, then the locks by number: whoever waits, waits for somebody further on.
  IF coalesce(cardinality(found_names), 0) < cardinality(names) THEN
    INSERT INTO ${ws}.topics (name) SELECT g.name FROM unnest(names) AS g (name)
      WHERE found_names IS NULL OR g.name <> ALL (found_names) ORDER BY g.name
      ON CONFLICT DO NOTHING;
  END IF;
  IF crowded IS NOT NULL AND cardinality(given_units) > 0 THEN
    -- Waits for one who has a topic, and one who waits for it: that is a commit or two. Leaves it alone where more wait.
    -- A row's lock is not in pg_locks; but the first who waits for it holds a lock of type `tuple`, named by page and line, as
    -- ctid is, and all others wait for that one: they are not granted. A ctid stays, for a topic's row is never updated.
    SELECT array_agg(t.name) INTO crowded FROM ${ws}.topics AS t WHERE t.name = ANY (crowded) AND t.ctid IN (
      SELECT format('(%s,%s)', l.page, l.tuple)::tid FROM pg_locks AS l
        WHERE l.locktype = 'tuple' AND l.relation = '${ws}.topics'::regclass AND NOT l.granted);
    IF crowded IS NOT NULL THEN
      SELECT array_agg(g.n) INTO passed_over FROM unnest(given_units) WITH ORDINALITY AS g (unit, n)
        WHERE g.unit IN (SELECT u.unit FROM unnest(given_topics, given_units) AS u (topic, unit)
          WHERE u.topic = ANY (crowded));
      RETURN QUERY SELECT g.n, NULL::bigint, NULL::bigint, NULL, NULL, NULL::bigint, NULL, NULL
        FROM unnest(passed_over) AS g (n);
      SELECT array_agg(DISTINCT g.name) INTO names FROM unnest(given_topics) WITH ORDINALITY AS g (name, n)
        WHERE g.n <> ALL (passed_over);
      IF names IS NULL THEN
        RETURN;
      END IF;
    END IF;
  END IF;
  -- Held until the commit: what is visible of a topic has no hole, and its positions grow with its numbers.
  PERFORM FROM ${ws}.topics AS t WHERE t.name = ANY (names) ORDER BY t.topic_id FOR NO KEY UPDATE;

  -- A key is of one topic, so that whoever has used it has committed by now.
  IF cardinality(given_keys) > 0 THEN
    SELECT array_agg(k) INTO firsts FROM ${ws}.idempotency_keys AS k WHERE k.key = ANY (given_keys);
  END IF;
  IF firsts IS NOT NULL THEN
    RETURN QUERY SELECT g.n, f.seq, f.position, f.topic, f.event_id, f.created_at, f.digest, NULL
      FROM unnest(given_keys, given_key_indexes) AS g (key, n) JOIN unnest(firsts) AS f ON f.key = g.key
      WHERE passed_over IS NULL OR g.n <> ALL (passed_over);
    SELECT passed_over || array_agg(g.n) INTO passed_over FROM unnest(given_keys, given_key_indexes) AS g (key, n)
      WHERE g.key IN (SELECT f.key FROM unnest(firsts) AS f);
  END IF;
  -- One by one, each by its index: a join would be hashed.
  FOREACH given IN ARRAY given_named LOOP
    CONTINUE WHEN given = ANY (passed_over);
    SELECT t.topic_id INTO head FROM ${ws}.topics AS t WHERE t.name = given_topics[given];
    -- Equals no digest: what was said then is not known.
    RETURN QUERY SELECT given, e.seq, e.position, given_topics[given], e.id, e.created_at, '', NULL
      FROM ${ws}.events AS e
      WHERE e.topic_id = head.topic_id AND e.id = given_ids[given] AND e.sender_id IS NOT NULL LIMIT 1;
    IF FOUND THEN
      passed_over := array_append(passed_over, given);
    END IF;
  END LOOP;
  -- One by one in the order of the batch. What is not made is not told either.
  IF given_amendments IS NOT NULL THEN
    FOREACH amendment SLICE 1 IN ARRAY given_amendments LOOP
      given := amendment[1]::bigint;
      CONTINUE WHEN given = ANY (passed_over);
      made := ${ws}.amend(given_topics[given], amendment);
      IF made <> 'applied' THEN
        RETURN QUERY SELECT given, NULL::bigint, NULL::bigint, NULL, NULL, NULL::bigint, NULL, made;
        passed_over := array_append(passed_over, given);
      END IF;
    END LOOP;
  END IF;

  -- From here until the commit no cursor passes what was given out before: every number drawn below is above this one.
  PERFORM ${ws}.set_append_floor();

  RETURN QUERY
  WITH heads AS MATERIALIZED (
    -- Says the same as head_seq(), without a call for each topic.
    SELECT t.topic_id, t.name, greatest(
        coalesce((SELECT n.seq FROM ${ws}.events AS n WHERE n.topic_id = t.topic_id ORDER BY n.seq DESC LIMIT 1), 0),
        coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = t.topic_id), 0)) AS seq
      FROM ${ws}.topics AS t WHERE t.name = ANY (names)
  ), fresh AS MATERIALIZED (
    SELECT i.*, nextval('${ws}.positions') AS position FROM (
      SELECT g.*, row_number() OVER (PARTITION BY g.topic ORDER BY g.n) AS nth,
        -- Has its number and is not written where a later event of the batch replaces it.
        g.compaction_key IS NOT NULL AND g.n < max(g.n) OVER (PARTITION BY g.topic, g.compaction_key) AS is_replaced
      FROM unnest(given_topics, given_ids, given_types, given_payloads, given_created_at, given_digests,
        given_compaction_keys, given_sender_ids) WITH ORDINALITY
        AS g (topic, id, type, payload, created_at, digest, compaction_key, sender_id, n)
      WHERE passed_over IS NULL OR g.n <> ALL (passed_over)
      ORDER BY g.n) AS i
  ), numbered AS MATERIALIZED (
    SELECT f.*, h.topic_id, h.seq + f.nth AS seq FROM fresh AS f JOIN heads AS h ON h.name = f.topic
  ), added AS (
    INSERT INTO ${ws}.events (topic_id, position, seq, created_at, id, type, payload, compaction_key, sender_id)
      SELECT topic_id, position, seq, created_at, id, type, payload, compaction_key, sender_id FROM numbered
      WHERE NOT is_replaced
  ), keyed AS (
    INSERT INTO ${ws}.idempotency_keys (key, topic, seq, position, event_id, created_at, digest)
      SELECT g.key, f.topic, f.seq, f.position, f.id, f.created_at,
        -- What an edit said is forgotten with it.
        CASE WHEN given_amendments IS NULL OR NOT f.is_replaced THEN f.digest END
      FROM numbered AS f JOIN unnest(given_keys, given_key_indexes) AS g (key, n) ON g.n = f.n
  )
  SELECT f.n, f.seq, f.position, NULL, NULL, NULL::bigint, NULL, NULL FROM numbered AS f;

  IF cardinality(array_remove(given_compaction_keys, NULL)) = 0 THEN
    RETURN;
  END IF;
  FOR pair IN
    SELECT DISTINCT i.topic, i.key FROM unnest(given_topics, given_compaction_keys) AS i (topic, key)
      WHERE i.key IS NOT NULL
  LOOP
    SELECT t.topic_id, coalesce(
        (SELECT r.trimmed_position FROM ${ws}.trims AS r WHERE r.topic_id = t.topic_id), 0) AS trimmed_position
      INTO head FROM ${ws}.topics AS t WHERE t.name = pair.topic;
    -- The one before the newest, for there is one at most; not everything below, for a snapshot may keep what was removed.
    DELETE FROM ${ws}.events AS e WHERE e.topic_id = head.topic_id AND e.position = (
      SELECT o.position FROM ${ws}.events AS o
      WHERE o.topic_id = head.topic_id AND o.compaction_key = pair.key AND o.position > head.trimmed_position
      ORDER BY o.position DESC OFFSET 1 LIMIT 1) RETURNING e.id, e.created_at INTO replaced;
    -- Of a short text a digest tells as much as the text.
    IF FOUND AND pair.key LIKE 'edit:%' THEN
      UPDATE ${ws}.idempotency_keys AS k SET digest = NULL
        WHERE k.created_at = replaced.created_at AND k.event_id = replaced.id AND k.topic = pair.topic;
    END IF;
  END LOOP;
END
$append$;
COMMENT ON FUNCTION ${ws}.append IS
  'names: the topics, each once. Appends a batch in one transaction. A key may occur once in a batch; known keys are answered with their first numbers. outcome: why an amendment was not made. given_amendments: null, or a row for amend() each.';

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
