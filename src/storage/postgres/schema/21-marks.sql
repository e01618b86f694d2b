-- Moves watermarks of many users by one statement, which says what is owed of each [REC1] [REC2]. Rows of receipts change in their
-- place: no index has what changes of them, and what was moved and may not be told yet stands in a table of its own.

CREATE TABLE ${ws}.marks (
  moved_at bigint NOT NULL,
  topic_ids bigint[] NOT NULL,
  user_ids text[] NOT NULL
);
COMMENT ON TABLE ${ws}.marks IS
  'Names for each statement the users whose watermarks it has moved, and in which topics, at the same place of both; goes some seconds after all of them are told.';
CREATE INDEX marks_by_age ON ${ws}.marks (moved_at);
INSERT INTO ${ws}.marks SELECT r.moved_at, ARRAY[r.topic_id], ARRAY[r.user_id] FROM ${ws}.receipts AS r WHERE r.sent_seq < r.seq;
DROP INDEX ${ws}.receipts_unsent;

CREATE FUNCTION ${ws}.mark_receipts(
  names text[], given_topics integer[], given_users text[], given_kinds text[], given_up_to bigint[], given_ids text[],
  given_ends integer[], now_ms bigint, ids_told bigint
) RETURNS TABLE (
  n bigint, up_to_seq bigint, advanced boolean, unread bigint, as_of_seq bigint, sent_seq bigint, newest_first json
)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $mark_receipts$
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
          -- As it is seen before it moves: where another moves it as well, an event that tells from there is not appended.
          coalesce(max(w.sent_seq) FILTER (WHERE w.kind = g.kind), max(w.seq) FILTER (WHERE w.kind = 'joined'), 0) AS sent,
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
    RETURNING r.topic_id, r.user_id, r.kind, r.sent_seq < r.seq AS is_owed
  ), noted AS (
    INSERT INTO ${ws}.marks (moved_at, topic_ids, user_ids)
      SELECT now_ms, array_agg(m.topic_id), array_agg(m.user_id) FROM moved AS m WHERE m.is_owed HAVING count(*) > 0
  )
  SELECT a.n, a.up_to_seq, a.advanced,
      (SELECT count(*) FROM unnest(c.senders, c.seqs) AS m (sender, seq) WHERE m.seq > a.read_seq AND m.sender <> a.user_id),
      a.head, a.sent, CASE WHEN a.advanced AND ids_told > 0 THEN to_json(ARRAY(
        SELECT e.id FROM ${ws}.events AS e WHERE e.topic_id = a.topic_id AND e.sender_id <> '' AND e.sender_id <> a.user_id
          AND e.seq > a.sent AND e.seq <= a.up_to_seq ORDER BY e.seq DESC LIMIT ids_told)) END
    -- Looks at the messages of a topic once for all who have marked it.
    FROM (
      SELECT g.topic_id, array_agg(e.sender_id) AS senders, array_agg(e.seq) AS seqs FROM (
          SELECT s.topic_id, min(s.read_seq) AS first FROM asked AS s GROUP BY s.topic_id) AS g
        LEFT JOIN LATERAL (
          SELECT e.sender_id, e.seq FROM ${ws}.events AS e
            WHERE e.topic_id = g.topic_id AND e.seq > g.first AND e.sender_id <> '' OFFSET 0) AS e ON true
        GROUP BY g.topic_id) AS c
    JOIN (
      SELECT s.n, s.topic_id, s.user_id, s.head, s.sent, greatest(s.current, s.target) AS up_to_seq,
          (s.topic_id, s.user_id, s.kind) IN (SELECT m.topic_id, m.user_id, m.kind FROM moved AS m) AS advanced,
          CASE WHEN s.kind = 'delivered' THEN s.read_seq ELSE greatest(s.read_seq, s.target) END AS read_seq
        FROM asked AS s OFFSET 0) AS a ON a.topic_id = c.topic_id;
END
$mark_receipts$;
COMMENT ON FUNCTION ${ws}.mark_receipts IS
  'Moves how far users have read topics, or were given them: to named messages, or up to a number; each user once in a topic. names: the topics, each once; given_topics: of each mark, which of them, from 1; given_ends: where in given_ids those of each mark end. Says up to where each is now, whether it has moved, and as of which number how much is unread; of what has moved up to where it was told, and the ids of others'' messages that are not, the newest so many; nothing of a topic without events.';

-- Called by nodes of before, while they are replaced.
CREATE OR REPLACE FUNCTION ${ws}.advance_receipts(
  names text[], given_topics integer[], given_users text[], given_kinds text[], given_up_to bigint[], given_ids text[],
  given_ends integer[], now_ms bigint
) RETURNS TABLE (n bigint, up_to_seq bigint, advanced boolean, unread bigint, as_of_seq bigint)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $advance_receipts$
  SELECT m.n, m.up_to_seq, m.advanced, m.unread, m.as_of_seq FROM ${ws}.mark_receipts(
    names, given_topics, given_users, given_kinds, given_up_to, given_ids, given_ends, now_ms, 0) AS m;
