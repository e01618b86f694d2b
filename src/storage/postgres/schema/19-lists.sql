-- Reads what lists are drawn from: conversations with a user's place in them, their last message and others' receipts [REC3],
-- and pages of events of some types [LOG8]. By one plan, whatever the statistics say, in which every table is reached by an index.

CREATE FUNCTION ${ws}.overviews(
  given_asked bigint[], given_users text[], given_topics text[], given_told boolean[], given_room bigint[],
  message_bytes bigint, events_looked_at bigint, receipts_told bigint
) RETURNS TABLE (
  asked bigint, topic text, as_of_seq bigint, read_seq bigint, delivered_seq bigint, unread bigint, has_no_message boolean,
  receipts text, used bigint, seq bigint, "position" bigint, id text, type text, payload text, created_at bigint
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_mergejoin = off SET jit = off AS $overviews$
#variable_conflict use_column
BEGIN
  -- Every table is looked into for one row, or one topic's, at a time: what is hashed are the arguments alone.
  RETURN QUERY
  WITH asked AS MATERIALIZED (
    SELECT g.asked, g.user_id, g.topic, g.told, g.room, g.n
      FROM unnest(given_asked, given_users, given_topics, given_told, given_room) WITH ORDINALITY
        AS g (asked, user_id, topic, told, room, n)
  ), topics AS MATERIALIZED (
    -- What is the same for all who ask for a topic is read once.
    SELECT d.topic, t.topic_id, h.as_of_seq, m.seq AS message_seq, m.bytes, o.users, o.receipts,
        m.seq IS NULL AND (h.as_of_seq < events_looked_at OR (SELECT count(*) FROM (
          SELECT FROM ${ws}.events AS n WHERE n.topic_id = t.topic_id LIMIT events_looked_at) AS all_events) < events_looked_at
        ) AS has_no_message
      FROM (SELECT a.topic, bool_or(a.told) AS told FROM asked AS a GROUP BY a.topic) AS d
      CROSS JOIN LATERAL (SELECT i.topic_id FROM ${ws}.topics AS i WHERE i.name = d.topic LIMIT 1) AS t
      -- As head_seq() has it, without being planned each time.
      CROSS JOIN LATERAL (
        SELECT greatest(
          coalesce((SELECT n.seq FROM ${ws}.events AS n WHERE n.topic_id = t.topic_id ORDER BY n.seq DESC LIMIT 1), 0),
          coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = t.topic_id), 0)) AS as_of_seq) AS h
      LEFT JOIN LATERAL (
        -- Not further back: what may lie between are receipts, reactions and an application's own events, in any number.
        SELECT e.seq, octet_length(e.payload) + coalesce(octet_length(e.reactions), 0) AS bytes FROM (
          SELECT l.seq FROM (
            SELECT n.seq, n.sender_id FROM ${ws}.events AS n WHERE n.topic_id = t.topic_id
            ORDER BY n.seq DESC LIMIT events_looked_at) AS l
          WHERE l.sender_id IS NOT NULL ORDER BY l.seq DESC LIMIT 1) AS k
        JOIN ${ws}.events AS e ON e.topic_id = t.topic_id AND e.seq = k.seq LIMIT 1) AS m ON true
      LEFT JOIN LATERAL (
        SELECT array_agg(p.user_id) AS users,
          array_agg(format('{"user_id":%s,"read_seq":%s,"delivered_seq":%s}', to_json(p.user_id), p.read_seq, p.delivered_seq))
            AS receipts
        FROM (
          SELECT w.user_id, coalesce(max(w.seq) FILTER (WHERE w.kind = 'read'), 0) AS read_seq,
            max(w.seq) FILTER (WHERE w.kind IN ('read', 'delivered')) AS delivered_seq,
            max(w.moved_at) FILTER (WHERE w.kind IN ('read', 'delivered')) AS moved_at
          FROM ${ws}.receipts AS w WHERE w.topic_id = t.topic_id
          -- Neither who has only joined, nor read for himself, nor who has left.
          GROUP BY w.user_id HAVING bool_or(w.kind IN ('read', 'delivered')) AND NOT bool_or(w.kind = 'left')
          -- Of these who asks is not told of itself.
          ORDER BY moved_at DESC, w.user_id LIMIT receipts_told + 1) AS p) AS o ON d.told
  ), found AS (
    SELECT a.n, a.asked, a.topic, a.room, t.topic_id, t.as_of_seq, t.message_seq, t.bytes, t.has_no_message,
        r.read_seq, r.delivered_seq, u.unread, o.receipts
      FROM asked AS a JOIN topics AS t ON t.topic = a.topic CROSS JOIN LATERAL (
        SELECT coalesce(max(w.seq) FILTER (WHERE w.kind IN ('read', 'read_private', 'joined')), 0) AS read_seq,
          coalesce(max(w.seq) FILTER (WHERE w.kind IN ('delivered', 'read_private', 'joined')), 0) AS delivered_seq
        FROM ${ws}.receipts AS w WHERE w.topic_id = t.topic_id AND w.user_id = a.user_id) AS r
      CROSS JOIN LATERAL (
        SELECT count(*) AS unread FROM ${ws}.events AS n
        WHERE n.topic_id = t.topic_id AND n.seq > r.read_seq AND n.sender_id NOT IN ('', a.user_id)) AS u
      LEFT JOIN LATERAL (
        SELECT '[' || coalesce(string_agg(p.receipt, ','), '') || ']' AS receipts FROM (
          SELECT l.receipt FROM unnest(t.users, t.receipts) WITH ORDINALITY AS l (user_id, receipt, n)
          WHERE l.user_id <> a.user_id ORDER BY l.n LIMIT receipts_told) AS p) AS o ON a.told
  ), sized AS (
    SELECT f.*, f.bytes <= message_bytes AS fits, coalesce(octet_length(f.receipts), 0) AS receipt_bytes,
        sum(CASE WHEN f.bytes <= message_bytes THEN f.bytes ELSE 0 END + coalesce(octet_length(f.receipts), 0))
          OVER (PARTITION BY f.asked ORDER BY f.n) AS through
      FROM found AS f
  ), shown AS (
    SELECT s.*, CASE WHEN s.fits AND s.through - s.receipt_bytes <= s.room THEN s.message_seq END AS shown_seq FROM sized AS s
  ), counted AS (
    SELECT s.*, row_number() OVER (PARTITION BY s.topic_id, s.shown_seq ORDER BY s.n) AS nth FROM shown AS s
  )
  SELECT s.asked, s.topic, s.as_of_seq, s.read_seq, s.delivered_seq, s.unread, s.has_no_message,
      CASE WHEN s.through <= s.room THEN s.receipts END, s.through, s.shown_seq, e.position, e.id, e.type, e.payload, e.created_at
    FROM counted AS s LEFT JOIN LATERAL (
      SELECT n.position, n.id, n.type, CASE WHEN n.reactions IS NULL THEN n.payload
          ELSE left(n.payload, -1) || ',"reactions":' || n.reactions || '}' END AS payload, n.created_at
        FROM ${ws}.events AS n WHERE n.topic_id = s.topic_id AND n.seq = s.shown_seq LIMIT 1) AS e ON s.nth = 1
    ORDER BY s.n;
