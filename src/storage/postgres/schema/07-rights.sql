-- Runs no function of this schema as its owner that touches what its caller has defined. Anybody may put the triggers of the
-- directory on a table of their own, and what reads its rows there (a cast, say) runs in the rights of whoever writes to it;
-- they call nothing of this schema, so that those need no right here. They tell of who may write as well [MSG5].

CREATE OR REPLACE FUNCTION ${ws}.notify_directory(change jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- The time makes each notification different: equal ones of a transaction would be folded into the first.
  payload text := (change || jsonb_build_object('at', clock_timestamp()))::text;
BEGIN
  -- A longer one would make the application's own transaction fail.
  PERFORM pg_notify('${ws}_directory', CASE WHEN octet_length(payload) > 7900 THEN '{"op": "resync"}' ELSE payload END);
END
$$;
COMMENT ON FUNCTION ${ws}.notify_directory IS
$$Tells all nodes of a change, once the transaction commits:
{"op": "member_added" | "member_removed" | "member_updated", "conversation_id": …, "user_id": …},
{"op": "user_changed", "user_id": …} or {"op": "resync"} where too much has changed to be told one by one.$$;

CREATE OR REPLACE FUNCTION ${ws}.notify_membership_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  conversation_column text := coalesce(TG_ARGV[0], 'conversation_id');
  user_column text := coalesce(TG_ARGV[1], 'user_id');
  write_column text := coalesce(TG_ARGV[2], 'may_write');
  conversation_id_before text;
  conversation_id_after text;
  user_id_before text;
  user_id_after text;
  changes jsonb[] := '{}';
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
  ELSIF TG_OP = 'UPDATE' AND to_jsonb(OLD) -> write_column IS DISTINCT FROM to_jsonb(NEW) -> write_column THEN
    changes := changes || jsonb_build_object(
      'op', 'member_updated', 'conversation_id', conversation_id_after, 'user_id', user_id_after);
  END IF;
  -- As notify_directory does.
  PERFORM pg_notify('${ws}_directory', CASE WHEN octet_length(p.payload) > 7900 THEN '{"op": "resync"}' ELSE p.payload END)
    FROM unnest(changes) AS c (change)
    CROSS JOIN LATERAL (SELECT (c.change || jsonb_build_object('at', clock_timestamp()))::text AS payload) AS p;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION ${ws}.notify_membership_changed() IS
$$For the application's own table of members, where directory.members names a view over it. The arguments are the
columns of the conversation, of the user, and of what says whether the member may write; left out, conversation_id, user_id
and may_write, and a column that there is not says nothing:

  CREATE TRIGGER ws_membership AFTER INSERT OR UPDATE OR DELETE ON app.room_members
    FOR EACH ROW EXECUTE FUNCTION ${ws}.notify_membership_changed('room_id', 'account_id', 'muted');
  CREATE TRIGGER ws_membership_truncated AFTER TRUNCATE ON app.room_members
    FOR EACH STATEMENT EXECUTE FUNCTION ${ws}.notify_membership_changed();

Where the view leaves out some rows (members who have left, say), or says by another table who may write, call
${ws}.notify_directory() from a trigger of your own.$$;

CREATE OR REPLACE FUNCTION ${ws}.notify_user_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  user_column text := coalesce(TG_ARGV[0], 'user_id');
  before text;
  after text;
  changes jsonb[] := '{}';
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
  END IF;
  -- As notify_directory does.
  PERFORM pg_notify('${ws}_directory', CASE WHEN octet_length(p.payload) > 7900 THEN '{"op": "resync"}' ELSE p.payload END)
    FROM unnest(changes) AS c (change)
    CROSS JOIN LATERAL (SELECT (c.change || jsonb_build_object('at', clock_timestamp()))::text AS payload) AS p;
  RETURN NULL;
END
$$;

-- Publishing writes as its owner. All its parameters are of the engine's own types, so that a caller's casts are over before
-- it begins; nobody may call it who was not named. In a schema of before, where USAGE was enough, who has that by name when
-- this step runs may go on.
DO $rights$
DECLARE
  publishing text;
  named text;
BEGIN
  FOR publishing IN
    SELECT p.oid::regprocedure::text FROM pg_catalog.pg_proc AS p
      WHERE p.pronamespace = '${ws}'::regnamespace AND p.proname ~ '^publish'
  LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', publishing);
    FOR named IN
      SELECT a.grantee::regrole::text FROM pg_catalog.pg_namespace AS n, pg_catalog.aclexplode(n.nspacl) AS a
        WHERE n.oid = '${ws}'::regnamespace AND a.privilege_type = 'USAGE' AND a.grantee <> 0 AND a.grantee <> n.nspowner
          -- Version 0 while the first one is made.
          AND (SELECT version > 0 FROM ${ws}.schema_version)
    LOOP
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', publishing, named);
    END LOOP;
  END LOOP;
END
$rights$;
