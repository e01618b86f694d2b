-- Moves watermarks of many users by one statement, and tells of them in the transactions of the events that do [REC1] [REC2]:
-- nobody claims them any more. What is looked up for each of a list is written so that no plan can begin with the table instead.

ALTER TABLE ${ws}.receipts DROP COLUMN claimed_seq, DROP COLUMN claimed_at;

CREATE FUNCTION ${ws}.advance_receipts(
  names text[], given_topics integer[], given_users text[], given_kinds text[], given_up_to bigint[], given_ids text[],
  given_ends integer[], now_ms bigint
) RETURNS TABLE (n bigint, up_to_seq bigint, advanced boolean, unread bigint, as_of_seq bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $advance_receipts$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH known AS MATERIALIZED (
    -- Once for each topic; heads as head_seq() has them, without a call for each.
    SELECT array_agg(t.topic_id ORDER BY g.place) AS topic_ids, array_agg(t.seq ORDER BY g.place) AS heads
      FROM unnest(names) WITH ORDINALITY AS g (name, place) LEFT JOIN LATERAL (
        SELECT t.topic_id, greatest(
            coalesce((SELECT e.seq FROM ${ws}.events AS e WHERE e.topic_id = t.topic_id ORDER BY e.seq DESC LIMIT 1), 0),
            coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = t.topic_id), 0)) AS seq
          FROM ${ws}.topics AS t WHERE t.name = g.name LIMIT 1) AS t ON true
  ), asked AS MATERIALIZED (
    SELECT g.n, g.topic_id, g.user_id, g.kind, g.head, r.*, greatest(least(g.up_to, g.head), (
        SELECT max(m.seq) FROM unnest(given_ids[coalesce(given_ends[g.n - 1], 0) + 1:given_ends[g.n]]) AS i (id)
          CROSS JOIN LATERAL (
            SELECT e.seq FROM ${ws}.events AS e
            WHERE e.topic_id = g.topic_id AND e.id = i.id AND e.sender_id IS NOT NULL AND e.sender_id <> g.user_id
              -- Of a deleted message only its payload says who had sent it; it is short.
              AND (e.sender_id <> '' OR strpos(e.payload, '"sender_id":' || to_json(g.user_id)::text) = 0)
            LIMIT 1) AS m)) AS target
      FROM (
        SELECT u.n, u.user_id, u.kind, u.up_to, (SELECT k.topic_ids FROM known AS k)[u.place] AS topic_id,
            (SELECT k.heads FROM known AS k)[u.place] AS head
          FROM unnest(given_topics, given_users, given_kinds, given_up_to) WITH ORDINALITY AS u (place, user_id, kind, up_to, n)
          OFFSET 0) AS g
      CROSS JOIN LATERAL (
        SELECT coalesce(max(w.seq) FILTER (WHERE w.kind IN (g.kind, 'joined')), 0) AS current,
          coalesce(max(w.seq) FILTER (WHERE w.kind = 'joined'), 0) AS joined,
          coalesce(max(w.seq) FILTER (WHERE w.kind IN ('read', 'read_private', 'joined')), 0) AS read_seq
        FROM ${ws}.receipts AS w WHERE w.topic_id = g.topic_id AND w.user_id = g.user_id) AS r
      WHERE g.topic_id IS NOT NULL
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
      (a.topic_id, a.user_id, a.kind) IN (SELECT m.topic_id, m.user_id, m.kind FROM moved AS m),
      (SELECT count(*) FROM ${ws}.events AS e WHERE e.topic_id = a.topic_id AND e.sender_id NOT IN ('', a.user_id)
        AND e.seq > CASE WHEN a.kind = 'delivered' THEN a.read_seq ELSE greatest(a.read_seq, a.target) END), a.head
    FROM asked AS a;
END
$advance_receipts$;
COMMENT ON FUNCTION ${ws}.advance_receipts IS
  'Moves how far users have read topics, or were given them: to named messages, or up to a number; each user once in a topic. names: the topics, each once; given_topics: of each mark, which of them, from 1; given_ends: where in given_ids those of each mark end. Says up to where each is now, whether it has moved, and as of which number how much is unread; nothing of a topic without events.';

CREATE FUNCTION ${ws}.unsent_receipts(
  names text[], given_topics integer[], given_users text[], moved_before bigint, page bigint, ids_told bigint
) RETURNS TABLE (topic text, user_id text, kind text, sent_seq bigint, up_to_seq bigint, newest_first json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $unsent_receipts$
#variable_conflict use_column
DECLARE
  topic_ids CONSTANT bigint[] := ARRAY(
    SELECT (SELECT t.topic_id FROM ${ws}.topics AS t WHERE t.name = g.name) FROM unnest(names) AS g (name));
BEGIN
  RETURN QUERY
  SELECT o.name, o.user_id, o.kind, o.sent_seq, o.seq, to_json(ARRAY(
      SELECT e.id FROM ${ws}.events AS e WHERE e.topic_id = o.topic_id AND e.sender_id NOT IN ('', o.user_id)
        AND e.seq > o.sent_seq AND e.seq <= o.seq ORDER BY e.seq DESC LIMIT ids_told))
    FROM (
      SELECT names[g.place] AS name, r.* FROM unnest(given_topics, given_users) AS g (place, user_id)
        CROSS JOIN LATERAL (
          SELECT r.topic_id, r.user_id, r.kind, r.sent_seq, r.seq FROM ${ws}.receipts AS r
            WHERE r.topic_id = topic_ids[g.place] AND r.user_id = g.user_id OFFSET 0) AS r
        WHERE moved_before IS NULL AND r.sent_seq < r.seq
      UNION ALL
      SELECT (SELECT t.name FROM ${ws}.topics AS t WHERE t.topic_id = r.topic_id), r.* FROM (
          SELECT r.topic_id, r.user_id, r.kind, r.sent_seq, r.seq FROM ${ws}.receipts AS r
            WHERE r.sent_seq < r.seq AND r.moved_at < moved_before ORDER BY r.moved_at LIMIT page) AS r
        WHERE moved_before IS NOT NULL) AS o;
END
$unsent_receipts$;
COMMENT ON FUNCTION ${ws}.unsent_receipts IS
  'Watermarks above what was told, of users in topics (of each, which of the names, from 1), or those that moved before a moment, the oldest first: each with the ids of others'' messages in between, the newest so many.';

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
