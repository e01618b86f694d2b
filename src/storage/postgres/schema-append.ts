/** The log that only appends: numbers without a rewritten row, and a watermark below all that is on its way [LOG1] [LOG4]. */

/** Functions and operators of other schemas are never looked for. */
export const pinned = "SET search_path = pg_catalog, pg_temp";

/** Of the functions that are called most: one plan, whatever the statistics say, in which every table is reached by an index. */
export const planned = (volatility: "STABLE" | "VOLATILE") => `LANGUAGE plpgsql ${volatility} ${pinned}
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_mergejoin = off
-- What is turned off counts as very dear, which would have each call compiled.
SET jit = off`;

/** The last number of a topic: of its newest event, or of the newest that retention has removed. */
export const headSeq = (ws: string, topicId: string) => `greatest(
      coalesce((SELECT n.seq FROM ${ws}.events AS n WHERE n.topic_id = ${topicId} ORDER BY n.seq DESC LIMIT 1), 0),
      coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = ${topicId}), 0))`;

/**
 * What the schema of rewritten numbers knew goes over: the position into a sequence, of each topic the number up to which
 * retention has removed. @param ws the schema's name
 */
export const appendOnly = (ws: string) => `
DROP FUNCTION ${ws}.append(text[], text[], text[], text[], bigint[], text[], text[], text[]);
DROP FUNCTION ${ws}.trim(bigint, bigint, bigint);
DROP FUNCTION ${ws}.replay(text[], bigint, bigint);
CREATE SEQUENCE ${ws}.positions AS bigint MINVALUE 0 START 0;
SELECT setval('${ws}.positions', position) FROM ${ws}.log_state;
COMMENT ON SEQUENCE ${ws}.positions IS 'Its last value is the last position given out. One that was drawn and not used is missing for ever.';

-- Whoever may use the schema may see how far the log is; who may append, append.
GRANT SELECT ON SEQUENCE ${ws}.positions TO PUBLIC;
DO $rights$
DECLARE
  named text;
BEGIN
  FOR named IN
    SELECT a.grantee::regrole::text FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
      WHERE c.oid = '${ws}.events'::regclass AND a.privilege_type = 'INSERT' AND a.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE format('GRANT USAGE ON SEQUENCE ${ws}.positions TO %s', named);
  END LOOP;
END
$rights$;

ALTER TABLE ${ws}.trims ADD COLUMN trimmed_seq bigint NOT NULL DEFAULT 0;
UPDATE ${ws}.trims AS r SET trimmed_seq = CASE WHEN e.newest = t.seq THEN e.oldest - 1 ELSE t.seq END
  FROM ${ws}.topics AS t, LATERAL (
    SELECT min(seq) AS oldest, max(seq) AS newest FROM ${ws}.events WHERE topic_id = t.topic_id) AS e
  WHERE t.topic_id = r.topic_id;
ALTER TABLE ${ws}.trims DROP COLUMN removed;
COMMENT ON TABLE ${ws}.trims IS 'Up to where retention has removed the events of each topic.';
-- Who reads the whole log is told where retention was faster.
CREATE INDEX trims_by_position ON ${ws}.trims (trimmed_position);
ALTER TABLE ${ws}.topics DROP COLUMN seq, DROP COLUMN position, DROP COLUMN events;
COMMENT ON TABLE ${ws}.topics IS 'Every topic that ever had an event. Whoever appends to one locks its row until the commit; nobody changes it.';
DROP TABLE ${ws}.log_state, ${ws}.trim_state;
CREATE TABLE ${ws}.trim_state (
  only_row integer PRIMARY KEY CHECK (only_row = 1),
  oldest bigint NOT NULL,
  counted bigint NOT NULL,
  events_per_topic bigint NOT NULL
);
COMMENT ON TABLE ${ws}.trim_state IS
  'How far retention has come: nothing is left below the position oldest, and no topic had too many events up to counted.';
INSERT INTO ${ws}.trim_state VALUES (1, 0, 0, ${Number.MAX_SAFE_INTEGER});
CREATE UNIQUE INDEX IF NOT EXISTS ${eventsByPosition} ON ${ws}.events (position);
DROP INDEX ${ws}.events_by_age;
`;

/** Made before the step, while the service still runs on the schema of before. */
export const eventsByPosition = "events_by_position";

