-- Counts what was said in a conversation before somebody came as read by them [REC3]: a watermark of the kind `joined`, at the
-- conversation's head as the row of `members` comes in, in the same transaction. Moves it for one who comes again, where
-- something was said meanwhile: members that are only replaced keep theirs. Members of before this step have none: all
-- counts for them, as it did. What was kept of conversations themselves was asked by nobody, and goes.

DROP TRIGGER conversation_remembered ON ${ws}.members;
DROP FUNCTION ${ws}.remember_conversation();
DROP TABLE ${ws}.conversations;

CREATE FUNCTION ${ws}.note_joining() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $note_joining$
DECLARE
  now_ms bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
  head_left bigint;
BEGIN
  -- Looks where it is before it reads a row: it writes as its owner.
  IF TG_RELID <> '${ws}.members'::regclass THEN
    RAISE EXCEPTION '${ws}.note_joining() is for the table ${ws}.members' USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF TG_OP = 'UPDATE' AND OLD.conversation_id = NEW.conversation_id AND OLD.user_id = NEW.user_id THEN
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO ${ws}.receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
      SELECT t.topic_id, OLD.user_id, 'left', h.seq, h.seq, now_ms
      FROM ${ws}.topics AS t CROSS JOIN LATERAL ${ws}.head_seq(t.topic_id) AS h (seq)
      WHERE t.name = 'conversation:' || OLD.conversation_id AND h.seq > 0
      ON CONFLICT (topic_id, user_id, kind) DO UPDATE
        SET seq = excluded.seq, sent_seq = excluded.sent_seq, moved_at = excluded.moved_at;
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN NULL;
  END IF;
  DELETE FROM ${ws}.receipts AS r USING ${ws}.topics AS t
    WHERE t.name = 'conversation:' || NEW.conversation_id AND r.topic_id = t.topic_id
      AND r.user_id = NEW.user_id AND r.kind = 'left'
    RETURNING r.seq INTO head_left;
  INSERT INTO ${ws}.receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
    SELECT t.topic_id, NEW.user_id, 'joined', h.seq, h.seq, now_ms
    FROM ${ws}.topics AS t CROSS JOIN LATERAL ${ws}.head_seq(t.topic_id) AS h (seq)
    WHERE t.name = 'conversation:' || NEW.conversation_id AND h.seq > coalesce(head_left, 0)
    ON CONFLICT (topic_id, user_id, kind) DO UPDATE
      SET seq = excluded.seq, sent_seq = excluded.sent_seq, moved_at = excluded.moved_at;
  RETURN NULL;
END
$note_joining$;
REVOKE EXECUTE ON FUNCTION ${ws}.note_joining() FROM PUBLIC;
CREATE TRIGGER joining_noted AFTER INSERT OR DELETE OR UPDATE OF conversation_id, user_id ON ${ws}.members
  FOR EACH ROW EXECUTE FUNCTION ${ws}.note_joining();

DROP FUNCTION ${ws}.receipt_states(text, text[]);
CREATE FUNCTION ${ws}.receipt_states(given_user text, given_topics text[])
RETURNS TABLE (topic text, as_of_seq bigint, read_seq bigint, delivered_seq bigint, unread bigint) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
-- Reaches every row by an index, whatever the statistics say: a page is small, however large the log is.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $receipt_states$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT t.name, ${ws}.head_seq(t.topic_id), r.read_seq, r.delivered_seq, u.unread FROM ${ws}.topics AS t CROSS JOIN LATERAL (
      SELECT coalesce(max(seq) FILTER (WHERE kind IN ('read', 'read_private', 'joined')), 0) AS read_seq,
        coalesce(max(seq) FILTER (WHERE kind IN ('delivered', 'read_private', 'joined')), 0) AS delivered_seq
      FROM ${ws}.receipts WHERE topic_id = t.topic_id AND user_id = given_user) AS r
    CROSS JOIN LATERAL (
      SELECT count(*) AS unread FROM ${ws}.events AS e
      WHERE e.topic_id = t.topic_id AND e.seq > r.read_seq AND e.sender_id NOT IN ('', given_user)) AS u
    WHERE t.name = ANY (given_topics);
END
$receipt_states$;
COMMENT ON FUNCTION ${ws}.receipt_states IS
  'How far a user has read each topic, and how many messages of others came after that, as of its last number.';
