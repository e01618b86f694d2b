/** Who may have what run in the PostgreSQL schema, and as whom: no function of it runs what its caller has defined as its owner. */
import { directoryChannel } from "./schema-directory.ts";

/** Notifies of `change`, in the rights of whoever has made it. */
const tell = (ws: string) => `
  FOREACH change IN ARRAY changes LOOP
    -- The time makes each notification different: equal ones of a transaction would be folded into the first.
    payload := (change || jsonb_build_object('at', clock_timestamp()))::text;
    -- A longer one would make the application's own transaction fail.
    PERFORM pg_notify('${directoryChannel(ws)}',
      CASE WHEN octet_length(payload) > 7900 THEN '{"op": "resync"}' ELSE payload END);
  END LOOP;`;

/**
 * The functions of the directory anew, with the rights of whoever calls them: anybody may put the triggers on a table of
 * their own, and what reads its rows there (a cast that they have defined, say) must not run as the owner of this schema.
 * They call nothing of this schema, so that who writes to such a table needs no right here.
 */
const invokersFunctions = (ws: string) => `
CREATE OR REPLACE FUNCTION ${ws}.notify_directory(change jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  changes jsonb[] := ARRAY[change];
  payload text;
BEGIN${tell(ws)}
END
$$;

CREATE OR REPLACE FUNCTION ${ws}.notify_membership_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  conversation_column text := coalesce(TG_ARGV[0], 'conversation_id');
  user_column text := coalesce(TG_ARGV[1], 'user_id');
  conversation_id_before text;
  conversation_id_after text;
  user_id_before text;
  user_id_after text;
  changes jsonb[] := '{}';
  change jsonb;
  payload text;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    changes := ARRAY['{"op": "resync"}'::jsonb];
  END IF;
  IF TG_OP IN ('UPDATE', 'DELETE') THEN
    conversation_id_before := to_jsonb(OLD) ->> conversation_column;
    user_id_before := to_jsonb(OLD) ->> user_column;
  END IF;
  IF TG_OP IN ('INSERT', 'UPDATE') THEN
    conversation_id_after := to_jsonb(NEW) ->> conversation_column;
    user_id_after := to_jsonb(NEW) ->> user_column;
  END IF;
  IF conversation_id_before IS DISTINCT FROM conversation_id_after
    OR user_id_before IS DISTINCT FROM user_id_after THEN
    IF TG_OP <> 'INSERT' THEN
      changes := changes || jsonb_build_object(
        'op', 'member_removed', 'conversation_id', conversation_id_before, 'user_id', user_id_before);
    END IF;
    IF TG_OP <> 'DELETE' THEN
      changes := changes || jsonb_build_object(
        'op', 'member_added', 'conversation_id', conversation_id_after, 'user_id', user_id_after);
    END IF;
  END IF;${tell(ws)}
  RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION ${ws}.notify_user_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  user_column text := coalesce(TG_ARGV[0], 'user_id');
  before text;
  after text;
  changes jsonb[] := '{}';
  change jsonb;
  payload text;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    changes := ARRAY['{"op": "resync"}'::jsonb];
  END IF;
  IF TG_OP IN ('UPDATE', 'DELETE') THEN
    before := to_jsonb(OLD) ->> user_column;
  END IF;
  IF TG_OP IN ('INSERT', 'UPDATE') THEN
    after := to_jsonb(NEW) ->> user_column;
    changes := changes || jsonb_build_object('op', 'user_changed', 'user_id', after);
  END IF;
  IF before IS DISTINCT FROM after AND before IS NOT NULL THEN
    changes := changes || jsonb_build_object('op', 'user_changed', 'user_id', before);
  END IF;${tell(ws)}
  RETURN NULL;
END
$$;
`;

/**
 * What has to write as its owner: publishing, and remembering conversations. Of the first all parameters are of types of
 * the engine's own, so that a caller's casts are over before it begins; the second one looks where it is before it reads a
 * row. Nobody may call either who was not named. In a schema of before, where `USAGE` was enough to publish, who has it by name
 * when this step runs may go on.
 */
const ownersFunctions = (ws: string) => `
CREATE OR REPLACE FUNCTION ${ws}.remember_conversation() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_RELID <> '${ws}.members'::regclass THEN
    RAISE EXCEPTION '${ws}.remember_conversation() is for the table ${ws}.members' USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO ${ws}.conversations (conversation_id) VALUES (NEW.conversation_id) ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;

DO $rights$
DECLARE
  found record;
  named text;
  -- 0 while the first version is made.
  is_upgrade boolean := (SELECT version > 0 FROM ${ws}.schema_version);
BEGIN
  FOR found IN
    SELECT p.oid::regprocedure::text AS signature, p.prosecdef AS is_definer, p.proname ~ '^publish' AS is_publishing
      FROM pg_catalog.pg_proc AS p WHERE p.pronamespace = '${ws}'::regnamespace
        AND p.proname = ANY ('{append,trim,replay,receipt_states,prove_writes,outbox_check,outbox_wake,publish,
          publish_to_conversation,publish_to_users,remember_conversation}')
  LOOP
    -- Functions and operators of other schemas are never looked for.
    EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', found.signature);
    CONTINUE WHEN NOT found.is_definer;
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', found.signature);
    CONTINUE WHEN NOT (found.is_publishing AND is_upgrade);
    FOR named IN
      SELECT a.grantee::regrole::text FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS a
        WHERE n.oid = '${ws}'::regnamespace AND a.privilege_type = 'USAGE' AND a.grantee <> 0 AND a.grantee <> n.nspowner
    LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', found.signature, named);
    END LOOP;
  END LOOP;
END
$rights$;
`;

/** @param ws the schema's name */
export const rights = (ws: string) => invokersFunctions(ws) + ownersFunctions(ws);
