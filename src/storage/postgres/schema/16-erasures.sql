-- Keeps who is to be erased, and how far that is, and finds what is of a user [BAK4].

CREATE TABLE ${ws}.erasures (
  user_digest text PRIMARY KEY,
  user_id text,
  requested_by text NOT NULL,
  requested_at bigint NOT NULL,
  started_at bigint,
  finished_at bigint,
  messages bigint NOT NULL DEFAULT 0,
  step bigint NOT NULL DEFAULT 0,
  place text NOT NULL DEFAULT '',
  through bigint NOT NULL DEFAULT 0,
  log_end bigint NOT NULL DEFAULT 0,
  turn bigint NOT NULL DEFAULT 0,
  due_at bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE ${ws}.erasures IS
  'Users who are being erased, and count as disabled meanwhile, and digests of those who were. Moments are ms since the epoch.';
COMMENT ON COLUMN ${ws}.erasures.user_id IS 'Null: it is finished.';
COMMENT ON COLUMN ${ws}.erasures.turn IS 'Counts the nodes that have had it.';
COMMENT ON COLUMN ${ws}.erasures.due_at IS 'When the next node may have it, by this server''s clock.';
CREATE UNIQUE INDEX erasures_running ON ${ws}.erasures (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX erasures_due ON ${ws}.erasures (due_at) WHERE finished_at IS NULL;
CREATE INDEX erasures_by_age ON ${ws}.erasures (finished_at) WHERE finished_at IS NOT NULL;

-- Refuses, whoever asks for it, what would be taken away again. Reads as its owner: whoever writes to these tables need not see who
-- is being erased.
CREATE FUNCTION ${ws}.refuse_erased() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $refuse_erased$
BEGIN
  IF TG_RELID NOT IN ('${ws}.users'::regclass, '${ws}.members'::regclass) THEN
    RAISE EXCEPTION '${ws}.refuse_erased() is for the tables ${ws}.users and ${ws}.members' USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF EXISTS (SELECT 1 FROM ${ws}.erasures AS e WHERE e.user_id = NEW.user_id) THEN
    RAISE EXCEPTION 'user % is being erased, and is not changed meanwhile', NEW.user_id USING ERRCODE = 'WS002',
      HINT = 'Try again once the erasure is finished, or disable the user to keep it out.';
  END IF;
  RETURN NEW;
END
$refuse_erased$;
REVOKE EXECUTE ON FUNCTION ${ws}.refuse_erased() FROM PUBLIC;
COMMENT ON FUNCTION ${ws}.refuse_erased IS 'Keeps users who are being erased from being added or enabled meanwhile; disabling and removing them is no matter.';
CREATE TRIGGER erased_users_stay_out BEFORE INSERT OR UPDATE ON ${ws}.users
  FOR EACH ROW WHEN (NOT NEW.disabled) EXECUTE FUNCTION ${ws}.refuse_erased();
CREATE TRIGGER erased_members_stay_out BEFORE INSERT OR UPDATE ON ${ws}.members
  FOR EACH ROW EXECUTE FUNCTION ${ws}.refuse_erased();

CREATE FUNCTION ${ws}.naming(given_user text, quoted text, after_position bigint, page bigint, found_max bigint)
RETURNS TABLE (through bigint, log_end bigint, topic text, "position" bigint, id text, type text, payload text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $naming$
#variable_conflict use_column
DECLARE
  ends bigint;
  reach bigint;
BEGIN
  SELECT w.watermark INTO ends FROM ${ws}.watermark() AS w;
  SELECT CASE WHEN count(*) < page THEN greatest(after_position, ends) ELSE max(p.position) END INTO reach FROM (
    SELECT e.position FROM ${ws}.events AS e WHERE e.position > after_position AND e.position <= ends
    ORDER BY e.position LIMIT page) AS p;
  RETURN QUERY
  SELECT reach, ends, t.name, e.position, e.id, e.type, e.payload FROM (
      SELECT n.topic_id, n.position, n.id, n.type, CASE WHEN n.sender_id IS NULL THEN n.payload END AS payload
        FROM ${ws}.events AS n WHERE n.position > after_position AND n.position <= reach
          AND (n.sender_id = given_user OR n.sender_id IS NULL AND strpos(n.payload, quoted) > 0)
        ORDER BY n.position LIMIT found_max) AS e
    JOIN ${ws}.topics AS t ON t.topic_id = e.topic_id ORDER BY e.position;
  IF NOT FOUND THEN
    RETURN QUERY SELECT reach, ends, NULL, NULL::bigint, NULL, NULL, NULL;
  END IF;
END
$naming$;
COMMENT ON FUNCTION ${ws}.naming IS
  'Of a page of the log what is from a user or names it, with how far was looked at; messages of others are not among it.';

CREATE FUNCTION ${ws}.erase_topic(given_topic text, page bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $erase_topic$
DECLARE
  removed bigint;
BEGIN
  SELECT sum(${ws}.forget_events(t.topic_id, (SELECT array_agg(o.position) FROM (
      SELECT e.position FROM ${ws}.events AS e WHERE e.topic_id = t.topic_id ORDER BY e.position LIMIT page) AS o)))
    INTO removed FROM ${ws}.topics AS t WHERE t.name = given_topic;
  RETURN coalesce(removed, 0);
END
$erase_topic$;
COMMENT ON FUNCTION ${ws}.erase_topic IS 'Removes a page of a topic''s events, which nobody is to miss; returns how many there were.';
