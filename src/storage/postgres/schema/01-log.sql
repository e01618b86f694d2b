-- Appends to the event log and removes from it, in the first version. Released: never edited.

CREATE FUNCTION ${ws}.append(
  given_topics text[], given_ids text[], given_types text[], given_payloads text[], given_created_at bigint[],
  given_keys text[], given_compaction_keys text[], given_sender_ids text[]
) RETURNS TABLE (
  n bigint, previous_position bigint, seq bigint, "position" bigint, duplicate boolean,
  topic text, id text, created_at bigint
) LANGUAGE plpgsql VOLATILE
-- One plan whatever the statistics say: every table is reached by an index, every join in memory is hashed.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off
-- What is turned off counts as very dear, which would have each batch compiled.
SET jit = off
AS $append$
#variable_conflict use_column
DECLARE
  previous bigint;
  known text[];
  pair record;
  head record;
  newest bigint;
  removed bigint;
BEGIN
  -- Held until the commit, so that positions become visible in the order in which they were given out.
  PERFORM pg_advisory_xact_lock('${ws}.log_state'::regclass::oid::integer, 1);
  -- Who is told of an event must find it after a power cut, whatever the database has as its default.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  SELECT s.position INTO previous FROM ${ws}.log_state AS s;
  -- Locked against retention, so that they are still there when they are answered below.
  SELECT array_agg(k.key) INTO known
    FROM (SELECT i.key FROM ${ws}.idempotency_keys AS i WHERE i.key = ANY (given_keys) FOR KEY SHARE) AS k;

  RETURN QUERY
  WITH fresh AS MATERIALIZED (
    SELECT i.*, previous + row_number() OVER (ORDER BY i.n) AS position,
      row_number() OVER (PARTITION BY i.topic ORDER BY i.n) AS nth, count(*) OVER (PARTITION BY i.topic) AS of_topic
    FROM unnest(given_topics, given_ids, given_types, given_payloads, given_created_at, given_keys,
      given_compaction_keys, given_sender_ids) WITH ORDINALITY
      AS i (topic, id, type, payload, created_at, key, compaction_key, sender_id, n)
    WHERE known IS NULL OR i.key IS NULL OR i.key <> ALL (known)
  ), touched AS (
    INSERT INTO ${ws}.topics AS t (name, seq, position, events)
      SELECT f.topic, count(*), max(f.position), count(*) FROM fresh AS f GROUP BY f.topic
      ON CONFLICT (name) DO UPDATE
        SET seq = t.seq + excluded.seq, position = excluded.position, events = t.events + excluded.events
      RETURNING t.topic_id, t.name, t.seq
  ), numbered AS MATERIALIZED (
    SELECT f.*, t.topic_id, t.seq - f.of_topic + f.nth AS seq FROM fresh AS f JOIN touched AS t ON t.name = f.topic
  ), added AS (
    INSERT INTO ${ws}.events (topic_id, position, seq, created_at, id, type, payload, compaction_key, sender_id)
      SELECT topic_id, position, seq, created_at, id, type, payload, compaction_key, sender_id FROM numbered
  ), keyed AS (
    INSERT INTO ${ws}.idempotency_keys (key, topic, seq, position, event_id, created_at)
      SELECT key, topic, seq, position, id, created_at FROM numbered WHERE key IS NOT NULL
  ), counted AS (
    UPDATE ${ws}.log_state AS s SET position = previous + c.events, events = s.events + c.events,
      topics = s.topics + c.topics
      FROM (SELECT count(*) AS events, count(*) FILTER (WHERE seq = 1) AS topics FROM numbered) AS c
      WHERE s.only_row = 1 AND c.events > 0
  )
  SELECT f.n, previous, f.seq, f.position, false, NULL, NULL, NULL::bigint FROM numbered AS f;

  IF known IS NOT NULL THEN
    RETURN QUERY
    SELECT i.n, previous, k.seq, k.position, true, k.topic, k.event_id, k.created_at
      FROM unnest(given_keys) WITH ORDINALITY AS i (key, n)
      JOIN (SELECT * FROM ${ws}.idempotency_keys AS a WHERE a.key = ANY (known)) AS k ON k.key = i.key;
  END IF;

  FOR pair IN
    SELECT DISTINCT i.topic, i.key FROM unnest(given_topics, given_compaction_keys) AS i (topic, key)
      WHERE i.key IS NOT NULL
  LOOP
    SELECT t.topic_id INTO head FROM ${ws}.topics AS t WHERE t.name = pair.topic;
    CONTINUE WHEN NOT FOUND;
    SELECT max(e.position) INTO newest FROM ${ws}.events AS e
      WHERE e.topic_id = head.topic_id AND e.compaction_key = pair.key;
    DELETE FROM ${ws}.events AS e
      WHERE e.topic_id = head.topic_id AND e.compaction_key = pair.key AND e.position < newest;
    GET DIAGNOSTICS removed = ROW_COUNT;
    CONTINUE WHEN removed = 0;
    UPDATE ${ws}.topics AS t SET events = t.events - removed WHERE t.topic_id = head.topic_id;
    UPDATE ${ws}.log_state AS s SET events = s.events - removed WHERE s.only_row = 1;
  END LOOP;