END
$overviews$;
COMMENT ON FUNCTION ${ws}.overviews IS
  'How far users have read topics, how many messages of others came after that, the last message and how far the others are, where told. What is beyond room, in bytes for each question (asked), is left out; used: bytes with it. A message is whole in its first row, and then its seq alone.';

CREATE FUNCTION ${ws}.page_of(
  given_topic text, given_types text[], after_seq bigint, before_seq bigint, backwards boolean, page bigint, events_looked_at bigint
) RETURNS TABLE (
  reached bigint, looked_at bigint, topic text, seq bigint, "position" bigint, id text, type text, payload text,
  created_at bigint
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $page_of$
#variable_conflict use_column
DECLARE
  of_topic bigint;
BEGIN
  SELECT t.topic_id INTO of_topic FROM ${ws}.topics AS t WHERE t.name = given_topic;
  IF backwards THEN
    RETURN QUERY
    WITH seen AS MATERIALIZED (
      SELECT n.seq, n.type FROM ${ws}.events AS n WHERE n.topic_id = of_topic AND n.seq < before_seq
      ORDER BY n.seq DESC LIMIT events_looked_at
    ), wanted AS MATERIALIZED (
      SELECT s.seq FROM seen AS s WHERE s.type = ANY (given_types) ORDER BY s.seq DESC LIMIT page
    )
    SELECT r.reached, r.looked_at, given_topic, e.seq, e.position, e.id, e.type, CASE WHEN e.reactions IS NULL THEN e.payload
        ELSE left(e.payload, -1) || ',"reactions":' || e.reactions || '}' END,
      e.created_at
      FROM (SELECT min(s.seq) AS reached, count(*) AS looked_at FROM seen AS s) AS r
      LEFT JOIN (wanted AS w JOIN ${ws}.events AS e ON e.topic_id = of_topic AND e.seq = w.seq) ON true;
  ELSE
    RETURN QUERY
    WITH seen AS MATERIALIZED (
      SELECT n.seq, n.type FROM ${ws}.events AS n WHERE n.topic_id = of_topic AND n.seq > after_seq
      ORDER BY n.seq LIMIT events_looked_at
    ), wanted AS MATERIALIZED (
      SELECT s.seq FROM seen AS s WHERE s.type = ANY (given_types) ORDER BY s.seq LIMIT page
    )
    SELECT r.reached, r.looked_at, given_topic, e.seq, e.position, e.id, e.type, CASE WHEN e.reactions IS NULL THEN e.payload
        ELSE left(e.payload, -1) || ',"reactions":' || e.reactions || '}' END,
      e.created_at
      FROM (SELECT max(s.seq) AS reached, count(*) AS looked_at FROM seen AS s) AS r
      LEFT JOIN (wanted AS w JOIN ${ws}.events AS e ON e.topic_id = of_topic AND e.seq = w.seq) ON true;
  END IF;
END
$page_of$;
COMMENT ON FUNCTION ${ws}.page_of IS
  'Of the next events of a topic those of some types, oldest or newest first; one row without any (id is null) where there are none.';
