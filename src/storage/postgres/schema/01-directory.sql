-- Tells nodes of changes in the directory, in the first version. Released: never edited.

CREATE FUNCTION ${ws}.notify_directory(change jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- The time makes each notification different: equal ones of a transaction would be folded into the first.
  payload text := (change || jsonb_build_object('at', clock_timestamp()))::text;
BEGIN
  -- A longer one would make the application's own transaction fail.
  IF octet_length(payload) > 7900 THEN
    payload := '{"op": "resync"}';
  END IF;
  PERFORM pg_notify('${ws}_directory', payload);
END
$$;
COMMENT ON FUNCTION ${ws}.notify_directory IS
$$Tells all nodes of a change, once the transaction commits:
{"op": "member_added" | "member_removed", "conversation_id": …, "user_id": …}, {"op": "user_changed", "user_id": …}
or {"op": "resync"} where too much has changed to be told one by one.$$;

CREATE FUNCTION ${ws}.notify_membership_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  conversation_column text := coalesce(TG_ARGV[0], 'conversation_id');
  user_column text := coalesce(TG_ARGV[1], 'user_id');
  conversation_id_before text;
  conversation_id_after text;
  user_id_before text;
  user_id_after text;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    PERFORM ${ws}.notify_directory('{"op": "resync"}');
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    conversation_id_before := to_jsonb(OLD) ->> conversation_column;
    user_id_before := to_jsonb(OLD) ->> user_column;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    conversation_id_after := to_jsonb(NEW) ->> conversation_column;
    user_id_after := to_jsonb(NEW) ->> user_column;
  END IF;
  IF conversation_id_before IS NOT DISTINCT FROM conversation_id_after
    AND user_id_before IS NOT DISTINCT FROM user_id_after THEN
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    PERFORM ${ws}.notify_directory(jsonb_build_object(
      'op', 'member_removed', 'conversation_id', conversation_id_before, 'user_id', user_id_before));
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM ${ws}.notify_directory(jsonb_build_object(
      'op', 'member_added', 'conversation_id', conversation_id_after, 'user_id', user_id_after));
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION ${ws}.notify_membership_changed() IS
$$For the application's own table of members, where directory.members names a view over it. The arguments are the
columns of the conversation and of the user; left out, conversation_id and user_id:

  CREATE TRIGGER ws_membership AFTER INSERT OR UPDATE OR DELETE ON app.room_members
    FOR EACH ROW EXECUTE FUNCTION ${ws}.notify_membership_changed('room_id', 'account_id');
  CREATE TRIGGER ws_membership_truncated AFTER TRUNCATE ON app.room_members
    FOR EACH STATEMENT EXECUTE FUNCTION ${ws}.notify_membership_changed();

Where the view leaves out some rows (members who have left, say), call ${ws}.notify_directory() from a trigger of your own.$$;

CREATE FUNCTION ${ws}.notify_user_changed() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  user_column text := coalesce(TG_ARGV[0], 'user_id');
  before text;
  after text;
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    PERFORM ${ws}.notify_directory('{"op": "resync"}');
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    before := to_jsonb(OLD) ->> user_column;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    after := to_jsonb(NEW) ->> user_column;
    PERFORM ${ws}.notify_directory(jsonb_build_object('op', 'user_changed', 'user_id', after));
  END IF;
  IF before IS DISTINCT FROM after AND before IS NOT NULL THEN
    PERFORM ${ws}.notify_directory(jsonb_build_object('op', 'user_changed', 'user_id', before));
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION ${ws}.notify_user_changed() IS
$$For the application's own table of users, where directory.users names a view over it. The argument is the column of the
user, user_id where it is left out. Name the columns that disable a user, so that other updates tell nobody:

  CREATE TRIGGER ws_user AFTER INSERT OR DELETE OR UPDATE OF banned ON app.accounts
    FOR EACH ROW EXECUTE FUNCTION ${ws}.notify_user_changed('account_id');$$;

CREATE FUNCTION ${ws}.remember_conversation() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO ${ws}.conversations (conversation_id) VALUES (NEW.conversation_id) ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;

CREATE TRIGGER conversation_remembered AFTER INSERT OR UPDATE OF conversation_id ON ${ws}.members
  FOR EACH ROW EXECUTE FUNCTION ${ws}.remember_conversation();
CREATE TRIGGER membership_changed AFTER INSERT OR UPDATE OR DELETE ON ${ws}.members
  FOR EACH ROW EXECUTE FUNCTION ${ws}.notify_membership_changed();
CREATE TRIGGER members_truncated AFTER TRUNCATE ON ${ws}.members
  FOR EACH STATEMENT EXECUTE FUNCTION ${ws}.notify_membership_changed();
CREATE TRIGGER user_added_or_removed AFTER INSERT OR DELETE ON ${ws}.users
  FOR EACH ROW EXECUTE FUNCTION ${ws}.notify_user_changed();
CREATE TRIGGER user_updated AFTER UPDATE ON ${ws}.users
  FOR EACH ROW WHEN (OLD.disabled <> NEW.disabled OR OLD.user_id <> NEW.user_id)
  EXECUTE FUNCTION ${ws}.notify_user_changed();
CREATE TRIGGER users_truncated AFTER TRUNCATE ON ${ws}.users
  FOR EACH STATEMENT EXECUTE FUNCTION ${ws}.notify_user_changed();