$advance_receipts$;
COMMENT ON FUNCTION ${ws}.advance_receipts IS 'As mark_receipts(), which says more.';

CREATE OR REPLACE FUNCTION ${ws}.unsent_receipts(
  names text[], given_topics integer[], given_users text[], moved_before bigint, page bigint, ids_told bigint
) RETURNS TABLE (topic text, user_id text, kind text, sent_seq bigint, up_to_seq bigint, newest_first json)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $unsent_receipts$
#variable_conflict use_column
DECLARE
  topic_ids CONSTANT bigint[] := ARRAY(
    SELECT (SELECT t.topic_id FROM ${ws}.topics AS t WHERE t.name = g.name) FROM unnest(names) AS g (name));
  rows_looked_at CONSTANT bigint := 10000;
BEGIN
  RETURN QUERY
  WITH noted AS MATERIALIZED (
    SELECT m.ctid AS place, m.* FROM ${ws}.marks AS m WHERE m.moved_at < moved_before ORDER BY m.moved_at LIMIT rows_looked_at
      -- Of many nodes that look one has each.
      FOR UPDATE SKIP LOCKED
  ), left_behind AS MATERIALIZED (
    SELECT m.place, r.* FROM noted AS m CROSS JOIN LATERAL unnest(m.topic_ids, m.user_ids) AS g (topic_id, user_id)
      CROSS JOIN LATERAL (
        SELECT r.topic_id, r.user_id, r.kind, r.sent_seq, r.seq, r.moved_at FROM ${ws}.receipts AS r
          WHERE r.topic_id = g.topic_id AND r.user_id = g.user_id AND r.sent_seq < r.seq
            AND r.moved_at < moved_before OFFSET 0) AS r
  ), gone AS (
    -- Of what has moved since there is a later row.
    DELETE FROM ${ws}.marks AS m USING noted AS l WHERE m.ctid = l.place AND l.place NOT IN (SELECT b.place FROM left_behind AS b)
  )
  SELECT o.name, o.user_id, o.kind, o.sent_seq, o.seq, to_json(ARRAY(
      SELECT e.id FROM ${ws}.events AS e WHERE e.topic_id = o.topic_id AND e.sender_id <> '' AND e.sender_id <> o.user_id
        AND e.seq > o.sent_seq AND e.seq <= o.seq ORDER BY e.seq DESC LIMIT ids_told))
    FROM (
      SELECT names[g.place] AS name, r.* FROM unnest(given_topics, given_users) AS g (place, user_id)
        CROSS JOIN LATERAL (
          SELECT r.topic_id, r.user_id, r.kind, r.sent_seq, r.seq FROM ${ws}.receipts AS r
            WHERE r.topic_id = topic_ids[g.place] AND r.user_id = g.user_id OFFSET 0) AS r
        WHERE moved_before IS NULL AND r.sent_seq < r.seq
      UNION ALL
      SELECT (SELECT t.name FROM ${ws}.topics AS t WHERE t.topic_id = r.topic_id), r.* FROM (
          SELECT b.topic_id, b.user_id, b.kind, b.sent_seq, b.seq FROM left_behind AS b
            -- Moved more than once, it is noted as often.
            GROUP BY b.topic_id, b.user_id, b.kind, b.sent_seq, b.seq
            ORDER BY min(b.moved_at) LIMIT page) AS r) AS o;
END
$unsent_receipts$;
COMMENT ON FUNCTION ${ws}.unsent_receipts IS
  'Watermarks above what was told, of users in topics (of each, which of the names, from 1), or those that moved before a moment, the oldest first: each with the ids of others'' messages in between, the newest so many.';

CREATE OR REPLACE FUNCTION ${ws}.erase_receipts(given_user text, after_topic bigint, page bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $erase_receipts$
DECLARE
  next_topic bigint;
BEGIN
  WITH topics AS MATERIALIZED (
    SELECT t.topic_id FROM ${ws}.topics AS t WHERE t.topic_id > after_topic ORDER BY t.topic_id LIMIT page
  ), gone AS (
    DELETE FROM ${ws}.receipts AS r USING topics AS t WHERE r.topic_id = t.topic_id AND r.user_id = given_user
  )
  SELECT CASE WHEN count(*) = page THEN max(t.topic_id) END INTO next_topic FROM topics AS t;
  IF next_topic IS NULL THEN
    -- Leaves the others of the statement, who may not be told yet.
    UPDATE ${ws}.marks AS m SET user_ids = array_replace(m.user_ids, given_user, '') WHERE given_user = ANY (m.user_ids);
  END IF;
  RETURN next_topic;
END
$erase_receipts$;
COMMENT ON FUNCTION ${ws}.erase_receipts IS 'Removes a user''s watermarks of a page of topics; returns the last topic, null where there are no more.';
