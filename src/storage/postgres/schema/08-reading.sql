-- Reads the log that only appends, each function from a snapshot that is taken after its watermark [LOG4],
-- by one plan, whatever the statistics say, in which every table is reached by an index: a page is small, however large the log is.
-- A message comes with its reactions, whose column is made in 13 [MSG3].

CREATE FUNCTION ${ws}.head_seq(given_topic bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $head_seq$
  SELECT greatest(
    coalesce((SELECT n.seq FROM ${ws}.events AS n WHERE n.topic_id = given_topic ORDER BY n.seq DESC LIMIT 1), 0),
    coalesce((SELECT f.trimmed_seq FROM ${ws}.trims AS f WHERE f.topic_id = given_topic), 0));
$head_seq$;
COMMENT ON FUNCTION ${ws}.head_seq IS 'The last number of a topic; 0 where it never had an event.';

CREATE FUNCTION ${ws}.heads(given_topics text[])
RETURNS TABLE (topic text, topic_id bigint, seq bigint, "position" bigint, trimmed_position bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $heads$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT t.name, t.topic_id, greatest(coalesce(e.seq, 0), coalesce(r.trimmed_seq, 0)),
      greatest(coalesce(e.position, 0), coalesce(r.trimmed_position, 0), coalesce(r.forgotten_position, 0)),
      coalesce(r.trimmed_position, 0)
    FROM ${ws}.topics AS t LEFT JOIN ${ws}.trims AS r ON r.topic_id = t.topic_id
    LEFT JOIN LATERAL (
      SELECT n.seq, n.position FROM ${ws}.events AS n WHERE n.topic_id = t.topic_id ORDER BY n.seq DESC LIMIT 1) AS e ON true
    WHERE t.name = ANY (given_topics);
END
$heads$;

CREATE FUNCTION ${ws}.replay(given_topics text[], after_position bigint, page bigint)
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
COMMENT ON FUNCTION ${ws}.replay IS
  'The heads of all topics given (id is null), and of their events after a position the oldest, one page of them.';

CREATE FUNCTION ${ws}.moved_since(after_position bigint, page bigint)
RETURNS TABLE (watermark bigint, log_end bigint, in_flight boolean, topic text, seq bigint, "position" bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $moved_since$
#variable_conflict use_column
DECLARE
  through bigint;
  ends bigint;
  is_held boolean;
BEGIN
  SELECT w.watermark, w.log_end, w.in_flight INTO through, ends, is_held FROM ${ws}.watermark() AS w;
  RETURN QUERY
  SELECT through, ends, is_held, t.name, e.seq, e.position FROM (
      SELECT topic_id, seq, position FROM ${ws}.events WHERE position > after_position AND position <= through
      ORDER BY position LIMIT page) AS e
    JOIN ${ws}.topics AS t ON t.topic_id = e.topic_id ORDER BY e.position;
  IF NOT FOUND THEN
    RETURN QUERY SELECT through, ends, is_held, NULL, NULL::bigint, NULL::bigint;
  END IF;
END
$moved_since$;
COMMENT ON FUNCTION ${ws}.moved_since IS 'The events after a position up to the watermark, one page of them; in_flight: appends are on their way.';

CREATE FUNCTION ${ws}.moved_among(given_topics text[], after_position bigint, through_position bigint)
RETURNS TABLE (topic text, seq bigint, "position" bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $moved_among$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT t.name, e.seq, e.position FROM ${ws}.topics AS t CROSS JOIN LATERAL (
      SELECT n.seq, n.position FROM ${ws}.events AS n
      WHERE n.topic_id = t.topic_id AND n.position > after_position AND n.position <= through_position
      ORDER BY n.position DESC LIMIT 1) AS e
    WHERE t.name = ANY (given_topics) ORDER BY e.position;
END
$moved_among$;

CREATE FUNCTION ${ws}.feed(after_position bigint, page bigint)
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
COMMENT ON FUNCTION ${ws}.feed IS
  'The events of all topics after a position up to the watermark, one page of them, or one row without any (id is null).';

CREATE FUNCTION ${ws}.log_size() RETURNS TABLE (events bigint, topics bigint, "position" bigint)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $log_size$
DECLARE
  exact CONSTANT bigint := 10000;
BEGIN
  SELECT count(*) INTO events FROM (SELECT FROM ${ws}.events LIMIT exact) AS e;
  SELECT count(*) INTO topics FROM (SELECT FROM ${ws}.topics LIMIT exact) AS t;
  -- As the planner has it: the rows of a page when the table was last looked at, and its pages now.
  IF events = exact THEN
    SELECT greatest(exact, (c.reltuples / greatest(c.relpages, 1) * pg_relation_size(c.oid)
      / current_setting('block_size')::integer)::bigint) INTO events FROM pg_class AS c WHERE c.oid = '${ws}.events'::regclass;
  END IF;
  IF topics = exact THEN
    SELECT greatest(exact, (c.reltuples / greatest(c.relpages, 1) * pg_relation_size(c.oid)
      / current_setting('block_size')::integer)::bigint) INTO topics FROM pg_class AS c WHERE c.oid = '${ws}.topics'::regclass;
  END IF;
  SELECT w.log_end INTO position FROM ${ws}.watermark() AS w;
  RETURN NEXT;
END
$log_size$;
COMMENT ON FUNCTION ${ws}.log_size IS 'Counted up to some thousands, estimated beyond.';
