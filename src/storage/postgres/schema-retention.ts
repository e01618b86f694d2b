/** Retention on the log that only appends: what it removes, and how far it has come [LOG7]. */

import { pinned } from "./schema-append.ts";

/** A moment that is wrong in a few events holds nothing up: of so many more the age is looked at than are removed. */
const agesBeyond = 1_000;
/** Events whose topics are counted by one call, for each row that it may remove. */
const countedPerRow = 20;

/** Removes the events of `old` (topic_id and the column given) as `gone`, and notes up to where their topics are removed. */
const removal = (ws: string, column: "position" | "seq") => `gone AS (
      DELETE FROM ${ws}.events AS e USING old WHERE e.topic_id = old.topic_id AND e.${column} = old.${column}
        RETURNING e.topic_id, e.position, e.seq
    ), noted AS (
      INSERT INTO ${ws}.trims AS t (topic_id, trimmed_position, trimmed_seq)
        SELECT g.topic_id, max(g.position), max(g.seq) FROM gone AS g GROUP BY g.topic_id
        ON CONFLICT (topic_id) DO UPDATE SET trimmed_position = greatest(t.trimmed_position, excluded.trimmed_position),
          trimmed_seq = greatest(t.trimmed_seq, excluded.trimmed_seq)
    )`;

/** @param ws the schema's name */
export const retention = (ws: string) => `
CREATE FUNCTION ${ws}.trim(created_before bigint, events_per_topic bigint, batch bigint)
RETURNS TABLE (removed bigint, more boolean) LANGUAGE plpgsql VOLATILE ${pinned}
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $trim$
#variable_conflict use_column
DECLARE
  state ${ws}.trim_state;
  room bigint := batch;
  taken bigint;
  through bigint;
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
  WITH oldest AS (
    SELECT e.topic_id, e.position, e.created_at FROM ${ws}.events AS e
      WHERE e.position > state.oldest AND e.position <= through
      ORDER BY e.position LIMIT room + ${agesBeyond}
  ), old AS (
    SELECT o.topic_id, o.position FROM oldest AS o WHERE o.created_at < created_before ORDER BY o.position LIMIT room
  ), ${removal(ws, "position")}
  SELECT count(*), coalesce(
      (SELECT min(o.position) - 1 FROM oldest AS o WHERE NOT EXISTS (SELECT FROM old WHERE old.position = o.position)),
      (SELECT max(o.position) FROM oldest AS o))
    INTO taken, state.oldest FROM gone;
  room := room - taken;
  UPDATE ${ws}.trim_state AS s SET oldest = state.oldest WHERE s.oldest < state.oldest;

  -- By count: only topics that have grown since the last time can have too many, unless fewer are kept than then.
  IF events_per_topic < state.events_per_topic THEN
    state.counted := 0;
  END IF;
  IF events_per_topic <> state.events_per_topic THEN
    UPDATE ${ws}.trim_state AS s SET counted = state.counted, events_per_topic = trim.events_per_topic;
  END IF;
  SELECT max(p.position) AS position, count(*) = batch * ${countedPerRow} AS is_full INTO slice FROM (
    SELECT e.position FROM ${ws}.events AS e WHERE e.position > state.counted AND e.position <= through
    ORDER BY e.position LIMIT batch * ${countedPerRow}) AS p;
  FOR grown IN
    SELECT DISTINCT e.topic_id FROM ${ws}.events AS e WHERE e.position > state.counted AND e.position <= slice.position
  LOOP
    EXIT WHEN room = 0;
    -- By their numbers first: no topic has more events than those.
    CONTINUE WHEN ${ws}.head_seq(grown.topic_id) - coalesce(
      (SELECT t.trimmed_seq FROM ${ws}.trims AS t WHERE t.topic_id = grown.topic_id), 0) <= events_per_topic;
    SELECT e.seq INTO boundary FROM ${ws}.events AS e WHERE e.topic_id = grown.topic_id
      ORDER BY e.seq DESC OFFSET events_per_topic LIMIT 1;
    CONTINUE WHEN NOT FOUND;
    WITH old AS (
      SELECT e.topic_id, e.seq FROM ${ws}.events AS e WHERE e.topic_id = grown.topic_id AND e.seq <= boundary
        ORDER BY e.seq LIMIT room
    ), ${removal(ws, "seq")}
    SELECT count(*) INTO taken FROM gone;
    room := room - taken;
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
COMMENT ON FUNCTION ${ws}.trim IS
  'Removes at most a batch of what retention does not keep: events by age and by count, then keys by age. Takes no lock that append() waits for, but for the rows it removes.';
`;
