-- Takes what applications publish inside their own transactions [PUB2]. Needs USAGE on the schema and nothing else of
-- its callers; looks at every row, whatever way it comes in. Released: never edited.

CREATE TABLE ${ws}.outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The row's name for all time: ids begin again where the table is made anew.
  key uuid NOT NULL DEFAULT gen_random_uuid(),
  topic text NOT NULL,
  type text NOT NULL,
  payload jsonb NOT NULL,
  event_key text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Rows live for milliseconds: what they leave behind is cleared away by number, not by share.
ALTER TABLE ${ws}.outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE ${ws}.outbox_rejected (
  key uuid PRIMARY KEY,
  topic text NOT NULL,
  type text NOT NULL,
  payload jsonb NOT NULL,
  event_key text,
  created_at timestamptz NOT NULL,
  rejected_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  reason text NOT NULL
);
CREATE INDEX outbox_rejected_by_age ON ${ws}.outbox_rejected (rejected_at);

CREATE FUNCTION ${ws}.outbox_check() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  fault text;
BEGIN
  IF NEW.topic IS NULL OR NEW.topic COLLATE "C" !~ '^(user|conversation|notifications):[!-~]{1,128}$' THEN
    fault := format('topic must be user:<id>, conversation:<id> or notifications:<id>, with an id of 1 to 128 '
      'printable ASCII characters without spaces; it is %s', coalesce(quote_literal(left(NEW.topic, 200)), 'null'));
  ELSIF NEW.type IS NULL OR NEW.type COLLATE "C" !~ '^[a-z][a-z0-9_.]{0,63}$' THEN
    fault := format('type must match ^[a-z][a-z0-9_.]{0,63}$; it is %s',
      coalesce(quote_literal(left(NEW.type, 200)), 'null'));
  ELSIF NEW.type IN ('connected', 'auth.success', 'auth.failed', 'auth.expiring', 'subscribed', 'unsubscribed', 'pong',
      'ack', 'error', 'history', 'draining') OR NEW.type LIKE 'admin.%' THEN
    fault := format('type %L is a reply of the server''s own', NEW.type);
  ELSIF NEW.payload IS NULL OR jsonb_typeof(NEW.payload) <> 'object' THEN
    fault := format('payload must be a JSON object; it is %s', coalesce(jsonb_typeof(NEW.payload), 'null'));
  ELSIF NEW.event_key COLLATE "C" !~ '^[!-~]{1,128}$' THEN
    fault := 'event_key must have 1 to 128 printable ASCII characters without spaces';
  END IF;
  IF fault IS NOT NULL THEN
    RAISE EXCEPTION USING MESSAGE = '${ws}.publish: ' || fault, ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN NEW;
END $body$;

CREATE FUNCTION ${ws}.outbox_wake() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  PERFORM pg_notify('${ws}_outbox', '');
  RETURN NULL;
END $body$;

CREATE TRIGGER outbox_check BEFORE INSERT OR UPDATE ON ${ws}.outbox
  FOR EACH ROW EXECUTE FUNCTION ${ws}.outbox_check();
CREATE TRIGGER outbox_wake AFTER INSERT ON ${ws}.outbox
  FOR EACH STATEMENT EXECUTE FUNCTION ${ws}.outbox_wake();

CREATE FUNCTION ${ws}.publish(topic text, type text, payload jsonb, event_key text DEFAULT NULL) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
  INSERT INTO ${ws}.outbox (topic, type, payload, event_key) VALUES ($1, $2, $3, $4);
$body$;
COMMENT ON FUNCTION ${ws}.publish(text, text, jsonb, text) IS
  'Publishes to user:<id>, conversation:<id> or notifications:<id> once this transaction has committed; the same event_key publishes once.';

CREATE FUNCTION ${ws}.publish_to_conversation(conversation_id text, type text, payload jsonb,
  event_key text DEFAULT NULL) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
  INSERT INTO ${ws}.outbox (topic, type, payload, event_key) VALUES ('conversation:' || $1, $2, $3, $4);
$body$;

CREATE FUNCTION ${ws}.publish_to_users(user_ids text[], type text, payload jsonb, event_key text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  IF coalesce(cardinality($1), 0) NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION USING MESSAGE = format('${ws}.publish: user_ids must name 1 to 1000 users, it names %s',
      coalesce(cardinality($1), 0)), ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO ${ws}.outbox (topic, type, payload, event_key)
    SELECT CASE WHEN $2 = 'notification' THEN 'notifications:' ELSE 'user:' END || wanted.id, $2, $3, $4
    FROM (SELECT listed.id, min(listed.place) AS place FROM unnest($1) WITH ORDINALITY AS listed (id, place)
      GROUP BY listed.id) AS wanted ORDER BY wanted.place;
END $body$;
