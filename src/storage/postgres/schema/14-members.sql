-- Keeps who may write in a conversation [MSG5], and tells of its changes, those of the application's own tables too.

ALTER TABLE ${ws}.members ADD COLUMN may_write boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN ${ws}.members.may_write IS 'False: the member reads, and is kept from writing.';

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
COMMENT ON FUNCTION ${ws}.notify_directory IS
$$Tells all nodes of a change, once the transaction commits:
{"op": "member_added" | "member_removed" | "member_updated", "conversation_id": …, "user_id": …},
{"op": "user_changed", "user_id": …} or {"op": "resync"} where too much has changed to be told one by one.$$;
