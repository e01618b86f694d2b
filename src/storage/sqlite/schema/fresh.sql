-- Is the schema of a new file: what all steps make of an empty one, written from them by `npm run generate`.

CREATE TABLE log_state (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    position INTEGER NOT NULL,
    removed INTEGER NOT NULL
  , deletions INTEGER NOT NULL DEFAULT 0, cleaned INTEGER NOT NULL DEFAULT 0);

CREATE TABLE topics (
    topic_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    position INTEGER NOT NULL,
    trimmed_position INTEGER NOT NULL,
    events INTEGER NOT NULL
  , message_seq INTEGER NOT NULL DEFAULT 0);

CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    topic_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    compaction_key TEXT,
    sender_id TEXT
  );

CREATE UNIQUE INDEX events_by_compaction ON events (topic_id, compaction_key) WHERE compaction_key IS NOT NULL;

CREATE TABLE idempotency_keys (
    key_id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    topic_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    position INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    created_at INTEGER NOT NULL
  , digest TEXT);

CREATE TABLE receipts (
    receipt_id INTEGER PRIMARY KEY,
    topic_id INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    seq INTEGER NOT NULL,
    sent_seq INTEGER NOT NULL,
    moved_at INTEGER NOT NULL,
    UNIQUE (topic_id, user_id, kind)
  );

CREATE INDEX receipts_unsent ON receipts (moved_at) WHERE sent_seq < seq;

CREATE TABLE cursors (
    cursor_id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    position INTEGER NOT NULL, epoch TEXT NOT NULL DEFAULT '', seen_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user_id, device_id)
  );

CREATE TABLE statuses (
    status_id INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    status TEXT,
    text TEXT,
    emoji TEXT,
    expires_at INTEGER,
    last_seen_at INTEGER
  , present TEXT);

CREATE INDEX statuses_by_expiry ON statuses (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE users (
    user_row INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    disabled INTEGER NOT NULL DEFAULT 0
  );

CREATE TABLE members (
    member_row INTEGER PRIMARY KEY,
    conversation_id TEXT NOT NULL,
    user_id TEXT NOT NULL, may_write INTEGER NOT NULL DEFAULT 1 CHECK (may_write IN (0, 1)),
    UNIQUE (conversation_id, user_id)
  );

CREATE INDEX members_by_user ON members (user_id, conversation_id);

CREATE TRIGGER members_deleted AFTER DELETE ON members BEGIN
    INSERT INTO directory_changes (kind, conversation_id, user_id)
      VALUES ('member_removed', OLD.conversation_id, OLD.user_id);
  END;

CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN
    INSERT INTO directory_changes (kind, user_id) VALUES ('user_changed', NEW.user_id);
  END;

CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN
    INSERT INTO directory_changes (kind, user_id) VALUES ('user_changed', OLD.user_id);
  END;

CREATE TRIGGER users_updated AFTER UPDATE ON users
    WHEN OLD.disabled <> NEW.disabled OR OLD.user_id <> NEW.user_id BEGIN
    INSERT INTO directory_changes (kind, user_id) VALUES ('user_changed', NEW.user_id);
    INSERT INTO directory_changes (kind, user_id)
      SELECT 'user_changed', OLD.user_id WHERE OLD.user_id <> NEW.user_id;
  END;

CREATE TABLE write_proof (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), proofs INTEGER NOT NULL, payload BLOB NOT NULL);

CREATE INDEX topics_by_trim ON topics (trimmed_position) WHERE trimmed_position > 0;

CREATE TABLE installation (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  installation_id TEXT NOT NULL
);

CREATE TABLE blocks (
  block_row INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL UNIQUE,
  ends_at INTEGER NOT NULL
);

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

CREATE TABLE epochs (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  began_at INTEGER NOT NULL,
  broken INTEGER NOT NULL,
  line TEXT NOT NULL,
  created_at INTEGER NOT NULL
);

CREATE INDEX cursors_by_age ON cursors (seen_at);

CREATE INDEX statuses_present ON statuses (user_id) WHERE present IS NOT NULL;

CREATE TABLE shown_reactions (
  position INTEGER PRIMARY KEY,
  reactions TEXT NOT NULL
);

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

CREATE TABLE push (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  epoch TEXT,
  position INTEGER,
  holder TEXT NOT NULL,
  held_until INTEGER NOT NULL
);

CREATE TABLE erasures (
  erasure_row INTEGER PRIMARY KEY,
  user_digest TEXT NOT NULL UNIQUE,
  user_id TEXT,
  requested_by TEXT NOT NULL,
  requested_at INTEGER NOT NULL,
  started_at INTEGER,
  finished_at INTEGER,
  messages INTEGER NOT NULL,
  step INTEGER NOT NULL,
  place TEXT NOT NULL,
  through INTEGER NOT NULL,
  log_end INTEGER NOT NULL,
  turn INTEGER NOT NULL,
  due_at INTEGER NOT NULL
);

CREATE UNIQUE INDEX erasures_running ON erasures (user_id) WHERE user_id IS NOT NULL;

CREATE INDEX erasures_due ON erasures (due_at) WHERE finished_at IS NULL;

CREATE INDEX erasures_by_age ON erasures (finished_at) WHERE finished_at IS NOT NULL;

CREATE TRIGGER erased_users_stay_out BEFORE INSERT ON users
  WHEN NEW.disabled = 0 AND EXISTS (SELECT 1 FROM erasures WHERE user_id = NEW.user_id) BEGIN
  SELECT RAISE(ABORT, 'a user who is being erased is not changed meanwhile');
END;

CREATE TRIGGER erased_users_stay_disabled BEFORE UPDATE ON users
  WHEN NEW.disabled = 0 AND EXISTS (SELECT 1 FROM erasures WHERE user_id = NEW.user_id) BEGIN
  SELECT RAISE(ABORT, 'a user who is being erased is not changed meanwhile');
END;

CREATE TRIGGER erased_members_stay_out BEFORE INSERT ON members
  WHEN EXISTS (SELECT 1 FROM erasures WHERE user_id = NEW.user_id) BEGIN
  SELECT RAISE(ABORT, 'a user who is being erased is not changed meanwhile');
END;

CREATE TRIGGER erased_members_stay_as_they_are BEFORE UPDATE ON members
  WHEN EXISTS (SELECT 1 FROM erasures WHERE user_id = NEW.user_id) BEGIN
  SELECT RAISE(ABORT, 'a user who is being erased is not changed meanwhile');
END;

CREATE TABLE conversations (
  conversation_row INTEGER PRIMARY KEY,
  conversation_id TEXT NOT NULL UNIQUE,
  retention_ms INTEGER NOT NULL CHECK (retention_ms >= 60000)
);

CREATE VIEW log_end (position) AS
  SELECT max(log_state.position, coalesce((SELECT max(position) FROM events), 0)) FROM log_state;

CREATE INDEX events_by_seq ON events (topic_id, seq, sender_id);

CREATE INDEX messages_by_id ON events (id) WHERE sender_id IS NOT NULL;

INSERT INTO log_state VALUES (1, 0, 0, 0, 0);
INSERT INTO write_proof VALUES (1, 0, x'');
INSERT INTO installation VALUES (1, lower(hex(randomblob(16))));
INSERT INTO epochs VALUES (1, lower(hex(randomblob(4))), 0, 0, 'migration', unixepoch() * 1000);
INSERT INTO push VALUES (1, NULL, NULL, '', 0);
