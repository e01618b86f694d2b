-- Keeps how far the log has been searched for events that were missed, and who is at it [BAK3].

CREATE TABLE ${ws}.push (
  only_row integer PRIMARY KEY CHECK (only_row = 1),
  epoch text,
  position bigint,
  holder text NOT NULL,
  held_until bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO ${ws}.push VALUES (1, NULL, NULL, '', 0);
COMMENT ON TABLE ${ws}.push IS
  'Up to which position of which epoch the log has been searched (null: nobody has ever wanted to know), by whom, and until when nobody else is (ms since 1970).';

CREATE FUNCTION ${ws}.take_push(given_holder text, for_ms bigint)
RETURNS TABLE (epoch text, "position" bigint, is_ours boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $take_push$
#variable_conflict use_column
DECLARE
  now_ms bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
BEGIN
  -- Written only where half of it has run out: it is asked for with each step.
  UPDATE ${ws}.push AS p SET holder = given_holder, held_until = now_ms + for_ms
    WHERE p.position IS NOT NULL
      AND (p.held_until <= now_ms OR (p.holder = given_holder AND p.held_until < now_ms + for_ms / 2));
  RETURN QUERY SELECT p.epoch, p.position, p.holder = given_holder AND p.held_until > now_ms FROM ${ws}.push AS p;
END
$take_push$;

CREATE FUNCTION ${ws}.received_through(given_topics text[], given_users text[])
RETURNS TABLE (n bigint, seq bigint) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
-- Reaches every row by an index, whatever the statistics say: those who are asked about are few, however many there are.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $received_through$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT u.n, r.seq FROM unnest(given_topics, given_users) WITH ORDINALITY AS u (topic, user_id, n)
    JOIN ${ws}.topics AS t ON t.name = u.topic
    CROSS JOIN LATERAL (
      SELECT max(r.seq) AS seq FROM ${ws}.receipts AS r
      WHERE r.topic_id = t.topic_id AND r.user_id = u.user_id AND r.kind <> 'left') AS r
    WHERE r.seq IS NOT NULL;
END
$received_through$;
COMMENT ON FUNCTION ${ws}.received_through IS
  'Of pairs of a topic and a user how far the user has received or read it, or has joined after it.';

CREATE FUNCTION ${ws}.standing(given_positions bigint[]) RETURNS TABLE ("position" bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $standing$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT e.position FROM ${ws}.events AS e
    WHERE e.position = ANY (given_positions) AND (e.sender_id IS NULL OR e.sender_id <> '');
END
$standing$;
COMMENT ON FUNCTION ${ws}.standing IS 'Those of the positions whose events are there, and are no messages that were deleted.';
