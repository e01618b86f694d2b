-- Appends, and changes what events speak of, in one transaction; the order of the steps is what everything rests on: docs/log.md
-- has it, with what goes wrong in any other. Few and small statements: what one costs is mostly that it begins.

-- A schema that was made between releases has one without tellings.
DROP FUNCTION IF EXISTS ${ws}.append(
  text[], text[], text[], text[], bigint[], text[], bigint[], text[], bigint[], text[], text[], bigint[], text[], text[]);
CREATE FUNCTION ${ws}.append(
  names text[], given_topics integer[], given_ids text[], given_types text[], given_payloads text[], given_created_at bigint[],
  given_sender_ids text[], given_units bigint[], given_keys text[], given_key_indexes bigint[], given_digests text[],
  given_named bigint[], given_compaction_keys text[], given_amendments text[], given_tellings text
) RETURNS TABLE (
  n bigint, seq bigint, "position" bigint, topic text, id text, created_at bigint, digest text, outcome text
)
-- One plan, whatever the statistics say, in which every table is reached by an index. Functions and operators of other schemas
-- are never looked for.
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $append$
#variable_conflict use_column
DECLARE
  found_names text[];
  crowded text[];
  -- Topics that are to be locked.
  wanted text[] := names;
  firsts ${ws}.idempotency_keys[];
  -- Of what is not appended: left alone, known by a key or by its id, not made, or not told.
  passed_over bigint[];
  untold bigint[];
  given bigint;
  amendment text[];
  made text;
  -- Of each topic.
  only_id bigint;
  topic_ids bigint[];
  heads bigint[];
  newest bigint;
  place integer;
  floor_position bigint;
  -- Of each event.
  seqs bigint[];
  positions bigint[];
  is_replaced boolean[];
