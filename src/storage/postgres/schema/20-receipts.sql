-- Moves watermarks of many users by one statement, and tells of them in the transactions of the events that do [REC1] [REC2]:
-- nobody claims them any more. Appends, and changes what events speak of, in one transaction; the order of the steps of
-- append() is what everything rests on: docs/log.md has it, with what goes wrong in any other. What is looked up for each of a
-- list is written so that no plan can begin with the table instead.

ALTER TABLE ${ws}.receipts DROP COLUMN claimed_seq, DROP COLUMN claimed_at;

CREATE FUNCTION ${ws}.advance_receipts(
  given_topics text[], given_users text[], given_kinds text[], given_up_to bigint[], given_id_indexes bigint[], given_ids text[],
  now_ms bigint
) RETURNS TABLE (n bigint, up_to_seq bigint, advanced boolean, unread bigint, as_of_seq bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $advance_receipts$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH named AS MATERIALIZED (
    SELECT g.n, max(m.seq) AS seq FROM unnest(given_id_indexes, given_ids) AS g (n, id)
      CROSS JOIN LATERAL (SELECT t.topic_id FROM ${ws}.topics AS t WHERE t.name = given_topics[g.n] LIMIT 1) AS t
      CROSS JOIN LATERAL (
        SELECT e.seq FROM ${ws}.events AS e
        WHERE e.topic_id = t.topic_id AND e.id = g.id AND e.sender_id IS NOT NULL AND e.sender_id <> given_users[g.n]
          -- Of a deleted message only its payload says who had sent it; it is short.
          AND (e.sender_id <> '' OR strpos(e.payload, '"sender_id":' || to_json(given_users[g.n])::text) = 0)
        LIMIT 1) AS m
      GROUP BY g.n
  ), asked AS MATERIALIZED (
    SELECT g.n, t.topic_id, g.user_id, g.kind, h.seq AS head, r.seq AS current, r.joined, r.read_seq,
        greatest(least(g.up_to, h.seq), i.seq) AS target
      FROM unnest(given_topics, given_users, given_kinds, given_up_to) WITH ORDINALITY AS g (topic, user_id, kind, up_to, n)
      CROSS JOIN LATERAL (SELECT t.topic_id FROM ${ws}.topics AS t WHERE t.name = g.topic LIMIT 1) AS t
      CROSS JOIN LATERAL (
        -- Says the same as head_seq(), without a call for each.
        SELECT greatest(
          coalesce((SELECT e.seq FROM ${ws}.events AS e WHERE e.topic_id = t.topic_id ORDER BY e.seq DESC LIMIT 1), 0),
          coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = t.topic_id), 0)) AS seq) AS h
      CROSS JOIN LATERAL (
        SELECT coalesce(max(w.seq) FILTER (WHERE w.kind IN (g.kind, 'joined')), 0) AS seq,
          coalesce(max(w.seq) FILTER (WHERE w.kind = 'joined'), 0) AS joined,
          coalesce(max(w.seq) FILTER (WHERE w.kind IN ('read', 'read_private', 'joined')), 0) AS read_seq
        FROM ${ws}.receipts AS w WHERE w.topic_id = t.topic_id AND w.user_id = g.user_id) AS r
      LEFT JOIN named AS i ON i.n = g.n
  ), moves AS (
    -- Counts as told up to where the user has joined: what was before is nobody's to tell.
    SELECT a.topic_id, a.user_id, a.kind, a.target AS seq, a.joined AS sent_seq FROM asked AS a WHERE a.target > a.current
    UNION ALL
    -- The read event tells of what was delivered too: no delivered event is owed for what it covers.
    SELECT a.topic_id, a.user_id, 'delivered', a.target, a.target FROM asked AS a WHERE a.target > a.current AND a.kind = 'read'
  ), moved AS (
    INSERT INTO ${ws}.receipts AS r (topic_id, user_id, kind, seq, sent_seq, moved_at)
      -- By one order for everybody: whoever waits, waits for somebody further on.
      SELECT m.topic_id, m.user_id, m.kind, m.seq, m.sent_seq, now_ms FROM moves AS m ORDER BY m.topic_id, m.user_id, m.kind
      ON CONFLICT (topic_id, user_id, kind) DO UPDATE SET seq = greatest(r.seq, excluded.seq),
        sent_seq = CASE WHEN excluded.sent_seq = excluded.seq THEN greatest(r.sent_seq, excluded.sent_seq) ELSE r.sent_seq END,
        -- Stays at the first move that is not told yet, so that later ones cannot put its event off for ever.
        moved_at = CASE WHEN r.sent_seq < r.seq OR excluded.sent_seq = excluded.seq THEN r.moved_at ELSE excluded.moved_at END
      WHERE r.seq < excluded.seq OR excluded.sent_seq = excluded.seq AND r.sent_seq < excluded.sent_seq
    RETURNING r.topic_id, r.user_id, r.kind
  )
  SELECT a.n, greatest(a.current, a.target),
      EXISTS (SELECT FROM moved AS m WHERE m.topic_id = a.topic_id AND m.user_id = a.user_id AND m.kind = a.kind),
      (SELECT count(*) FROM ${ws}.events AS e WHERE e.topic_id = a.topic_id AND e.sender_id NOT IN ('', a.user_id)
        AND e.seq > CASE WHEN a.kind = 'delivered' THEN a.read_seq ELSE greatest(a.read_seq, a.target) END), a.head
    FROM asked AS a;
