-- Keeps who may write in a conversation [MSG5], and tells of its changes; keeps with every change of the directory when it was
-- (ms since 1970). The changes of before go: whoever starts begins with those that come.

ALTER TABLE members ADD COLUMN may_write INTEGER NOT NULL DEFAULT 1 CHECK (may_write IN (0, 1));

DROP TABLE directory_changes;
CREATE TABLE directory_changes (
  change_id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  conversation_id TEXT,
  user_id TEXT NOT NULL,
  changed_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
);
CREATE TRIGGER directory_changes_pruned AFTER INSERT ON directory_changes BEGIN
  DELETE FROM directory_changes WHERE change_id <= NEW.change_id - 10000;
END;

CREATE TRIGGER members_may_write AFTER UPDATE OF may_write ON members
  WHEN OLD.may_write <> NEW.may_write AND OLD.conversation_id = NEW.conversation_id AND OLD.user_id = NEW.user_id BEGIN
  INSERT INTO directory_changes (kind, conversation_id, user_id)
    VALUES ('member_updated', NEW.conversation_id, NEW.user_id);
END;