BEGIN
  -- Waits for the disk, whatever the database has as its default: an event that somebody was told of is there after a power cut.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;

  -- Locks are held until the commit: what is visible of a topic has no hole, and its positions grow with its numbers.
  -- One that nobody has is had at once.
  IF cardinality(names) = 1 THEN
    SELECT t.topic_id INTO only_id FROM ${ws}.topics AS t WHERE t.name = names[1] FOR NO KEY UPDATE SKIP LOCKED;
  END IF;
  IF only_id IS NULL THEN
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
    IF crowded IS NOT NULL AND given_units IS NOT NULL THEN
      -- Waits for one who has a topic, and one who waits for it: that is a commit or two. Leaves it alone where more wait.
      -- A row's lock is not in pg_locks; but the first who waits for it holds a lock of type `tuple`, named by page and line, as
      -- ctid is, and all others wait for that one: they are not granted. A ctid stays, for a topic's row is never updated.
      SELECT array_agg(t.name) INTO crowded FROM ${ws}.topics AS t WHERE t.name = ANY (crowded) AND t.ctid IN (
        SELECT format('(%s,%s)', l.page, l.tuple)::tid FROM pg_locks AS l
          WHERE l.locktype = 'tuple' AND l.relation = '${ws}.topics'::regclass AND NOT l.granted);
      IF crowded IS NOT NULL THEN
        SELECT array_agg(g.n) INTO passed_over FROM unnest(given_units) WITH ORDINALITY AS g (unit, n)
          WHERE g.unit IN (SELECT u.unit FROM unnest(given_topics, given_units) AS u (topic, unit)
            WHERE names[u.topic] = ANY (crowded));
        RETURN QUERY SELECT g.n, NULL::bigint, NULL::bigint, NULL, NULL, NULL::bigint, NULL, NULL
          FROM unnest(passed_over) AS g (n);
        SELECT array_agg(DISTINCT names[g.topic]) INTO wanted
          FROM unnest(given_topics) WITH ORDINALITY AS g (topic, n) WHERE g.n <> ALL (passed_over);
        IF wanted IS NULL THEN
          RETURN;
        END IF;
      END IF;
    END IF;
    PERFORM FROM ${ws}.topics AS t WHERE t.name = ANY (wanted) ORDER BY t.topic_id FOR NO KEY UPDATE;
  END IF;

  -- Reads what is known under the locks: heads, as head_seq() has them, without a call for each, and keys. A key is of one topic,
  -- so that whoever has used it has committed by now.
  IF only_id IS NULL THEN
    SELECT array_agg(h.topic_id ORDER BY g.place), array_agg(h.seq ORDER BY g.place),
        (SELECT e.position FROM ${ws}.events AS e ORDER BY e.position DESC LIMIT 1),
        (SELECT array_agg(k) FROM ${ws}.idempotency_keys AS k WHERE k.key = ANY (given_keys))
      INTO topic_ids, heads, newest, firsts
      FROM unnest(names) WITH ORDINALITY AS g (name, place) LEFT JOIN LATERAL (
        SELECT t.topic_id, greatest(
            coalesce((SELECT n.seq FROM ${ws}.events AS n WHERE n.topic_id = t.topic_id ORDER BY n.seq DESC LIMIT 1), 0),
            coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = t.topic_id), 0)) AS seq
          FROM ${ws}.topics AS t WHERE t.name = g.name LIMIT 1) AS h ON true;
  ELSE
    topic_ids := ARRAY[only_id];
    SELECT ARRAY[greatest(
        coalesce((SELECT n.seq FROM ${ws}.events AS n WHERE n.topic_id = only_id ORDER BY n.seq DESC LIMIT 1), 0),
        coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = only_id), 0))],
      (SELECT e.position FROM ${ws}.events AS e ORDER BY e.position DESC LIMIT 1),
      (SELECT array_agg(k) FROM ${ws}.idempotency_keys AS k WHERE k.key = ANY (given_keys)) INTO heads, newest, firsts;
  END IF;
  IF firsts IS NOT NULL THEN
    RETURN QUERY SELECT g.n, f.seq, f.position, f.topic, f.event_id, f.created_at, f.digest, NULL
      FROM unnest(given_keys, given_key_indexes) AS g (key, n) JOIN unnest(firsts) AS f ON f.key = g.key
      WHERE passed_over IS NULL OR g.n <> ALL (passed_over);
    SELECT passed_over || array_agg(g.n) INTO passed_over FROM unnest(given_keys, given_key_indexes) AS g (key, n)
      WHERE g.key IN (SELECT f.key FROM unnest(firsts) AS f);
  END IF;
  IF given_named IS NOT NULL THEN
    FOREACH given IN ARRAY given_named LOOP
      CONTINUE WHEN given = ANY (passed_over);
      -- Equals no digest: what was said then is not known.
      RETURN QUERY SELECT given, e.seq, e.position, names[given_topics[given]], e.id, e.created_at, '', NULL
        FROM ${ws}.events AS e
        WHERE e.topic_id = topic_ids[given_topics[given]] AND e.id = given_ids[given] AND e.sender_id IS NOT NULL LIMIT 1;
      IF FOUND THEN
        passed_over := array_append(passed_over, given);
      END IF;
    END LOOP;
  END IF;
  -- One by one in the order of the batch. What is not made is not told either.
  IF given_amendments IS NOT NULL THEN
    FOREACH amendment SLICE 1 IN ARRAY given_amendments LOOP
      given := amendment[1]::bigint;
      CONTINUE WHEN given = ANY (passed_over);
      made := ${ws}.amend(names[given_topics[given]], amendment);
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
  IF given_compaction_keys IS NOT NULL THEN
    -- Has its number and is not written where a later event of the batch replaces it.
    SELECT array_agg(r.is_replaced ORDER BY r.n) INTO is_replaced FROM (
      SELECT g.n, g.key IS NOT NULL AND g.n < max(g.n) FILTER (WHERE passed_over IS NULL OR g.n <> ALL (passed_over))
          OVER (PARTITION BY g.topic, g.key) AS is_replaced
        FROM unnest(given_topics, given_compaction_keys) WITH ORDINALITY AS g (topic, key, n)) AS r;
  END IF;

  -- From here until the commit no cursor passes what was given out before: every number drawn below is above the floor. It is
  -- read after what is visible, which was drawn before. Does the same as set_append_floor(), without a call.
  floor_position := coalesce(pg_sequence_last_value('${ws}.positions'), 0);
  IF floor_position < newest THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the sequence ${ws}.positions is behind the log. '
      'Run: SELECT setval(''${ws}.positions'', (SELECT max(position) FROM ${ws}.events))';
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared('${ws}.positions'::regclass::oid::integer,
      ((floor_position + 2147483648) % 4294967296 - 2147483648)::integer) THEN
    RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = 'another session holds an advisory lock that appends take: '
      'look for ${ws}.positions (classid) in pg_locks';
  END IF;
  n := 0;
  FOREACH place IN ARRAY given_topics LOOP
    n := n + 1;
    IF n = ANY (passed_over) THEN
      seqs := array_append(seqs, NULL);
      positions := array_append(positions, NULL);
    ELSE
      seq := heads[place] + 1;
      heads[place] := seq;
      position := nextval('${ws}.positions');
      seqs := array_append(seqs, seq);
      positions := array_append(positions, position);
      RETURN NEXT;
    END IF;
  END LOOP;
  INSERT INTO ${ws}.events (topic_id, position, seq, created_at, id, type, payload, compaction_key, sender_id)
    SELECT topic_ids[given_topics[g.n]], positions[g.n], seqs[g.n], given_created_at[g.n], given_ids[g.n], given_types[g.n],
        given_payloads[g.n], given_compaction_keys[g.n], given_sender_ids[g.n]
      FROM generate_subscripts(seqs, 1) AS g (n) WHERE seqs[g.n] IS NOT NULL AND is_replaced[g.n] IS NOT TRUE;
  IF given_keys IS NOT NULL THEN
    INSERT INTO ${ws}.idempotency_keys (key, topic, seq, position, event_id, created_at, digest)
      SELECT k.key, names[given_topics[k.n]], seqs[k.n], positions[k.n], given_ids[k.n], given_created_at[k.n],
          -- What an edit said is forgotten with it.
          CASE WHEN given_amendments IS NULL OR is_replaced[k.n] IS NOT TRUE THEN given_digests[k.n] END
        FROM unnest(given_keys, given_key_indexes) AS k (key, n) WHERE seqs[k.n] IS NOT NULL;
  END IF;
  IF given_compaction_keys IS NOT NULL THEN
    PERFORM ${ws}.compact(topic_ids, given_topics, given_compaction_keys);
  END IF;
END
$append$;
COMMENT ON FUNCTION ${ws}.append IS
  'names: the topics, each once; given_topics: of each event, which of them, from 1. What no event has is null. Appends a batch in one transaction. A key may occur once in a batch; known keys are answered with their first numbers. outcome: why an amendment was not made. given_amendments: null, or a row for amend() each; given_tellings: null, or what tell_receipts() takes.';
