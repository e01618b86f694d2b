-- Reads as before, messages with their reactions [MSG3]; what is deleted is not unread [MSG2].

CREATE OR REPLACE FUNCTION ${ws}.replay(given_topics text[], after_position bigint, page bigint)
RETURNS TABLE (
  watermark bigint,
  topic text, seq bigint, "position" bigint, trimmed_position bigint, id text, type text, payload text, created_at bigint
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $replay$
#variable_conflict use_column
DECLARE
  through bigint;
BEGIN
  SELECT w.watermark INTO through FROM ${ws}.watermark() AS w;
  -- One index step for each topic; then only the topics and the stretch that this page can reach.
  RETURN QUERY
  WITH heads AS MATERIALIZED (
    SELECT * FROM ${ws}.heads(given_topics)
  ), firsts AS MATERIALIZED (
    SELECT h.topic_id, h.topic, f.position FROM heads AS h CROSS JOIN LATERAL (
      SELECT e.position FROM ${ws}.events AS e WHERE e.topic_id = h.topic_id AND e.position > after_position
      ORDER BY e.position LIMIT 1) AS f
    WHERE h.position > after_position ORDER BY f.position LIMIT page
  ), reach AS (
    SELECT CASE WHEN count(*) = page THEN max(position) ELSE 9007199254740991 END AS position FROM firsts
  ), page_events AS MATERIALIZED (
    SELECT f.topic_id, f.topic, p.position FROM firsts AS f CROSS JOIN reach AS r CROSS JOIN LATERAL (
      SELECT e.position FROM ${ws}.events AS e
      WHERE e.topic_id = f.topic_id AND e.position > after_position AND e.position <= r.position
      ORDER BY e.position LIMIT page) AS p
    ORDER BY p.position LIMIT page
  )
  SELECT through, topic, seq, position, trimmed_position, NULL, NULL, NULL, NULL::bigint FROM heads
  UNION ALL
  SELECT through, p.topic, e.seq, e.position, NULL, e.id, e.type, CASE WHEN e.reactions IS NULL THEN e.payload
        ELSE left(e.payload, -1) || ',"reactions":' || e.reactions || '}' END,
      e.created_at
    FROM page_events AS p JOIN ${ws}.events AS e ON e.topic_id = p.topic_id AND e.position = p.position;
  IF NOT FOUND THEN
    RETURN QUERY SELECT through, NULL, NULL::bigint, NULL::bigint, NULL::bigint, NULL, NULL, NULL, NULL::bigint;
  END IF;
END
$replay$;

CREATE OR REPLACE FUNCTION ${ws}.feed(after_position bigint, page bigint)
RETURNS TABLE (
  watermark bigint, log_end bigint, trimmed_position bigint,
  topic text, seq bigint, "position" bigint, id text, type text, payload text, created_at bigint
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $feed$
#variable_conflict use_column
DECLARE
  through bigint;
  ends bigint;
BEGIN
  SELECT w.watermark, w.log_end INTO through, ends FROM ${ws}.watermark() AS w;
  RETURN QUERY
  SELECT through, ends, coalesce((SELECT max(r.trimmed_position) FROM ${ws}.trims AS r), 0),
      t.name, e.seq, e.position, e.id, e.type, CASE WHEN e.reactions IS NULL THEN e.payload
        ELSE left(e.payload, -1) || ',"reactions":' || e.reactions || '}' END,
      e.created_at
    FROM (SELECT) AS once LEFT JOIN (
      SELECT * FROM ${ws}.events WHERE position > after_position AND position <= through
      ORDER BY position LIMIT page) AS e ON true
    LEFT JOIN ${ws}.topics AS t ON t.topic_id = e.topic_id;
END
$feed$;

CREATE OR REPLACE FUNCTION ${ws}.receipt_states(given_user text, given_topics text[])
RETURNS TABLE (topic text, read_seq bigint, delivered_seq bigint, unread bigint) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
-- Reaches every row by an index, whatever the statistics say: a page is small, however large the log is.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $receipt_states$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT t.name, r.read_seq, r.delivered_seq, u.unread FROM ${ws}.topics AS t CROSS JOIN LATERAL (
      SELECT coalesce(max(seq) FILTER (WHERE kind IN ('read', 'read_private', 'joined')), 0) AS read_seq,
        coalesce(max(seq) FILTER (WHERE kind IN ('delivered', 'joined')), 0) AS delivered_seq
      FROM ${ws}.receipts WHERE topic_id = t.topic_id AND user_id = given_user) AS r
    CROSS JOIN LATERAL (
      SELECT count(*) AS unread FROM ${ws}.events AS e
      WHERE e.topic_id = t.topic_id AND e.seq > r.read_seq AND e.sender_id NOT IN ('', given_user)) AS u
    WHERE t.name = ANY (given_topics);
END
$receipt_states$;
