-- Changes messages afterwards [MSG2] [MSG3], in the transaction of the event that says so: who has reacted how, and beside each
-- message that as it is shown. A message that is deleted is sent by '' and by nobody any more.

ALTER TABLE ${ws}.events ADD COLUMN reactions text;
COMMENT ON COLUMN ${ws}.events.reactions IS 'On a message, as its payload is shown with it: JSON; null: nobody has reacted.';
COMMENT ON COLUMN ${ws}.events.sender_id IS 'Of a message: who sent it; empty: it is deleted.';

CREATE TABLE ${ws}.reactions (
  user_id text NOT NULL,
  topic_id bigint NOT NULL,
  seq bigint NOT NULL,
  reaction text NOT NULL,
  created_at bigint NOT NULL,
  PRIMARY KEY (user_id, topic_id, seq, reaction)
);
COMMENT ON TABLE ${ws}.reactions IS 'Who has reacted how to which message.';
CREATE INDEX reactions_by_message ON ${ws}.reactions (topic_id, seq, reaction, created_at, user_id);
-- Finds what the service could not publish of a message that is deleted.
CREATE INDEX outbox_rejected_by_topic ON ${ws}.outbox_rejected (topic);

-- Lets those append, and react, who might append to the schema of before.
DO $rights$
DECLARE
  named text;
BEGIN
  FOR named IN
    SELECT a.grantee::regrole::text FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
      WHERE c.oid = '${ws}.events'::regclass AND a.privilege_type = 'INSERT' AND a.grantee NOT IN (0, c.relowner)
  LOOP
    EXECUTE format('GRANT USAGE ON SEQUENCE ${ws}.positions TO %s', named);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ${ws}.reactions TO %s', named);
  END LOOP;
END
$rights$;

CREATE FUNCTION ${ws}.remove_reactions() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $remove_reactions$
BEGIN
  DELETE FROM ${ws}.reactions AS r WHERE r.topic_id = OLD.topic_id AND r.seq = OLD.seq;
  RETURN NULL;
END
$remove_reactions$;
-- Reactions go with their message, whoever removes it.
CREATE TRIGGER reactions_removed AFTER DELETE ON ${ws}.events
  FOR EACH ROW WHEN (OLD.reactions IS NOT NULL) EXECUTE FUNCTION ${ws}.remove_reactions();

CREATE FUNCTION ${ws}.messages_of(given_topics text[], given_ids text[])
RETURNS TABLE (n bigint, payload text, is_left boolean) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $messages_of$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT g.n, e.payload, e.is_left FROM unnest(given_topics, given_ids) WITH ORDINALITY AS g (topic, id, n) CROSS JOIN LATERAL (
    SELECT m.payload, false AS is_left FROM ${ws}.topics AS t JOIN ${ws}.events AS m ON m.topic_id = t.topic_id
      WHERE t.name = g.topic AND m.id = g.id AND m.sender_id IS NOT NULL
    UNION ALL
    SELECT m.payload, true FROM ${ws}.topics AS t JOIN ${ws}.events AS m ON m.topic_id = t.topic_id
      WHERE t.name = g.topic AND m.compaction_key = 'edit:' || g.id AND m.type = 'message.edited'
    LIMIT 1) AS e;
END
$messages_of$;
COMMENT ON FUNCTION ${ws}.messages_of IS 'Messages of topics by their ids, as they are stored: without their reactions. n: which of those given, from 1; is_left: retention has left only the last edit of it, whose payload it is.';

CREATE FUNCTION ${ws}.amend(given_topic text, amendment text[]) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off AS $amend$
DECLARE
  kind CONSTANT text := amendment[2];
  message record;
  shown json;
  is_new boolean;
