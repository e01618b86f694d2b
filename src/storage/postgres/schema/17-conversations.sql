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

CREATE FUNCTION ${ws}.expire(names text[], created_before bigint[], now_ms bigint, batch bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $expire$
DECLARE
  room bigint := batch;
  given record;
  old bigint[];
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
    SELECT array_agg(o.position) INTO old FROM (
      SELECT e.position, e.created_at FROM ${ws}.events AS e WHERE e.topic_id = given.topic_id
      ORDER BY e.position LIMIT room) AS o WHERE o.created_at < given.created_before;
    room := room - coalesce(${ws}.forget_events(given.topic_id, old), 0);
  END LOOP;
  RETURN batch - room;
END
$expire$;
COMMENT ON FUNCTION ${ws}.expire IS
  'Removes of each topic what was created before its moment, at most a batch in all; returns how many events.';

-- As before, but for how many events a topic may have: what was forgotten leaves holes among its numbers.
CREATE OR REPLACE FUNCTION ${ws}.trim(created_before bigint, events_per_topic bigint, batch bigint)
RETURNS TABLE (removed bigint, more boolean) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $trim$
#variable_conflict use_column
DECLARE
  -- A moment that is wrong in a few events holds nothing up: of so many more the age is looked at than are removed.
  ages_beyond CONSTANT bigint := 1000;
  -- Events whose topics are counted by one call, for each row that it may remove.
  counted_per_row CONSTANT bigint := 20;
  state ${ws}.trim_state;
  room bigint := batch;
  through bigint;
  topic_ids bigint[];
  positions bigint[];
  slice record;
  grown record;
  boundary bigint;
BEGIN
  -- One at a time over all nodes; the others have nothing to do meanwhile.
  IF NOT pg_try_advisory_xact_lock('${ws}.trim_state'::regclass::oid::integer, 1) THEN
    RETURN QUERY SELECT 0::bigint, false;
    RETURN;
  END IF;
  SELECT * INTO state FROM ${ws}.trim_state;
  SELECT w.watermark INTO through FROM ${ws}.watermark() AS w;

  -- By age: from the oldest position on, past what is kept because its moment was wrong.
  SELECT array_agg(o.topic_id) FILTER (WHERE o.goes), array_agg(o.position) FILTER (WHERE o.goes),
      coalesce(min(o.position) FILTER (WHERE NOT o.goes) - 1, max(o.position))
    INTO topic_ids, positions, state.oldest FROM (
      SELECT e.topic_id, e.position, e.created_at < created_before
          AND count(*) FILTER (WHERE e.created_at < created_before) OVER (ORDER BY e.position) <= room AS goes
        FROM (
          SELECT * FROM ${ws}.events WHERE position > state.oldest AND position <= through
          ORDER BY position LIMIT room + ages_beyond) AS e) AS o;
  room := room - ${ws}.remove_events(topic_ids, positions);
  UPDATE ${ws}.trim_state AS s SET oldest = state.oldest WHERE s.oldest < state.oldest;

  -- By count: only topics that have grown since the last time can have too many, unless fewer are kept than then.
  IF events_per_topic < state.events_per_topic THEN
    state.counted := 0;
  END IF;
  IF events_per_topic <> state.events_per_topic THEN
    UPDATE ${ws}.trim_state AS s SET counted = state.counted, events_per_topic = trim.events_per_topic;
  END IF;
  SELECT max(p.position) AS position, count(*) = batch * counted_per_row AS is_full INTO slice FROM (
    SELECT e.position FROM ${ws}.events AS e WHERE e.position > state.counted AND e.position <= through
    ORDER BY e.position LIMIT batch * counted_per_row) AS p;
  FOR grown IN
    SELECT DISTINCT e.topic_id FROM ${ws}.events AS e WHERE e.position > state.counted AND e.position <= slice.position
  LOOP
    EXIT WHEN room = 0;
    -- By their numbers first: no topic has more events than those from its oldest to its newest.
    CONTINUE WHEN ${ws}.head_seq(grown.topic_id) - (SELECT e.seq FROM ${ws}.events AS e WHERE e.topic_id = grown.topic_id
      ORDER BY e.seq LIMIT 1) < events_per_topic;
    SELECT e.seq INTO boundary FROM ${ws}.events AS e WHERE e.topic_id = grown.topic_id
      ORDER BY e.seq DESC OFFSET events_per_topic LIMIT 1;
    CONTINUE WHEN NOT FOUND;
    SELECT array_agg(old.topic_id), array_agg(old.position) INTO topic_ids, positions FROM (
      SELECT e.topic_id, e.position FROM ${ws}.events AS e WHERE e.topic_id = grown.topic_id AND e.seq <= boundary
      ORDER BY e.seq LIMIT room) AS old;
    room := room - ${ws}.remove_events(topic_ids, positions);
  END LOOP;
  removed := batch - room;
  IF room > 0 THEN
    UPDATE ${ws}.trim_state AS s SET counted = slice.position WHERE s.counted < slice.position;
    WITH old AS (
      SELECT k.key FROM ${ws}.idempotency_keys AS k WHERE k.created_at < created_before
        ORDER BY k.created_at LIMIT room
    ), gone AS (
      DELETE FROM ${ws}.idempotency_keys AS k USING old WHERE k.key = old.key RETURNING k.key
    )
    SELECT room - count(*) INTO room FROM gone;
  END IF;
  more := slice.is_full OR room = 0;
  RETURN NEXT;
END
$trim$;
