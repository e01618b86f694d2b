-- Reads what lists are drawn from: conversations with a user's place in them, their last message and others' receipts [REC3],
-- and pages of events of some types [LOG8]. By one plan, whatever the statistics say, in which every table is reached by an index.

CREATE FUNCTION ${ws}.overviews(
  given_user text, given_topics text[], given_told boolean[], message_bytes bigint, room bigint, events_looked_at bigint,
  receipts_told bigint
) RETURNS TABLE (
  topic text, as_of_seq bigint, read_seq bigint, delivered_seq bigint, unread bigint, has_no_message boolean, receipts text, used bigint,
  seq bigint, "position" bigint, id text, type text, payload text, created_at bigint
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $overviews$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH asked AS MATERIALIZED (
    SELECT g.n, g.topic, g.told, t.topic_id, ${ws}.head_seq(t.topic_id) AS as_of_seq
      FROM unnest(given_topics, given_told) WITH ORDINALITY AS g (topic, told, n) JOIN ${ws}.topics AS t ON t.name = g.topic
  ), found AS (
    SELECT a.n, a.topic, a.topic_id, a.as_of_seq, r.read_seq, r.delivered_seq, u.unread, m.seq AS message_seq,
        octet_length(e.payload) + coalesce(octet_length(e.reactions), 0) AS bytes, o.receipts
      FROM asked AS a CROSS JOIN LATERAL (
        SELECT coalesce(max(w.seq) FILTER (WHERE w.kind IN ('read', 'read_private', 'joined')), 0) AS read_seq,
          coalesce(max(w.seq) FILTER (WHERE w.kind IN ('delivered', 'read_private', 'joined')), 0) AS delivered_seq
        FROM ${ws}.receipts AS w WHERE w.topic_id = a.topic_id AND w.user_id = given_user) AS r
      CROSS JOIN LATERAL (
        SELECT count(*) AS unread FROM ${ws}.events AS n
        WHERE n.topic_id = a.topic_id AND n.seq > r.read_seq AND n.sender_id NOT IN ('', given_user)) AS u
      LEFT JOIN LATERAL (
        -- Not further back: what may lie between are receipts, reactions and an application's own events, in any number.
        SELECT l.seq FROM (
          SELECT n.seq, n.sender_id FROM ${ws}.events AS n WHERE n.topic_id = a.topic_id
          ORDER BY n.seq DESC LIMIT events_looked_at) AS l
        WHERE l.sender_id IS NOT NULL ORDER BY l.seq DESC LIMIT 1) AS m ON true
      LEFT JOIN ${ws}.events AS e ON e.topic_id = a.topic_id AND e.seq = m.seq
      LEFT JOIN LATERAL (
        SELECT '[' || coalesce(string_agg(format('{"user_id":%s,"read_seq":%s,"delivered_seq":%s}',
            to_json(p.user_id), p.read_seq, p.delivered_seq), ',' ORDER BY p.moved_at DESC, p.user_id), '') || ']' AS receipts
        FROM (
          SELECT w.user_id, coalesce(max(w.seq) FILTER (WHERE w.kind = 'read'), 0) AS read_seq,
            max(w.seq) FILTER (WHERE w.kind IN ('read', 'delivered')) AS delivered_seq,
            max(w.moved_at) FILTER (WHERE w.kind IN ('read', 'delivered')) AS moved_at
          FROM ${ws}.receipts AS w WHERE w.topic_id = a.topic_id AND w.user_id <> given_user
          -- Neither who has only joined, nor read for himself, nor who has left.
          GROUP BY w.user_id HAVING bool_or(w.kind IN ('read', 'delivered')) AND NOT bool_or(w.kind = 'left')
          ORDER BY moved_at DESC, w.user_id LIMIT receipts_told) AS p) AS o ON a.told
  ), sized AS (
    SELECT f.*, f.bytes <= message_bytes AS fits, coalesce(octet_length(f.receipts), 0) AS receipt_bytes,
        sum(CASE WHEN f.bytes <= message_bytes THEN f.bytes ELSE 0 END + coalesce(octet_length(f.receipts), 0))
          OVER (ORDER BY f.n) AS through
      FROM found AS f
  )
  SELECT s.topic, s.as_of_seq, s.read_seq, s.delivered_seq, s.unread,
      s.message_seq IS NULL AND (SELECT count(*) FROM (
        SELECT FROM ${ws}.events AS n WHERE n.topic_id = s.topic_id LIMIT events_looked_at) AS all_events) < events_looked_at,
      CASE WHEN s.through <= room THEN s.receipts END, s.through,
      e.seq, e.position, e.id, e.type, CASE WHEN e.reactions IS NULL THEN e.payload
        ELSE left(e.payload, -1) || ',"reactions":' || e.reactions || '}' END,
      e.created_at
    FROM sized AS s LEFT JOIN ${ws}.events AS e
      ON e.topic_id = s.topic_id AND e.seq = s.message_seq AND s.fits AND s.through - s.receipt_bytes <= room
    ORDER BY s.n;
END
$overviews$;
COMMENT ON FUNCTION ${ws}.overviews IS
  'How far a user has read each topic, how many messages of others came after that, the last message and how far the others are, where told. What is beyond room, in bytes, is left out; used: bytes with it.';

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