BEGIN
  -- What was seen before the topic was locked and cannot become otherwise.
  IF kind IN ('unknown', 'unchanged') THEN
    RETURN kind;
  END IF;
  SELECT e.topic_id, e.position, e.seq, e.id, e.sender_id, e.created_at, e.reactions INTO message
    FROM ${ws}.topics AS t JOIN ${ws}.events AS e ON e.topic_id = t.topic_id
    WHERE t.name = given_topic AND e.id = amendment[3] AND e.sender_id IS NOT NULL LIMIT 1
    -- Held against retention, which does not ask for the topic.
    FOR NO KEY UPDATE OF e;
  IF NOT FOUND THEN
    -- Of a message that retention has removed its last edit may be left, which is compacted then.
    RETURN CASE WHEN kind = 'delete_left' AND EXISTS (
      SELECT FROM ${ws}.topics AS t JOIN ${ws}.events AS e ON e.topic_id = t.topic_id
      WHERE t.name = given_topic AND e.compaction_key = 'edit:' || amendment[3] AND e.type = 'message.edited')
      THEN 'applied' ELSE 'unknown' END;
  END IF;
  IF message.sender_id = '' THEN
    RETURN CASE WHEN kind IN ('delete', 'unreact') THEN 'unchanged' ELSE 'deleted' END;
  END IF;

  IF kind = 'edit' THEN
    UPDATE ${ws}.events AS e SET payload = amendment[4]
      WHERE e.topic_id = message.topic_id AND e.position = message.position;
    RETURN 'applied';
  END IF;

  IF kind = 'delete' THEN
    UPDATE ${ws}.events AS e SET payload = amendment[4], sender_id = '', reactions = NULL
      WHERE e.topic_id = message.topic_id AND e.position = message.position;
    DELETE FROM ${ws}.reactions AS r WHERE r.topic_id = message.topic_id AND r.seq = message.seq;
    -- Of a short text a digest tells as much as the text. A key is as old as its event, which leads to it by an index.
    UPDATE ${ws}.idempotency_keys AS k SET digest = NULL
      WHERE k.created_at = message.created_at AND k.event_id = message.id AND k.topic = given_topic;
    UPDATE ${ws}.outbox_rejected AS o SET payload = jsonb_build_object('message_id', message.id)
      WHERE o.topic = given_topic AND o.payload ->> 'message_id' = message.id;
    RETURN 'applied';
  END IF;

  -- 5 the user, 6 the reaction, 7 when.
  IF kind = 'unreact' THEN
    DELETE FROM ${ws}.reactions AS r WHERE r.user_id = amendment[5] AND r.topic_id = message.topic_id
      AND r.seq = message.seq AND r.reaction = amendment[6];
    IF NOT FOUND THEN
      RETURN 'unchanged';
    END IF;
  ELSE
    PERFORM FROM ${ws}.reactions AS r WHERE r.user_id = amendment[5] AND r.topic_id = message.topic_id
      AND r.seq = message.seq AND r.reaction = amendment[6];
    IF FOUND THEN
      RETURN 'unchanged';
    END IF;
    SELECT count(*) = 0 INTO is_new FROM json_array_elements(coalesce(message.reactions, '[]')::json) AS s (it)
      WHERE s.it ->> 'reaction' = amendment[6];
    IF (SELECT count(*) FROM ${ws}.reactions AS r WHERE r.user_id = amendment[5] AND r.topic_id = message.topic_id
        AND r.seq = message.seq) >= 20
      OR is_new AND json_array_length(coalesce(message.reactions, '[]')::json) >= 100 THEN
      RETURN 'too_many';
    END IF;
    INSERT INTO ${ws}.reactions (user_id, topic_id, seq, reaction, created_at)
      VALUES (amendment[5], message.topic_id, message.seq, amendment[6], amendment[7]::bigint);
  END IF;

  -- Counts on from what was shown: a message may have more reactions than should be counted each time.
  SELECT json_agg(json_build_object('reaction', now.reaction, 'count', now.count, 'user_ids', CASE
      WHEN now.reaction <> amendment[6] THEN now.user_ids
      ELSE (SELECT json_agg(f.user_id ORDER BY f.created_at, f.user_id) FROM (
        SELECT r.user_id, r.created_at FROM ${ws}.reactions AS r
          WHERE r.topic_id = message.topic_id AND r.seq = message.seq AND r.reaction = amendment[6]
          ORDER BY r.created_at, r.user_id LIMIT 20) AS f) END) ORDER BY now.place)
    INTO shown FROM (
      SELECT s.place, s.it ->> 'reaction' AS reaction, s.it -> 'user_ids' AS user_ids, (s.it ->> 'count')::bigint
          + CASE WHEN s.it ->> 'reaction' <> amendment[6] THEN 0 WHEN kind = 'react' THEN 1 ELSE -1 END AS count
        FROM json_array_elements(coalesce(message.reactions, '[]')::json) WITH ORDINALITY AS s (it, place)
      UNION ALL
      SELECT 9007199254740991, amendment[6], NULL, 1 WHERE kind = 'react' AND is_new) AS now
    WHERE now.count > 0;
  UPDATE ${ws}.events AS e SET reactions = shown::text
    WHERE e.topic_id = message.topic_id AND e.position = message.position;
  RETURN 'applied';
END
$amend$;
COMMENT ON FUNCTION ${ws}.amend IS
  'Changes a message whose topic is locked; says applied, or why nothing was changed. amendment: the number of its event in the batch, what is done, the id, the new payload, the user, the reaction, when (ms since the epoch).';