END
$append$;
COMMENT ON FUNCTION ${ws}.append IS
  'Appends a batch in one transaction. A key may occur once in a batch; known keys are answered with their first numbers.';

CREATE FUNCTION ${ws}.trim(created_before bigint, events_per_topic bigint, batch bigint)
RETURNS TABLE (removed bigint, more boolean) LANGUAGE plpgsql VOLATILE AS $trim$
#variable_conflict use_column
DECLARE
  room bigint := batch;
  taken bigint;
  crowded record;
BEGIN
  -- One at a time over all nodes; the others have nothing to do meanwhile.
  IF NOT pg_try_advisory_xact_lock('${ws}.log_state'::regclass::oid::integer, 2) THEN
    RETURN QUERY SELECT 0::bigint, false;
    RETURN;
  END IF;

  WITH old AS (
    SELECT e.topic_id, e.position FROM ${ws}.events AS e WHERE e.created_at < created_before
      ORDER BY e.created_at LIMIT room FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM ${ws}.events AS e USING old WHERE e.topic_id = old.topic_id AND e.position = old.position
      RETURNING e.topic_id, e.position
  ), noted AS (
    INSERT INTO ${ws}.trims AS t (topic_id, trimmed_position, removed)
      SELECT g.topic_id, max(g.position), count(*) FROM gone AS g GROUP BY g.topic_id
      ON CONFLICT (topic_id) DO UPDATE SET removed = t.removed + excluded.removed,
        trimmed_position = greatest(t.trimmed_position, excluded.trimmed_position)
  )
  SELECT count(*) INTO taken FROM gone;
  room := room - taken;

  FOR crowded IN
    SELECT t.topic_id, t.events - coalesce(r.removed, 0) - events_per_topic AS surplus
      FROM ${ws}.topics AS t LEFT JOIN ${ws}.trims AS r USING (topic_id)
      -- Said twice, so that the index over crowded topics serves wherever the limit allows it.
      WHERE events_per_topic >= 1000 AND t.events > 1000 AND t.events > events_per_topic
        AND t.events - coalesce(r.removed, 0) > events_per_topic
    UNION ALL
    SELECT t.topic_id, t.events - coalesce(r.removed, 0) - events_per_topic
      FROM ${ws}.topics AS t LEFT JOIN ${ws}.trims AS r USING (topic_id)
      WHERE events_per_topic < 1000 AND t.events - coalesce(r.removed, 0) > events_per_topic
    LIMIT room
  LOOP
    EXIT WHEN room = 0;
    WITH old AS (
      SELECT e.topic_id, e.position FROM ${ws}.events AS e WHERE e.topic_id = crowded.topic_id
        ORDER BY e.position LIMIT least(room, crowded.surplus) FOR UPDATE SKIP LOCKED
    ), gone AS (
      DELETE FROM ${ws}.events AS e USING old WHERE e.topic_id = old.topic_id AND e.position = old.position
        RETURNING e.topic_id, e.position
    ), noted AS (
      INSERT INTO ${ws}.trims AS t (topic_id, trimmed_position, removed)
        SELECT g.topic_id, max(g.position), count(*) FROM gone AS g GROUP BY g.topic_id
        ON CONFLICT (topic_id) DO UPDATE SET removed = t.removed + excluded.removed,
          trimmed_position = greatest(t.trimmed_position, excluded.trimmed_position)
    )
    SELECT count(*) INTO taken FROM gone;
    room := room - taken;
  END LOOP;
  taken := batch - room;
  IF taken > 0 THEN
    UPDATE ${ws}.trim_state AS s SET removed = s.removed + taken;
  END IF;

  IF room > 0 THEN
    WITH old AS (
      SELECT k.key FROM ${ws}.idempotency_keys AS k WHERE k.created_at < created_before
        ORDER BY k.created_at LIMIT room FOR UPDATE SKIP LOCKED
    ), gone AS (
      DELETE FROM ${ws}.idempotency_keys AS k USING old WHERE k.key = old.key RETURNING k.key
    )
    SELECT room - count(*) INTO room FROM gone;
  END IF;
  RETURN QUERY SELECT taken, room = 0;
END
$trim$;
COMMENT ON FUNCTION ${ws}.trim IS
  'Removes at most a batch of what retention does not keep: events by age and by count, then keys by age. Takes no lock that append() waits for, but for the rows it removes.';
