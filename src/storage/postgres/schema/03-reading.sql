-- Reads what every returning client asks for, so that its plans are made once for each connection and not for each call.
-- Released: never edited.

CREATE FUNCTION ${ws}.replay(given_topics text[], after_position bigint, page bigint)
RETURNS TABLE (
  topic text, seq bigint, "position" bigint, trimmed_position bigint, id text, type text, payload text, created_at bigint
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
-- Whatever the statistics say, every row is reached by an index: a page is small, however large the log is.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $replay$
#variable_conflict use_column
BEGIN
  -- One index step for each topic that moved; then only the topics and the stretch that this page can reach.
  RETURN QUERY
  WITH heads AS MATERIALIZED (
    SELECT t.topic_id, t.name, t.seq, t.position, coalesce(r.trimmed_position, 0) AS trimmed_position
      FROM ${ws}.topics AS t LEFT JOIN ${ws}.trims AS r USING (topic_id) WHERE t.name = ANY (given_topics)
  ), firsts AS MATERIALIZED (
    SELECT h.topic_id, h.name, f.position FROM heads AS h CROSS JOIN LATERAL (
      SELECT e.position FROM ${ws}.events AS e WHERE e.topic_id = h.topic_id AND e.position > after_position
      ORDER BY e.position LIMIT 1) AS f
    WHERE h.position > after_position ORDER BY f.position LIMIT page
  ), reach AS (
    SELECT CASE WHEN count(*) = page THEN max(position) ELSE 9007199254740991 END AS position FROM firsts
  ), places AS MATERIALIZED (
    SELECT f.topic_id, f.name, p.position FROM firsts AS f CROSS JOIN reach AS r CROSS JOIN LATERAL (
      SELECT e.position FROM ${ws}.events AS e
      WHERE e.topic_id = f.topic_id AND e.position > after_position AND e.position <= r.position
      ORDER BY e.position LIMIT page) AS p
    ORDER BY p.position LIMIT page
  )
  SELECT name, seq, position, trimmed_position, NULL, NULL, NULL, NULL::bigint FROM heads
  UNION ALL
  SELECT p.name, e.seq, e.position, NULL, e.id, e.type, e.payload, e.created_at
    FROM places AS p JOIN ${ws}.events AS e ON e.topic_id = p.topic_id AND e.position = p.position;
END
$replay$;
COMMENT ON FUNCTION ${ws}.replay IS
  'The heads of all topics given (id is null), and of their events after a position the oldest, one page of them.';

CREATE FUNCTION ${ws}.receipt_states(given_user text, given_topics text[])
RETURNS TABLE (topic text, read_seq bigint, delivered_seq bigint, unread bigint) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan
-- Whatever the statistics say, every row is reached by an index: a page is small, however large the log is.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $receipt_states$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT t.name, r.read_seq, r.delivered_seq, u.unread FROM ${ws}.topics AS t CROSS JOIN LATERAL (
      SELECT coalesce(max(seq) FILTER (WHERE kind <> 'delivered'), 0) AS read_seq,
        coalesce(max(seq) FILTER (WHERE kind = 'delivered'), 0) AS delivered_seq
      FROM ${ws}.receipts WHERE topic_id = t.topic_id AND user_id = given_user) AS r
    CROSS JOIN LATERAL (
      SELECT count(*) AS unread FROM ${ws}.events AS e
      WHERE e.topic_id = t.topic_id AND e.seq > r.read_seq AND e.sender_id <> given_user) AS u
    WHERE t.name = ANY (given_topics);
END
$receipt_states$;
COMMENT ON FUNCTION ${ws}.receipt_states IS 'How far a user has read each topic, and how many messages of others came after that.';
