-- Tells of watermarks in the transactions of the events that do [REC2]: nobody claims them any more. What is looked up for each of a
-- list is written so that no plan can begin with the table instead.

ALTER TABLE ${ws}.receipts DROP COLUMN claimed_seq, DROP COLUMN claimed_at;

CREATE FUNCTION ${ws}.tell_receipts(tellings text, left_out bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $tell_receipts$
BEGIN
  RETURN QUERY
  WITH given AS MATERIALIZED (
    SELECT g.* FROM json_to_recordset(tellings::json)
        AS g (n bigint, topic text, user_id text, kind text, sent_seq bigint, up_to_seq bigint)
      WHERE left_out IS NULL OR g.n <> ALL (left_out)
  ), free AS MATERIALIZED (
    SELECT g.n, g.up_to_seq, r.place FROM given AS g CROSS JOIN LATERAL (
      SELECT r.ctid AS place FROM ${ws}.receipts AS r
        WHERE r.topic_id = (SELECT t.topic_id FROM ${ws}.topics AS t WHERE t.name = g.topic)
          AND r.user_id = g.user_id AND r.kind = g.kind AND r.sent_seq = g.sent_seq AND r.seq >= g.up_to_seq LIMIT 1
        -- What is appended never waits for somebody who marks: that is told with what he marks.
        FOR NO KEY UPDATE OF r SKIP LOCKED) AS r
  ), told AS (
    -- It is locked, and so where it was found.
    UPDATE ${ws}.receipts AS r SET sent_seq = f.up_to_seq FROM free AS f WHERE r.ctid = f.place RETURNING f.n
  )
  SELECT g.n FROM given AS g WHERE NOT EXISTS (SELECT FROM told AS t WHERE t.n = g.n);
END
$tell_receipts$;
COMMENT ON FUNCTION ${ws}.tell_receipts IS
  'Notes of receipts that they are told up to a number, where they were told up to sent_seq: the others it names. tellings: JSON, an array of objects with n, topic, user_id, kind, sent_seq, up_to_seq.';

CREATE FUNCTION ${ws}.compact(topic_ids bigint[], given_topics integer[], given_keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $compact$
DECLARE
  replaced bigint[];
BEGIN
  SELECT array_agg(o.position) INTO replaced FROM (
      SELECT DISTINCT topic_ids[k.topic] AS topic_id, k.key FROM unnest(given_topics, given_keys) AS k (topic, key)
        WHERE k.key IS NOT NULL) AS g
    CROSS JOIN LATERAL (
      -- The one before the newest, for there is one at most; not everything below, for a snapshot may keep what was removed.
      SELECT e.position FROM ${ws}.events AS e
      WHERE e.topic_id = g.topic_id AND e.compaction_key = g.key AND e.position > coalesce(
        (SELECT r.trimmed_position FROM ${ws}.trims AS r WHERE r.topic_id = g.topic_id), 0)
      ORDER BY e.position DESC OFFSET 1 LIMIT 1) AS o;
  IF replaced IS NULL THEN
    RETURN;
  END IF;
  WITH removed AS (
    DELETE FROM ${ws}.events AS e WHERE e.position = ANY (replaced)
      RETURNING e.topic_id, e.id, e.created_at, e.compaction_key
  )
  -- Of a short text a digest tells as much as the text.
  UPDATE ${ws}.idempotency_keys AS k SET digest = NULL FROM removed AS r
    WHERE r.compaction_key LIKE 'edit:%' AND k.created_at = r.created_at AND k.event_id = r.id
      AND k.topic = (SELECT t.name FROM ${ws}.topics AS t WHERE t.topic_id = r.topic_id);
END
$compact$;
COMMENT ON FUNCTION ${ws}.compact IS
  'Removes of topics that are locked the events that were replaced by newer ones of their keys. given_topics: of each key, which of the topics, from 1; a key of null is none.';
