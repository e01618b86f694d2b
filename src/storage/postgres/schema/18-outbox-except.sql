-- Lets what is published leave out a device, as `publish` does, and refuses in the application's own statement a
-- conversation_id that contradicts, and messages and changes of them that lack what they need [PUB1] [PUB2].

ALTER TABLE ${ws}.outbox ADD COLUMN except_device text;
ALTER TABLE ${ws}.outbox_rejected ADD COLUMN except_device text;

CREATE OR REPLACE FUNCTION ${ws}.outbox_check() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  fault text;
  field record;
  given jsonb;
BEGIN
  IF NEW.topic IS NULL OR NEW.topic COLLATE "C" !~ '^(user|conversation|notifications):[!-~]{1,128}$' THEN
    fault := format('topic must be user:<id>, conversation:<id> or notifications:<id>, with an id of 1 to 128 '
      'printable ASCII characters without spaces; it is %s', coalesce(quote_literal(left(NEW.topic, 200)), 'null'));
  ELSIF NEW.type IS NULL OR NEW.type COLLATE "C" !~ '^[a-z][a-z0-9_.]{0,63}$' THEN
    fault := format('type must match ^[a-z][a-z0-9_.]{0,63}$; it is %s',
      coalesce(quote_literal(left(NEW.type, 200)), 'null'));
  ELSIF NEW.type IN ('connected', 'auth.success', 'auth.failed', 'auth.expiring', 'subscribed', 'unsubscribed', 'pong',
      'ack', 'error', 'history', 'members', 'draining') OR NEW.type LIKE 'admin.%' THEN
    fault := format('type %L is a reply of the server''s own', NEW.type);
  ELSIF NEW.payload IS NULL OR jsonb_typeof(NEW.payload) <> 'object' THEN
    fault := format('payload must be a JSON object; it is %s', coalesce(jsonb_typeof(NEW.payload), 'null'));
  ELSIF NEW.topic LIKE 'conversation:%' AND jsonb_typeof(NEW.payload -> 'conversation_id') = 'string'
    AND (NEW.payload ->> 'conversation_id') COLLATE "C" <> substr(NEW.topic, length('conversation:') + 1) THEN
    fault := format('payload.conversation_id must be left out, or be the conversation that it is published to; it is %s',
      quote_literal(left(NEW.payload ->> 'conversation_id', 200)));
  ELSIF NEW.event_key COLLATE "C" !~ '^[!-~]{1,128}$' THEN
    fault := 'event_key must have 1 to 128 printable ASCII characters without spaces';
  ELSIF NEW.except_device COLLATE "C" !~ '^[!-~]{1,128}$' THEN
    fault := 'except_device must have 1 to 128 printable ASCII characters without spaces';
  ELSIF NEW.type IN ('message.edited', 'message.deleted', 'message.reaction') AND NEW.topic NOT LIKE 'conversation:%' THEN
    fault := format('type %L changes a message, and has to be published to its conversation; topic is %L', NEW.type, NEW.topic);
  ELSIF NEW.type IN ('message.new', 'message.edited', 'message.deleted', 'message.reaction') THEN
    -- Of messages what is needed, and of which kind: the rest only the service can tell.
    FOR field IN
      SELECT f.name, f.kind, f.needed FROM (VALUES
        (NULL, 'conversation_id', 'id', NEW.topic NOT LIKE 'conversation:%'),
        ('message.new', 'message_id', 'id', false), ('message.new', 'client_message_id', 'id', false),
        ('message.new', 'sender_id', 'id', true), ('message.new', 'content', 'content', true),
        ('message.new', 'created_at', 'moment', false), ('message.new', 'edited_at', 'moment', false),
        ('message.new', 'deleted_at', 'later', false), ('message.new', 'reactions', 'later', false),
        ('message.edited', 'message_id', 'id', true), ('message.edited', 'content', 'content', true),
        ('message.edited', 'edited_by', 'id', false), ('message.edited', 'edited_at', 'moment', false),
        ('message.deleted', 'message_id', 'id', true), ('message.deleted', 'deleted_by', 'id', false),
        ('message.deleted', 'deleted_at', 'moment', false),
        ('message.reaction', 'message_id', 'id', true), ('message.reaction', 'user_id', 'id', true),
        ('message.reaction', 'reaction', 'reaction', true), ('message.reaction', 'added', 'flag', true),
        ('message.reaction', 'at', 'moment', false)) AS f (type, name, kind, needed)
      WHERE coalesce(f.type, NEW.type) = NEW.type
    LOOP
      given := NEW.payload -> field.name;
      CONTINUE WHEN given IS NULL AND NOT field.needed;
      fault := CASE field.kind
        WHEN 'id' THEN CASE WHEN jsonb_typeof(given) IS DISTINCT FROM 'string'
            OR (given #>> '{}') COLLATE "C" !~ '^[!-~]{1,128}$'
          THEN 'be an id of 1 to 128 printable ASCII characters without spaces' END
        WHEN 'content' THEN CASE WHEN given IS NULL OR jsonb_typeof(given) NOT IN ('string', 'object')
          THEN 'be a string or an object' END
        WHEN 'reaction' THEN CASE WHEN jsonb_typeof(given) IS DISTINCT FROM 'string'
            OR octet_length(given #>> '{}') NOT BETWEEN 1 AND 64 THEN 'be a text of 1 to 64 bytes' END
        WHEN 'flag' THEN CASE WHEN jsonb_typeof(given) IS DISTINCT FROM 'boolean' THEN 'be true or false' END
        WHEN 'moment' THEN CASE WHEN jsonb_typeof(given) <> 'string' THEN 'be an RFC 3339 timestamp' END
        WHEN 'later' THEN 'not be there: it is what becomes of a message later' END;
      IF fault IS NOT NULL THEN
        fault := format('payload.%s of %s must %s; it is %s', field.name, NEW.type, fault,
          CASE WHEN given IS NULL THEN 'missing' ELSE left(given::text, 200) END);
        EXIT;
      END IF;
    END LOOP;
  END IF;
  IF fault IS NOT NULL THEN
    RAISE EXCEPTION USING MESSAGE = '${ws}.publish: ' || fault, ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN NEW;
END $body$;

-- A function cannot be given one parameter more, and two of a name would be ambiguous.
ALTER FUNCTION ${ws}.publish(text, text, jsonb, text) RENAME TO publish_before;
ALTER FUNCTION ${ws}.publish_to_conversation(text, text, jsonb, text) RENAME TO publish_to_conversation_before;
ALTER FUNCTION ${ws}.publish_to_users(text[], text, jsonb, text) RENAME TO publish_to_users_before;

CREATE FUNCTION ${ws}.publish(topic text, type text, payload jsonb, event_key text DEFAULT NULL,
  except_device text DEFAULT NULL) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
  INSERT INTO ${ws}.outbox (topic, type, payload, event_key, except_device) VALUES ($1, $2, $3, $4, $5);
$body$;
COMMENT ON FUNCTION ${ws}.publish(text, text, jsonb, text, text) IS
  'Publishes to user:<id>, conversation:<id> or notifications:<id> once this transaction has committed, not to except_device; the same event_key publishes once.';

CREATE FUNCTION ${ws}.publish_to_conversation(conversation_id text, type text, payload jsonb,
  event_key text DEFAULT NULL, except_device text DEFAULT NULL) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
  INSERT INTO ${ws}.outbox (topic, type, payload, event_key, except_device)
    VALUES ('conversation:' || $1, $2, $3, $4, $5);
$body$;

CREATE FUNCTION ${ws}.publish_to_users(user_ids text[], type text, payload jsonb, event_key text DEFAULT NULL,
  except_device text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  IF coalesce(cardinality($1), 0) NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION USING MESSAGE = format('${ws}.publish: user_ids must name 1 to 1000 users, it names %s',
      coalesce(cardinality($1), 0)), ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO ${ws}.outbox (topic, type, payload, event_key, except_device)
    SELECT CASE WHEN $2 = 'notification' THEN 'notifications:' ELSE 'user:' END || wanted.id, $2, $3, $4, $5
    FROM (SELECT listed.id, min(listed.place) AS place FROM unnest($1) WITH ORDINALITY AS listed (id, place)
      GROUP BY listed.id) AS wanted ORDER BY wanted.place;
END $body$;

-- Whoever might publish goes on doing so, and nobody else: the rights and the owner are those of the function of before.
DO $rights$
DECLARE
  before record;
  made regprocedure;
  named record;
BEGIN
  FOR before IN
    SELECT p.oid::regprocedure AS function, p.proname AS name, p.proowner AS owner,
        coalesce(p.proacl, acldefault('f', p.proowner)) AS rights FROM pg_catalog.pg_proc AS p
      WHERE p.pronamespace = '${ws}'::regnamespace
        AND p.proname IN ('publish_before', 'publish_to_conversation_before', 'publish_to_users_before')
  LOOP
    SELECT p.oid INTO STRICT made FROM pg_catalog.pg_proc AS p
      WHERE p.pronamespace = '${ws}'::regnamespace AND p.proname = replace(before.name, '_before', '');
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', made);
    FOR named IN
      SELECT DISTINCT a.grantee::regrole::text AS role FROM pg_catalog.pg_proc AS p, pg_catalog.aclexplode(p.proacl) AS a
        WHERE p.oid = made AND a.grantee NOT IN (0, p.proowner)
    LOOP
      EXECUTE format('REVOKE ALL ON FUNCTION %s FROM %s CASCADE', made, named.role);
    END LOOP;
    IF (SELECT p.proowner <> before.owner FROM pg_catalog.pg_proc AS p WHERE p.oid = made) THEN
      EXECUTE format('ALTER FUNCTION %s OWNER TO %s', made, before.owner::regrole);
    END IF;
    FOR named IN
      SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role, bool_or(a.is_grantable) AS grantable
        FROM pg_catalog.aclexplode(before.rights) AS a WHERE a.grantee <> before.owner GROUP BY a.grantee
    LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s%s', made, named.role,
        CASE WHEN named.grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    BEGIN
      EXECUTE format('DROP FUNCTION %s', before.function);
    EXCEPTION WHEN dependent_objects_still_exist THEN
      -- A view or a function of the application's names it, and goes on using it under its new name.
      NULL;
    END;
  END LOOP;
END
$rights$;
