-- Appends the one event of a quiet moment, where nothing stands in its way, by the steps of append() in their order; without what
-- makes a batch dear, which are arrays, and settings of its own. Its plans reach every table by an index where the session prefers
-- these, as the service's do.

CREATE FUNCTION ${ws}.append_one(
  given_topic text, given_id text, given_type text, given_payload text, given_created_at bigint, given_sender_id text,
  given_key text, given_digest text, given_unit bigint
) RETURNS TABLE (
  n bigint, seq bigint, "position" bigint, topic text, id text, created_at bigint, digest text, outcome text
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $append_one$
#variable_conflict use_column
DECLARE
  only_id bigint;
  head bigint;
  newest bigint;
  is_known boolean;
  floor_position bigint;
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  SELECT t.topic_id INTO only_id FROM ${ws}.topics AS t WHERE t.name = given_topic FOR NO KEY UPDATE SKIP LOCKED;
  IF FOUND THEN
    -- In a snapshot of after the lock, as append() reads it.
    SELECT greatest(
        coalesce((SELECT e.seq FROM ${ws}.events AS e WHERE e.topic_id = only_id ORDER BY e.seq DESC LIMIT 1), 0),
        coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = only_id), 0)),
      (SELECT e.position FROM ${ws}.events AS e ORDER BY e.position DESC LIMIT 1),
      EXISTS (SELECT FROM ${ws}.idempotency_keys AS k WHERE k.key = given_key) INTO head, newest, is_known;
    floor_position := coalesce(pg_sequence_last_value('${ws}.positions'), 0);
  END IF;
  -- A topic that is new or somebody else's, a known key, a sequence that is behind the log, a lock that is not to be had: append()
  -- waits, answers or refuses. Nothing is drawn before the floor is set.
  IF only_id IS NULL OR is_known OR floor_position < newest
      OR NOT pg_try_advisory_xact_lock_shared('${ws}.positions'::regclass::oid::integer,
        ((floor_position + 2147483648) % 4294967296 - 2147483648)::integer) THEN
    RETURN QUERY SELECT * FROM ${ws}.append(
      ARRAY[given_topic], ARRAY[1], ARRAY[given_id], ARRAY[given_type], ARRAY[given_payload], ARRAY[given_created_at],
      ARRAY[given_sender_id], CASE WHEN given_unit IS NOT NULL THEN ARRAY[given_unit] END,
      CASE WHEN given_key IS NOT NULL THEN ARRAY[given_key] END, CASE WHEN given_key IS NOT NULL THEN ARRAY[1::bigint] END,
      ARRAY[given_digest], NULL, NULL, NULL, NULL);
    RETURN;
  END IF;
  n := 1;
  seq := head + 1;
  position := nextval('${ws}.positions');
  INSERT INTO ${ws}.events (topic_id, position, seq, created_at, id, type, payload, sender_id)
    VALUES (only_id, position, seq, given_created_at, given_id, given_type, given_payload, given_sender_id);
  IF given_key IS NOT NULL THEN
    INSERT INTO ${ws}.idempotency_keys (key, topic, seq, position, event_id, created_at, digest)
      VALUES (given_key, given_topic, seq, position, given_id, given_created_at, given_digest);
  END IF;
  RETURN NEXT;
END
$append_one$;
COMMENT ON FUNCTION ${ws}.append_one IS
  'Does what append() does with a batch of one event that changes, replaces and tells nothing, and has one key at most.';
