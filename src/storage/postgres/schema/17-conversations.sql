-- Keeps of conversations how long their events stay, where that is less than the log's retention, and removes them [LOG9].

CREATE TABLE ${ws}.conversations (
  conversation_id text PRIMARY KEY,
  retention interval NOT NULL CHECK (retention >= interval '1 minute')
);
COMMENT ON TABLE ${ws}.conversations IS 'Conversations that keep their events for less than log.retention.';
ALTER TABLE ${ws}.trim_state ADD COLUMN expiry_began_at bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN ${ws}.trim_state.expiry_began_at IS
  'When a node last began to look at what conversations keep (ms since the epoch, by this server''s clock).';

CREATE FUNCTION ${ws}.begin_expiry(every_ms bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $begin_expiry$
DECLARE
  now_ms bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
BEGIN
  -- One round of all nodes' at a time; a clock that was put back keeps none from its turn.
  PERFORM FROM ${ws}.trim_state AS s WHERE s.expiry_began_at > now_ms - every_ms AND s.expiry_began_at <= now_ms;
  IF FOUND OR NOT pg_try_advisory_xact_lock('${ws}.trim_state'::regclass::oid::integer, 2) THEN
    RETURN false;
  END IF;
  UPDATE ${ws}.trim_state AS s SET expiry_began_at = now_ms
    WHERE s.expiry_began_at <= now_ms - every_ms OR s.expiry_began_at > now_ms;
  RETURN FOUND;
END
$begin_expiry$;
COMMENT ON FUNCTION ${ws}.begin_expiry IS 'Whether it is the caller''s to look at what conversations keep: no other node has begun to within that time.';

CREATE FUNCTION ${ws}.expire(
  names text[], created_before bigint[], now_ms bigint, batch bigint, young_passed bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $expire$
DECLARE
  room bigint := batch;
  given record;
  event record;
  old bigint[];
  young bigint;
BEGIN
  FOR given IN
    SELECT t.topic_id, g.created_before FROM unnest(names, created_before) AS g (name, created_before)
      JOIN ${ws}.topics AS t ON t.name = g.name
      CROSS JOIN LATERAL (
        SELECT e.created_at FROM ${ws}.events AS e WHERE e.topic_id = t.topic_id ORDER BY e.position LIMIT 1) AS f
      -- A moment that is wrong in one event holds up nothing: then more than the first is looked at.
      WHERE f.created_at < g.created_before OR f.created_at > now_ms
  LOOP
    EXIT WHEN room <= 0;
    old := '{}';
    young := 0;
    FOR event IN
      SELECT e.position, e.created_at FROM ${ws}.events AS e WHERE e.topic_id = given.topic_id ORDER BY e.position LIMIT room
    LOOP
      IF event.created_at < given.created_before THEN
        old := old || event.position;
      ELSIF event.created_at <= now_ms THEN
        young := young + 1;
        EXIT WHEN young = young_passed;
      END IF;
    END LOOP;
    room := room - coalesce(${ws}.forget_events(given.topic_id, old), 0);
  END LOOP;
  RETURN batch - room;
END
$expire$;
COMMENT ON FUNCTION ${ws}.expire IS
  'Removes of each topic what was created before its moment, at most a batch in all, and no further than so many that are young; returns how many events.';