END
$advance_receipts$;
COMMENT ON FUNCTION ${ws}.advance_receipts IS
  'Moves how far users have read topics, or were given them: to named messages, or up to a number; each user once in a topic. Says up to where each is now, whether it has moved, and as of which number how much is unread; nothing of a topic without events.';

CREATE FUNCTION ${ws}.unsent_receipts(
  given_topics text[], given_users text[], moved_before bigint, page bigint, ids_told bigint
) RETURNS TABLE (topic text, user_id text, kind text, sent_seq bigint, up_to_seq bigint, message_ids json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $unsent_receipts$
#variable_conflict use_column
DECLARE
  owed ${ws}.receipts[];
BEGIN
  IF moved_before IS NULL THEN
    SELECT array_agg(r.kept) INTO owed FROM unnest(given_topics, given_users) AS g (topic, user_id)
      CROSS JOIN LATERAL (SELECT t.topic_id FROM ${ws}.topics AS t WHERE t.name = g.topic LIMIT 1) AS t
      CROSS JOIN LATERAL (
        SELECT r AS kept FROM ${ws}.receipts AS r WHERE r.topic_id = t.topic_id AND r.user_id = g.user_id OFFSET 0) AS r
      WHERE (r.kept).sent_seq < (r.kept).seq;
  ELSE
    SELECT array_agg(o) INTO owed FROM (
      SELECT r.* FROM ${ws}.receipts AS r WHERE r.sent_seq < r.seq AND r.moved_at < moved_before
      ORDER BY r.moved_at LIMIT page) AS o;
  END IF;
  RETURN QUERY
  SELECT t.name, o.user_id, o.kind, o.sent_seq, o.seq, c.ids FROM unnest(owed) AS o
    CROSS JOIN LATERAL (SELECT t.name FROM ${ws}.topics AS t WHERE t.topic_id = o.topic_id LIMIT 1) AS t
    CROSS JOIN LATERAL (
      SELECT coalesce(json_agg(m.id ORDER BY m.seq), '[]') AS ids FROM (
        SELECT e.id, e.seq FROM ${ws}.events AS e WHERE e.topic_id = o.topic_id AND e.sender_id NOT IN ('', o.user_id)
          AND e.seq > o.sent_seq AND e.seq <= o.seq ORDER BY e.seq DESC LIMIT ids_told) AS m) AS c;
END
$unsent_receipts$;
COMMENT ON FUNCTION ${ws}.unsent_receipts IS
  'Watermarks above what was told, of users in topics, or those that moved before a moment, the oldest first: each with the ids of others'' messages in between, the newest so many.';

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

CREATE FUNCTION ${ws}.compact(given_topics text[], given_keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $compact$
DECLARE
  replaced bigint[];
BEGIN
  SELECT array_agg(o.position) INTO replaced FROM (
      SELECT DISTINCT g.topic, g.key FROM unnest(given_topics, given_keys) AS g (topic, key) WHERE g.key IS NOT NULL) AS g
    CROSS JOIN LATERAL (SELECT t.topic_id FROM ${ws}.topics AS t WHERE t.name = g.topic LIMIT 1) AS t
    CROSS JOIN LATERAL (
      -- The one before the newest, for there is one at most; not everything below, for a snapshot may keep what was removed.
      SELECT e.position FROM ${ws}.events AS e
      WHERE e.topic_id = t.topic_id AND e.compaction_key = g.key AND e.position > coalesce(
        (SELECT r.trimmed_position FROM ${ws}.trims AS r WHERE r.topic_id = t.topic_id), 0)
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
  'Removes of topics that are locked the events that were replaced by newer ones of their keys; the keys of the others are null.';

-- A schema that was made between releases has one without tellings.
DROP FUNCTION IF EXISTS ${ws}.append(
  text[], text[], text[], text[], bigint[], text[], bigint[], text[], bigint[], text[], text[], bigint[], text[], text[]);
CREATE FUNCTION ${ws}.append(
  given_topics text[], given_ids text[], given_types text[], given_payloads text[], given_created_at bigint[],
  given_keys text[], given_key_indexes bigint[], given_digests text[], given_named bigint[],
  given_compaction_keys text[], given_sender_ids text[], given_units bigint[], names text[],
  given_amendments text[], given_tellings text
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
  untold bigint[];
  given bigint;
  head record;
  amendment text[];
  made text;
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

  -- A receipt is told by whoever moves what was told of it from where it was seen: nobody tells it again, nor of less.
  IF given_tellings IS NOT NULL THEN
    SELECT array_agg(t.n) INTO untold FROM ${ws}.tell_receipts(given_tellings, passed_over) AS t (n);
    RETURN QUERY SELECT t.n, NULL::bigint, NULL::bigint, NULL, NULL, NULL::bigint, NULL, 'unchanged' FROM unnest(untold) AS t (n);
    passed_over := passed_over || untold;
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
  PERFORM ${ws}.compact(given_topics, given_compaction_keys);
END
$append$;
COMMENT ON FUNCTION ${ws}.append IS
  'names: the topics, each once. Appends a batch in one transaction. A key may occur once in a batch; known keys are answered with their first numbers. outcome: why an amendment was not made. given_amendments: null, or a row for amend() each; given_tellings: null, or what tell_receipts() takes.';
