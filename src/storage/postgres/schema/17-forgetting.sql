-- Removes events as compaction does, of which nobody is told, also the newest of a topic or of the log [LOG9]: what says how
-- far a topic and the log have come counts them on, and what says what is lost does not.

ALTER TABLE ${ws}.trims ADD COLUMN forgotten_position bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN ${ws}.trims.trimmed_seq IS 'A topic whose events are all below it goes on after it.';
COMMENT ON COLUMN ${ws}.trims.forgotten_position IS
  'The highest position of the topic that was removed without anybody being told that something is missing.';
CREATE INDEX trims_by_forgotten ON ${ws}.trims (forgotten_position) WHERE forgotten_position > 0;

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

CREATE OR REPLACE FUNCTION ${ws}.heads(given_topics text[])
RETURNS TABLE (topic text, topic_id bigint, seq bigint, "position" bigint, trimmed_position bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $heads$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT t.name, t.topic_id, greatest(coalesce(e.seq, 0), coalesce(r.trimmed_seq, 0)),
      greatest(coalesce(e.position, 0), coalesce(r.trimmed_position, 0), coalesce(r.forgotten_position, 0)),
      coalesce(r.trimmed_position, 0)
    FROM ${ws}.topics AS t LEFT JOIN ${ws}.trims AS r ON r.topic_id = t.topic_id
    LEFT JOIN LATERAL (
      SELECT n.seq, n.position FROM ${ws}.events AS n WHERE n.topic_id = t.topic_id ORDER BY n.seq DESC LIMIT 1) AS e ON true
    WHERE t.name = ANY (given_topics);
END
$heads$;

CREATE OR REPLACE FUNCTION ${ws}.watermark(OUT watermark bigint, OUT log_end bigint, OUT in_flight boolean)
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

CREATE OR REPLACE FUNCTION ${ws}.log_end() RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $log_end$
  SELECT greatest((SELECT max(position) FROM ${ws}.events), (SELECT max(trimmed_position) FROM ${ws}.trims),
    (SELECT max(forgotten_position) FROM ${ws}.trims WHERE forgotten_position > 0),
    (SELECT max(began_at) FROM ${ws}.epochs), 0)
$log_end$;

CREATE OR REPLACE FUNCTION ${ws}.first_lost(topics text[], seqs bigint[], ids text[], positions bigint[]) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $first_lost$
BEGIN
  -- A topic's events are durable in their order: one that is not there, and none after it, was lost, unless it has been
  -- removed since; and so was one whose number another event has.
  RETURN (
    SELECT min(w.position) FROM unnest(topics, seqs, ids, positions) AS w (topic, seq, id, position)
      LEFT JOIN ${ws}.topics AS t ON t.name = w.topic
      LEFT JOIN ${ws}.trims AS r ON r.topic_id = t.topic_id
      LEFT JOIN LATERAL (
        SELECT e.seq, e.id FROM ${ws}.events AS e WHERE e.topic_id = t.topic_id AND e.seq >= w.seq
        ORDER BY e.seq LIMIT 1) AS n ON true
    WHERE (n.seq IS NULL AND greatest(r.trimmed_position, r.forgotten_position, 0) < w.position)
      OR (n.seq = w.seq AND n.id <> w.id));
END
$first_lost$;
