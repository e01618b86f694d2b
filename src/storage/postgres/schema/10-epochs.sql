-- Tells one line of the server's history from another, and begins epochs of the log [LOG4].

CREATE TABLE ${ws}.epochs (
  no bigint PRIMARY KEY,
  id text NOT NULL UNIQUE,
  began_at bigint NOT NULL,
  broken boolean NOT NULL,
  line text NOT NULL,
  created_at bigint NOT NULL,
  ended bigint NOT NULL,
  drawn bigint NOT NULL
);
COMMENT ON COLUMN ${ws}.epochs.drawn IS
  'The numbers above ended, the last position that was there, up to it are never given to an event of this epoch: a server that crashed or was promoted goes on further up.';
COMMENT ON TABLE ${ws}.epochs IS
  'From one row to the next the log has only grown; cursors name the one they are of. broken: acknowledged events were lost.';

CREATE FUNCTION ${ws}.line() RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $line$
DECLARE
  timeline text;
BEGIN
  BEGIN
    timeline := left(pg_walfile_name(pg_current_wal_lsn()), 8);
  EXCEPTION WHEN OTHERS THEN
    -- A server that keeps its log elsewhere does not say.
    timeline := '';
  END;
  RETURN concat_ws(' ', (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, timeline,
    (SELECT oid FROM pg_database WHERE datname = current_database()), '${ws}.events'::regclass::oid);
END
$line$;
COMMENT ON FUNCTION ${ws}.line IS
  'What the server is, its history and its copy of the log: while this is the same, the log has not gone back.';

CREATE FUNCTION ${ws}.log_end() RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $log_end$
  SELECT greatest((SELECT max(position) FROM ${ws}.events), (SELECT max(trimmed_position) FROM ${ws}.trims),
    (SELECT max(forgotten_position) FROM ${ws}.trims WHERE forgotten_position > 0),
    (SELECT max(began_at) FROM ${ws}.epochs), 0)
$log_end$;

CREATE FUNCTION ${ws}.first_lost(topics text[], seqs bigint[], ids text[], positions bigint[]) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $first_lost$
BEGIN
  -- A topic's events are durable in their order: one that is not there, and none after it, was lost, unless it has been
  -- removed since; and so was one whose number another event has.
  RETURN (
    SELECT min(w.position) FROM unnest(topics, seqs, ids, positions) AS w (topic, seq, id, position)
      LEFT JOIN ${ws}.topics AS t ON t.name = w.topic
      LEFT JOIN ${ws}.trims AS r ON r.topic_id = t.topic_id
      LEFT JOIN LATERAL (
        SELECT e.seq, e.id FROM ${ws}.events AS e WHERE e.topic_id = t.topic_id AND e.seq >= w.seq
        ORDER BY e.seq LIMIT 1) AS n ON true
    WHERE (n.seq IS NULL AND greatest(r.trimmed_position, r.forgotten_position, 0) < w.position)
      OR (n.seq = w.seq AND n.id <> w.id));
END
$first_lost$;
COMMENT ON FUNCTION ${ws}.first_lost IS 'Of events that were known to be committed the lowest position of one that is not; null where all were.';

CREATE FUNCTION ${ws}.begin_epoch(no bigint, began_at bigint, broken boolean) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $begin_epoch$
  INSERT INTO ${ws}.epochs (no, id, began_at, broken, line, created_at, ended, drawn)
    SELECT begin_epoch.no, substr(replace(gen_random_uuid()::text, '-', ''), 1, 8), begin_epoch.began_at,
      begin_epoch.broken, ${ws}.line(), (extract(epoch FROM clock_timestamp()) * 1000)::bigint, ${ws}.log_end(), p.last_value
      FROM ${ws}.positions AS p
$begin_epoch$;

CREATE FUNCTION ${ws}.undoubted(through bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $undoubted$
DECLARE
  -- So far below what is known to be lost nothing is doubted. Commits become durable out of order: of one that is missing in
  -- between a node may have known that is gone itself.
  doubted_max CONSTANT bigint := 10000;
  -- More numbers than a server passes over as it starts.
  jump_max CONSTANT bigint := 1000;
BEGIN
  RETURN (
    SELECT coalesce(min(p.before), through) FROM (
      SELECT e.position, lag(e.position, 1, greatest(0, through - doubted_max)) OVER (ORDER BY e.position) AS before FROM (
        SELECT position FROM ${ws}.events WHERE position > through - doubted_max AND position <= through
        UNION ALL SELECT through + 1
        UNION ALL SELECT n.position FROM ${ws}.epochs AS s, generate_series(s.ended + 1, least(s.drawn, s.ended + jump_max)) AS n (position)
          WHERE s.drawn > through - doubted_max AND n.position <= through) AS e) AS p
    WHERE p.position > p.before + 1);
END
$undoubted$;
COMMENT ON FUNCTION ${ws}.undoubted IS 'The position below the first that is missing, for whatever reason, up to one and not far below it.';

CREATE FUNCTION ${ws}.look(
  known_no bigint, known_id text, topics text[], seqs bigint[], ids text[], positions bigint[],
  may_be_left_behind boolean
) RETURNS TABLE (
  no bigint, id text, began_at bigint, broken boolean, line text, created_at bigint, is_settled boolean
) LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $look$
#variable_conflict use_column
DECLARE
  here text;
  newest record;
  lost bigint;
  is_gone boolean;
  -- So many are kept; cursors of earlier ones are of no log that is known.
  kept CONSTANT bigint := 1000;
BEGIN
  IF pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean THEN
    RETURN QUERY SELECT e.no, e.id, e.began_at, e.broken, e.line, e.created_at, false FROM ${ws}.epochs AS e;
    RETURN;
  END IF;
  here := ${ws}.line();
  lost := ${ws}.first_lost(topics, seqs, ids, positions);
  FOR attempt IN 1..2 LOOP
    SELECT * INTO newest FROM ${ws}.epochs AS e ORDER BY e.no DESC LIMIT 1;
    -- Of those that the caller knows one is missing that was not forgotten: this is the log of before it, or of another one's.
    is_gone := known_no > 0 AND (newest.no IS NULL OR newest.no < known_no
      OR EXISTS (SELECT FROM ${ws}.epochs AS e WHERE e.no = known_no AND e.id <> known_id));
    IF is_gone AND newest.line = here AND NOT may_be_left_behind THEN
      RETURN;
    END IF;
    IF EXISTS (SELECT FROM ${ws}.epochs AS e
      WHERE e.no > known_no AND e.broken AND e.began_at < coalesce(lost, 9007199254740991)) THEN
      -- Somebody has said so already.
      is_gone := false;
      lost := NULL;
    END IF;
    EXIT WHEN newest.line = here AND lost IS NULL AND NOT is_gone;
    IF attempt = 1 THEN
      -- Held to the commit: whoever comes meanwhile sees what was begun, and appends nothing before.
      PERFORM pg_advisory_xact_lock('${ws}.epochs'::regclass::oid::integer, 1);
    ELSE
      PERFORM ${ws}.begin_epoch(greatest(newest.no, known_no, 0) + 1,
        CASE WHEN lost IS NULL THEN ${ws}.log_end() ELSE ${ws}.undoubted(least(${ws}.log_end(), lost - 1)) END,
        is_gone OR lost IS NOT NULL);
      DELETE FROM ${ws}.epochs AS e WHERE e.no <= greatest(newest.no, known_no, 0) + 1 - kept;
    END IF;
  END LOOP;
  RETURN QUERY SELECT e.no, e.id, e.began_at, e.broken, e.line, e.created_at, true FROM ${ws}.epochs AS e;
END
$look$;
COMMENT ON FUNCTION ${ws}.look IS
  'All epochs, once a new one has begun where the server is another one than it was, or where the caller knows of what is not there. None where it is the one that the caller has left behind.';

SELECT ${ws}.begin_epoch(1, ${ws}.log_end(), false);
