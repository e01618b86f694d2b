-- Removes what retention does not keep from the log that only appends, and notes how far it has come [LOG7]; and removes what
-- nobody is to miss, also the newest event of a topic or of the log [LOG9].

CREATE FUNCTION ${ws}.remove_events(topic_ids bigint[], positions bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $remove_events$
DECLARE
  removed bigint;
BEGIN
  WITH gone AS (
    DELETE FROM ${ws}.events AS e USING unnest(topic_ids, positions) AS old (topic_id, "position")
      WHERE e.topic_id = old.topic_id AND e.position = old.position
      RETURNING e.topic_id, e.position, e.seq
  ), noted AS (
    INSERT INTO ${ws}.trims AS t (topic_id, trimmed_position, trimmed_seq)
      SELECT g.topic_id, max(g.position), max(g.seq) FROM gone AS g GROUP BY g.topic_id
      ON CONFLICT (topic_id) DO UPDATE SET trimmed_position = greatest(t.trimmed_position, excluded.trimmed_position),
        trimmed_seq = greatest(t.trimmed_seq, excluded.trimmed_seq)
  )
  SELECT count(*) INTO removed FROM gone;
  RETURN removed;
END
$remove_events$;
COMMENT ON FUNCTION ${ws}.remove_events IS 'Removes events and notes up to where their topics are removed; returns how many were still there.';

CREATE FUNCTION ${ws}.forget_events(given_topic bigint, positions bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $forget_events$
DECLARE
  removed bigint;
  ends record;
BEGIN
  WITH free AS MATERIALIZED (
    -- What somebody is about to change is left for the next time: nobody waits for anybody.
    SELECT e.position FROM ${ws}.events AS e WHERE e.topic_id = given_topic AND e.position = ANY (positions)
      ORDER BY e.position FOR UPDATE SKIP LOCKED
  ), gone AS (
    DELETE FROM ${ws}.events AS e USING free AS f WHERE e.topic_id = given_topic AND e.position = f.position
      RETURNING e.position, e.seq, e.id, e.sender_id
  ), edits AS (
    -- The text of a message's last edit goes with the message.
    DELETE FROM ${ws}.events AS e USING (SELECT 'edit:' || g.id AS key FROM gone AS g WHERE g.sender_id IS NOT NULL) AS m
      WHERE e.topic_id = given_topic AND e.compaction_key = m.key AND e.position <> ALL (positions)
      RETURNING e.position, e.seq
  )
  SELECT (SELECT count(*) FROM gone) AS removed, max(a.seq) AS seq, max(a.position) AS position INTO ends
    FROM (SELECT g.position, g.seq FROM gone AS g UNION ALL SELECT e.position, e.seq FROM edits AS e) AS a;
  IF ends.seq IS NOT NULL THEN
    INSERT INTO ${ws}.trims AS t (topic_id, trimmed_position, trimmed_seq, forgotten_position)
      VALUES (given_topic, 0, ends.seq, ends.position)
      ON CONFLICT (topic_id) DO UPDATE SET trimmed_seq = greatest(t.trimmed_seq, excluded.trimmed_seq),
        forgotten_position = greatest(t.forgotten_position, excluded.forgotten_position);
  END IF;
  RETURN ends.removed;
END
$forget_events$;
COMMENT ON FUNCTION ${ws}.forget_events IS
  'Removes events of a topic as if a later one had replaced them; returns how many were still there and nobody else was at.';

CREATE FUNCTION ${ws}.trim(created_before bigint, events_per_topic bigint, batch bigint)
RETURNS TABLE (removed bigint, more boolean) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $trim$
#variable_conflict use_column
DECLARE
  -- A moment that is wrong in a few events holds nothing up: of so many more the age is looked at than are removed.
  ages_beyond CONSTANT bigint := 1000;
  -- Events whose topics are counted by one call, for each row that it may remove.
  counted_per_row CONSTANT bigint := 20;
  state ${ws}.trim_state;
  room bigint := batch;
  through bigint;
  topic_ids bigint[];
  positions bigint[];
  slice record;
  grown record;
  boundary bigint;
BEGIN
  -- One at a time over all nodes; the others have nothing to do meanwhile.
  IF NOT pg_try_advisory_xact_lock('${ws}.trim_state'::regclass::oid::integer, 1) THEN
    RETURN QUERY SELECT 0::bigint, false;
    RETURN;
  END IF;
  SELECT * INTO state FROM ${ws}.trim_state;
  SELECT w.watermark INTO through FROM ${ws}.watermark() AS w;

  -- By age: from the oldest position on, past what is kept because its moment was wrong.
  SELECT array_agg(o.topic_id) FILTER (WHERE o.goes), array_agg(o.position) FILTER (WHERE o.goes),
      coalesce(min(o.position) FILTER (WHERE NOT o.goes) - 1, max(o.position))
    INTO topic_ids, positions, state.oldest FROM (
      SELECT e.topic_id, e.position, e.created_at < created_before
          AND count(*) FILTER (WHERE e.created_at < created_before) OVER (ORDER BY e.position) <= room AS goes
        FROM (
          SELECT * FROM ${ws}.events WHERE position > state.oldest AND position <= through
          ORDER BY position LIMIT room + ages_beyond) AS e) AS o;
  room := room - ${ws}.remove_events(topic_ids, positions);
  UPDATE ${ws}.trim_state AS s SET oldest = state.oldest WHERE s.oldest < state.oldest;

  -- By count: only topics that have grown since the last time can have too many, unless fewer are kept than then.
  IF events_per_topic < state.events_per_topic THEN
    state.counted := 0;
  END IF;
  IF events_per_topic <> state.events_per_topic THEN
    UPDATE ${ws}.trim_state AS s SET counted = state.counted, events_per_topic = trim.events_per_topic;
  END IF;
  SELECT max(p.position) AS position, count(*) = batch * counted_per_row AS is_full INTO slice FROM (
    SELECT e.position FROM ${ws}.events AS e WHERE e.position > state.counted AND e.position <= through
    ORDER BY e.position LIMIT batch * counted_per_row) AS p;
  FOR grown IN
    SELECT DISTINCT e.topic_id FROM ${ws}.events AS e WHERE e.position > state.counted AND e.position <= slice.position
  LOOP
    EXIT WHEN room = 0;
    -- By their numbers first: no topic has more events than those from its oldest to its newest.
    CONTINUE WHEN ${ws}.head_seq(grown.topic_id) - (SELECT e.seq FROM ${ws}.events AS e WHERE e.topic_id = grown.topic_id
      ORDER BY e.seq LIMIT 1) < events_per_topic;
    SELECT e.seq INTO boundary FROM ${ws}.events AS e WHERE e.topic_id = grown.topic_id
      ORDER BY e.seq DESC OFFSET events_per_topic LIMIT 1;
    CONTINUE WHEN NOT FOUND;
    SELECT array_agg(old.topic_id), array_agg(old.position) INTO topic_ids, positions FROM (
      SELECT e.topic_id, e.position FROM ${ws}.events AS e WHERE e.topic_id = grown.topic_id AND e.seq <= boundary
      ORDER BY e.seq LIMIT room) AS old;
    room := room - ${ws}.remove_events(topic_ids, positions);
  END LOOP;
  removed := batch - room;
  IF room > 0 THEN
    UPDATE ${ws}.trim_state AS s SET counted = slice.position WHERE s.counted < slice.position;
    WITH old AS (
      SELECT k.key FROM ${ws}.idempotency_keys AS k WHERE k.created_at < created_before
        ORDER BY k.created_at LIMIT room
    ), gone AS (
      DELETE FROM ${ws}.idempotency_keys AS k USING old WHERE k.key = old.key RETURNING k.key
    )
    SELECT room - count(*) INTO room FROM gone;
  END IF;
  more := slice.is_full OR room = 0;
  RETURN NEXT;
END
$trim$;
COMMENT ON FUNCTION ${ws}.trim IS
  'Removes at most a batch of what retention does not keep: events by age and by count, then keys by age. Takes no lock that append() waits for, but for the rows it removes.';
