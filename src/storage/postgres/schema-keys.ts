/** Idempotency keys by topic, with the digest of what was said under them: the append function anew, and the old keys [LOG2]. */

/**
 * What was appended before is found again by its new key, so that a retry across the upgrade appends nothing. Of one key
 * that several publishers or ways in had used on one topic, the first stays. @param ws the schema's name
 */
export const contentKeys = (ws: string) => `
ALTER TABLE ${ws}.idempotency_keys ADD COLUMN digest text;
COMMENT ON COLUMN ${ws}.idempotency_keys.digest IS
  'Of what was said under the key; null: not kept, whatever is said under it again is the same.';

UPDATE ${ws}.idempotency_keys AS k SET key = regexp_replace(renamed.key, '^key:([^:]*:[^:]*):message:', 'id:\\1:')
  FROM (
    SELECT DISTINCT ON (key) key, old_key FROM (
      SELECT key AS old_key, position, CASE
        -- message:<user>:<client_message_id>
        WHEN key LIKE 'message:%' THEN 'sent:' || split_part(key, ':', 2) || ':'
          || replace(substr(topic, length('conversation:') + 1), ':', ' ') || ':'
          || regexp_replace(key, '^[^:]*:[^:]*:', '')
        -- event:<publisher>:<kind of topic>:<its id>:<event_key, or message:<message_id>>
        WHEN key LIKE 'event:%' THEN regexp_replace(key, '^event:[^:]*:', 'key:')
        -- outbox-key:<kind of topic>:<its id>:<as above>
        ELSE regexp_replace(key, '^[a-z]+-key:', 'key:') END AS key
      FROM ${ws}.idempotency_keys WHERE key ~ '^(message|event|outbox-key|stream-key):') AS old
    ORDER BY key, position) AS renamed
  WHERE k.key = renamed.old_key;
DELETE FROM ${ws}.idempotency_keys WHERE key ~ '^(message|event|outbox-key|stream-key):';

DROP FUNCTION ${ws}.append(text[], text[], text[], text[], bigint[], text[], text[], text[]);
CREATE FUNCTION ${ws}.append(
  given_topics text[], given_ids text[], given_types text[], given_payloads text[], given_created_at bigint[],
  given_keys text[], given_key_places bigint[], given_digests text[], given_named bigint[],
  given_compaction_keys text[], given_sender_ids text[]
) RETURNS TABLE (
  n bigint, previous_position bigint, seq bigint, "position" bigint,
  topic text, id text, created_at bigint, digest text
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
  repeated bigint[];
  taken bigint[];
  place bigint;
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
  IF known IS NOT NULL THEN
    SELECT array_agg(g.n) INTO repeated FROM unnest(given_keys, given_key_places) AS g (key, n)
      WHERE g.key = ANY (known);
  END IF;

  -- One by one, each by its index: a join would be hashed.
  FOREACH place IN ARRAY given_named LOOP
    CONTINUE WHEN place = ANY (repeated);
    SELECT t.topic_id INTO head FROM ${ws}.topics AS t WHERE t.name = given_topics[place];
    CONTINUE WHEN NOT FOUND;
    -- Nobody says what has no digest at all.
    RETURN QUERY SELECT place, previous, e.seq, e.position, given_topics[place], e.id, e.created_at, ''
      FROM ${ws}.events AS e
      WHERE e.topic_id = head.topic_id AND e.id = given_ids[place] AND e.sender_id IS NOT NULL LIMIT 1;
    IF FOUND THEN
      taken := array_append(taken, place);
    END IF;
  END LOOP;

  RETURN QUERY
  WITH fresh AS MATERIALIZED (
    SELECT i.*, previous + row_number() OVER (ORDER BY i.n) AS position,
      row_number() OVER (PARTITION BY i.topic ORDER BY i.n) AS nth, count(*) OVER (PARTITION BY i.topic) AS of_topic
    FROM unnest(given_topics, given_ids, given_types, given_payloads, given_created_at, given_digests,
      given_compaction_keys, given_sender_ids) WITH ORDINALITY
      AS i (topic, id, type, payload, created_at, digest, compaction_key, sender_id, n)
    WHERE (repeated IS NULL OR i.n <> ALL (repeated)) AND (taken IS NULL OR i.n <> ALL (taken))
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
    INSERT INTO ${ws}.idempotency_keys (key, topic, seq, position, event_id, created_at, digest)
      SELECT g.key, f.topic, f.seq, f.position, f.id, f.created_at, f.digest
      FROM numbered AS f JOIN unnest(given_keys, given_key_places) AS g (key, n) ON g.n = f.n
  ), counted AS (
    UPDATE ${ws}.log_state AS s SET position = previous + c.events, events = s.events + c.events,
      topics = s.topics + c.topics
      FROM (SELECT count(*) AS events, count(*) FILTER (WHERE seq = 1) AS topics FROM numbered) AS c
      WHERE s.only_row = 1 AND c.events > 0
  )
  SELECT f.n, previous, f.seq, f.position, NULL, NULL, NULL::bigint, NULL FROM numbered AS f;

  IF known IS NOT NULL THEN
    RETURN QUERY
    SELECT g.n, previous, k.seq, k.position, k.topic, k.event_id, k.created_at, k.digest
      FROM unnest(given_keys, given_key_places) AS g (key, n)
      JOIN (SELECT * FROM ${ws}.idempotency_keys AS a WHERE a.key = ANY (known)) AS k ON k.key = g.key;
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
  'Appends a batch in one transaction. A key may occur once in a batch; known keys are answered with their first event.';
`;