/** Puts up the mark of an append, where the sequence is where it has to be and nobody keeps others from it. */
const mark = (ws: string) => `  SELECT pg_try_advisory_xact_lock_shared('${ws}.positions'::regclass::oid::integer,
      ((p.last_value + 2147483648) % 4294967296 - 2147483648)::integer) AS had INTO head FROM ${ws}.positions AS p
    -- What is visible was drawn before the sequence is read.
    WHERE p.last_value >= coalesce((SELECT e.position FROM ${ws}.events AS e ORDER BY e.position DESC LIMIT 1), 0);
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the sequence ${ws}.positions is behind the log. '
      'Run: SELECT setval(''${ws}.positions'', (SELECT max(position) FROM ${ws}.events))';
  END IF;
  IF NOT head.had THEN
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = 'another session holds an advisory lock that appends take: '
      'look for ${ws}.positions (classid) in pg_locks';
  END IF;`;

/**
 * The order of its steps is what everything rests on; docs/log.md has it, with what goes wrong in any other.
 * @param ws the schema's name
 */
export const appendFunctions = (ws: string) => `
CREATE FUNCTION ${ws}.append(
  given_topics text[], given_ids text[], given_types text[], given_payloads text[], given_created_at bigint[],
  given_keys text[], given_key_places bigint[], given_digests text[], given_named bigint[],
  given_compaction_keys text[], given_sender_ids text[], given_units bigint[], names text[]
) RETURNS TABLE (n bigint, seq bigint, "position" bigint, topic text, id text, created_at bigint, digest text)
${planned("VOLATILE")} SET enable_nestloop = off AS $append$
#variable_conflict use_column
DECLARE
  found_names text[];
  crowded text[];
  firsts ${ws}.idempotency_keys[];
  -- Of what is not appended: left alone, or known by a key or by its id.
  excluded_places bigint[];
  place bigint;
  head record;
  pair record;
BEGIN
  -- Who is told of an event must find it after a power cut, whatever the database has as its default.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;

  -- New topics by name before any is locked, then the locks by number: whoever waits, waits for somebody further on.
  SELECT array_agg(t.name), array_agg(t.name) FILTER (WHERE t.xmax <> '0' AND (
      -- Locked by who is in flight, or by somebody who has begun after them all.
      t.xmax = ANY (ARRAY(
        SELECT (x.xid::text::bigint & 4294967295)::text::xid FROM pg_snapshot_xip(pg_current_snapshot()) AS x (xid)))
      OR mod(t.xmax::text::bigint + 4294967296 - (pg_snapshot_xmax(pg_current_snapshot())::text::bigint & 4294967295),
        4294967296) < 2147483648))
    INTO found_names, crowded FROM ${ws}.topics AS t WHERE t.name = ANY (names);
  IF coalesce(cardinality(found_names), 0) < cardinality(names) THEN
    INSERT INTO ${ws}.topics (name) SELECT g.name FROM unnest(names) AS g (name)
      WHERE found_names IS NULL OR g.name <> ALL (found_names) ORDER BY g.name
      ON CONFLICT DO NOTHING;
  END IF;
  IF crowded IS NOT NULL AND cardinality(given_units) > 0 THEN
    -- Who has a topic is waited for, and one who waits for it: that is a commit or two. Where more wait it is left alone.
    SELECT array_agg(t.name) INTO crowded FROM ${ws}.topics AS t WHERE t.name = ANY (crowded) AND t.ctid IN (
      SELECT format('(%s,%s)', l.page, l.tuple)::tid FROM pg_locks AS l
        WHERE l.locktype = 'tuple' AND l.relation = '${ws}.topics'::regclass AND NOT l.granted);
    IF crowded IS NOT NULL THEN
      SELECT array_agg(g.n) INTO excluded_places FROM unnest(given_units) WITH ORDINALITY AS g (unit, n)
        WHERE g.unit IN (SELECT u.unit FROM unnest(given_topics, given_units) AS u (topic, unit)
          WHERE u.topic = ANY (crowded));
      RETURN QUERY SELECT g.n, NULL::bigint, NULL::bigint, NULL, NULL, NULL::bigint, NULL FROM unnest(excluded_places) AS g (n);
      SELECT array_agg(DISTINCT g.name) INTO names FROM unnest(given_topics) WITH ORDINALITY AS g (name, n)
        WHERE g.n <> ALL (excluded_places);
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
    RETURN QUERY SELECT g.n, f.seq, f.position, f.topic, f.event_id, f.created_at, f.digest
      FROM unnest(given_keys, given_key_places) AS g (key, n) JOIN unnest(firsts) AS f ON f.key = g.key
      WHERE excluded_places IS NULL OR g.n <> ALL (excluded_places);
    SELECT excluded_places || array_agg(g.n) INTO excluded_places FROM unnest(given_keys, given_key_places) AS g (key, n)
      WHERE g.key IN (SELECT f.key FROM unnest(firsts) AS f);
  END IF;
  -- One by one, each by its index: a join would be hashed.
  FOREACH place IN ARRAY given_named LOOP
    CONTINUE WHEN place = ANY (excluded_places);
    SELECT t.topic_id INTO head FROM ${ws}.topics AS t WHERE t.name = given_topics[place];
    -- Nobody says what has no digest at all.
    RETURN QUERY SELECT place, e.seq, e.position, given_topics[place], e.id, e.created_at, ''
      FROM ${ws}.events AS e
      WHERE e.topic_id = head.topic_id AND e.id = given_ids[place] AND e.sender_id IS NOT NULL LIMIT 1;
    IF FOUND THEN
      excluded_places := array_append(excluded_places, place);
    END IF;
  END LOOP;

  -- From here until the commit no cursor passes what was given out before: every number drawn below is above this one.
${mark(ws)}

  RETURN QUERY
  WITH heads AS MATERIALIZED (
    SELECT t.topic_id, t.name, ${headSeq(ws, "t.topic_id")} AS seq FROM ${ws}.topics AS t WHERE t.name = ANY (names)
  ), fresh AS MATERIALIZED (
    SELECT i.*, nextval('${ws}.positions') AS position FROM (
      SELECT g.*, row_number() OVER (PARTITION BY g.topic ORDER BY g.n) AS nth,
        -- What a later event of the batch replaces has its number and is not written.
        g.compaction_key IS NOT NULL AND g.n < max(g.n) OVER (PARTITION BY g.topic, g.compaction_key) AS is_replaced
      FROM unnest(given_topics, given_ids, given_types, given_payloads, given_created_at, given_digests,
        given_compaction_keys, given_sender_ids) WITH ORDINALITY
        AS g (topic, id, type, payload, created_at, digest, compaction_key, sender_id, n)
      WHERE excluded_places IS NULL OR g.n <> ALL (excluded_places)
      ORDER BY g.n) AS i
  ), numbered AS MATERIALIZED (
    SELECT f.*, h.topic_id, h.seq + f.nth AS seq FROM fresh AS f JOIN heads AS h ON h.name = f.topic
  ), added AS (
    INSERT INTO ${ws}.events (topic_id, position, seq, created_at, id, type, payload, compaction_key, sender_id)
      SELECT topic_id, position, seq, created_at, id, type, payload, compaction_key, sender_id FROM numbered
      WHERE NOT is_replaced
  ), keyed AS (
    INSERT INTO ${ws}.idempotency_keys (key, topic, seq, position, event_id, created_at, digest)
      SELECT g.key, f.topic, f.seq, f.position, f.id, f.created_at, f.digest
      FROM numbered AS f JOIN unnest(given_keys, given_key_places) AS g (key, n) ON g.n = f.n
  )
  SELECT f.n, f.seq, f.position, NULL, NULL, NULL::bigint, NULL FROM numbered AS f;

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
      ORDER BY o.position DESC OFFSET 1 LIMIT 1);
  END LOOP;
END
$append$;
COMMENT ON FUNCTION ${ws}.append IS
  'names: the topics, each once. Appends a batch in one transaction. A key may occur once in a batch; known keys are answered with their first numbers.';

CREATE FUNCTION ${ws}.watermark(OUT watermark bigint, OUT log_end bigint) LANGUAGE plpgsql VOLATILE ${pinned} AS $watermark$
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
  -- No further than what is there: numbers that were drawn and not used may be drawn again after a crash.
  SELECT e.position INTO log_end FROM ${ws}.events AS e ORDER BY e.position DESC LIMIT 1;
  IF NOT FOUND THEN
    SELECT coalesce(max(t.trimmed_position), 0) INTO log_end FROM ${ws}.trims AS t;
  END IF;
  watermark := least(ends, lowest, log_end);
END
$watermark$;
COMMENT ON FUNCTION ${ws}.watermark IS
  'Every event with a position up to the watermark is visible to the next statement of a transaction that reads committed; log_end is the highest position that is visible.';

CREATE FUNCTION ${ws}.end_stalled(longer_than_ms bigint) RETURNS bigint LANGUAGE sql VOLATILE ${pinned}
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

CREATE FUNCTION ${ws}.prove_writes(payload_bytes bigint) RETURNS void LANGUAGE plpgsql VOLATILE ${pinned}
AS $prove_writes$
DECLARE
  head record;
BEGIN
  BEGIN
    -- Touches no row that an append would wait for, and needs the right all the same.
    PERFORM FROM ${ws}.topics WHERE false FOR NO KEY UPDATE;
${mark(ws)}
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
`;
