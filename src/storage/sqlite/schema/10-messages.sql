-- Keeps what is changed of messages afterwards [MSG2] [MSG3]: who has reacted how, and of each message with reactions what is shown
-- of them (JSON), not in its row, which would be written anew with all its text each time. A message that is deleted is sent by
-- '' and by nobody any more. Reactions go with their message, whoever removes it.

CREATE TABLE shown_reactions (
  position INTEGER PRIMARY KEY,
  reactions TEXT NOT NULL
);
-- How often a text was taken back, and up to where of that the file was cleaned of what is left beside its rows.
ALTER TABLE log_state ADD COLUMN deletions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE log_state ADD COLUMN cleaned INTEGER NOT NULL DEFAULT 0;
CREATE TABLE reactions (
  reaction_row INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL,
  topic_id INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  reaction TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (user_id, topic_id, seq, reaction)
);
CREATE INDEX reactions_by_message ON reactions (topic_id, seq, reaction, created_at, user_id);
CREATE TRIGGER reactions_removed AFTER DELETE ON events
  WHEN EXISTS (SELECT 1 FROM shown_reactions WHERE position = OLD.position) BEGIN
  DELETE FROM shown_reactions WHERE position = OLD.position;
  DELETE FROM reactions WHERE topic_id = OLD.topic_id AND seq = OLD.seq;
END;
