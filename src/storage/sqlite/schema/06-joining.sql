-- Counts what was said in a conversation before somebody came as read by them: a watermark at its head as they join [REC3].
-- Moves it for one who comes again, where something was said meanwhile: members that are only replaced keep theirs, and
-- REPLACE tells nobody that they go. Takes it away first, for the triggers' own statements obey an INSERT OR IGNORE. What was
-- kept of conversations themselves was asked by nobody, and goes.

DROP TRIGGER members_inserted;
DROP TRIGGER members_updated;
DROP TABLE conversations;
CREATE TRIGGER members_inserted AFTER INSERT ON members BEGIN
  INSERT INTO directory_changes (kind, conversation_id, user_id)
    VALUES ('member_added', NEW.conversation_id, NEW.user_id);
END;
CREATE TRIGGER members_updated AFTER UPDATE ON members
  WHEN OLD.conversation_id <> NEW.conversation_id OR OLD.user_id <> NEW.user_id BEGIN
  INSERT INTO directory_changes (kind, conversation_id, user_id)
    VALUES ('member_removed', OLD.conversation_id, OLD.user_id);
  INSERT INTO directory_changes (kind, conversation_id, user_id)
    VALUES ('member_added', NEW.conversation_id, NEW.user_id);
END;

-- A mark of its own: an INSERT OR IGNORE, and one that updates instead, come by here too, and nobody is gone by them.
CREATE TRIGGER members_replaced BEFORE INSERT ON members
  WHEN EXISTS (SELECT 1 FROM members WHERE conversation_id = NEW.conversation_id AND user_id = NEW.user_id) BEGIN
  DELETE FROM receipts WHERE user_id = NEW.user_id AND kind = 'replaced' AND topic_id = (
    SELECT topic_id FROM topics WHERE name = 'conversation:' || NEW.conversation_id AND seq > 0);
  INSERT INTO receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
    SELECT topic_id, NEW.user_id, 'replaced', seq, seq, unixepoch() * 1000 FROM topics
    WHERE name = 'conversation:' || NEW.conversation_id AND seq > 0;
END;
CREATE TRIGGER members_left AFTER DELETE ON members BEGIN
  DELETE FROM receipts WHERE user_id = OLD.user_id AND kind = 'left' AND topic_id = (
    SELECT topic_id FROM topics WHERE name = 'conversation:' || OLD.conversation_id AND seq > 0);
  INSERT INTO receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
    SELECT topic_id, OLD.user_id, 'left', seq, seq, unixepoch() * 1000 FROM topics
    WHERE name = 'conversation:' || OLD.conversation_id AND seq > 0;
END;

-- One who left at the head that is the head still has missed nothing. Who is here has not left.
CREATE TRIGGER members_joined AFTER INSERT ON members BEGIN
  DELETE FROM receipts WHERE user_id = NEW.user_id AND kind = 'joined' AND topic_id = (
    SELECT topic_id FROM topics AS t WHERE name = 'conversation:' || NEW.conversation_id AND seq > 0 AND NOT EXISTS (
      SELECT 1 FROM receipts AS r
      WHERE r.topic_id = t.topic_id AND r.user_id = NEW.user_id AND r.kind IN ('left', 'replaced') AND r.seq = t.seq));
  INSERT INTO receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
    SELECT topic_id, NEW.user_id, 'joined', seq, seq, unixepoch() * 1000 FROM topics AS t
    WHERE name = 'conversation:' || NEW.conversation_id AND seq > 0 AND NOT EXISTS (
      SELECT 1 FROM receipts AS r
      WHERE r.topic_id = t.topic_id AND r.user_id = NEW.user_id AND r.kind IN ('left', 'replaced') AND r.seq = t.seq);
  DELETE FROM receipts WHERE user_id = NEW.user_id AND kind IN ('left', 'replaced') AND topic_id = (
    SELECT topic_id FROM topics WHERE name = 'conversation:' || NEW.conversation_id AND seq > 0);
END;
CREATE TRIGGER members_moved AFTER UPDATE ON members
  WHEN OLD.conversation_id <> NEW.conversation_id OR OLD.user_id <> NEW.user_id BEGIN
  DELETE FROM receipts WHERE user_id = OLD.user_id AND kind = 'left' AND topic_id = (
    SELECT topic_id FROM topics WHERE name = 'conversation:' || OLD.conversation_id AND seq > 0);
  INSERT INTO receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
    SELECT topic_id, OLD.user_id, 'left', seq, seq, unixepoch() * 1000 FROM topics
    WHERE name = 'conversation:' || OLD.conversation_id AND seq > 0;
  DELETE FROM receipts WHERE user_id = NEW.user_id AND kind = 'joined' AND topic_id = (
    SELECT topic_id FROM topics AS t WHERE name = 'conversation:' || NEW.conversation_id AND seq > 0 AND NOT EXISTS (
      SELECT 1 FROM receipts AS r
      WHERE r.topic_id = t.topic_id AND r.user_id = NEW.user_id AND r.kind IN ('left', 'replaced') AND r.seq = t.seq));
  INSERT INTO receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
    SELECT topic_id, NEW.user_id, 'joined', seq, seq, unixepoch() * 1000 FROM topics AS t
    WHERE name = 'conversation:' || NEW.conversation_id AND seq > 0 AND NOT EXISTS (
      SELECT 1 FROM receipts AS r
      WHERE r.topic_id = t.topic_id AND r.user_id = NEW.user_id AND r.kind IN ('left', 'replaced') AND r.seq = t.seq);
  DELETE FROM receipts WHERE user_id = NEW.user_id AND kind IN ('left', 'replaced') AND topic_id = (
    SELECT topic_id FROM topics WHERE name = 'conversation:' || NEW.conversation_id AND seq > 0);
END;
