-- Makes the tables of the first version. Released: never edited. Rowid tables with whole-number topic ids throughout:
-- tables keyed by text are four times slower to append to.

  CREATE TABLE log_state (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    position INTEGER NOT NULL,
    events INTEGER NOT NULL
  );
  INSERT INTO log_state VALUES (1, 0, 0);

  -- A topic's row stays when all of its events are gone, so that its seq goes on.
  CREATE TABLE topics (
    topic_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    position INTEGER NOT NULL,
    trimmed_position INTEGER NOT NULL,
    events INTEGER NOT NULL
  );
  CREATE INDEX topics_by_position ON topics (position);
  CREATE INDEX topics_by_events ON topics (events);

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
  -- Every index ends with the rowid, so this one is (topic_id, position).
  CREATE INDEX events_by_topic ON events (topic_id);
  CREATE UNIQUE INDEX events_by_seq ON events (topic_id, seq);
  CREATE INDEX events_by_age ON events (created_at);
  CREATE UNIQUE INDEX events_by_compaction ON events (topic_id, compaction_key) WHERE compaction_key IS NOT NULL;
  CREATE INDEX messages_by_seq ON events (topic_id, seq, sender_id) WHERE sender_id IS NOT NULL;
  CREATE INDEX messages_by_id ON events (topic_id, id) WHERE sender_id IS NOT NULL;

  -- Holds the numbers of the first event itself: compaction may have removed that.
  CREATE TABLE idempotency_keys (
    key_id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    topic_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    position INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    created_at INTEGER NOT NULL
  );
  CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

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
    cursor INTEGER NOT NULL,
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
  );
  CREATE INDEX statuses_by_expiry ON statuses (expires_at) WHERE expires_at IS NOT NULL;

  -- The application may write to users and members itself; the triggers tell this service of it.
  CREATE TABLE users (
    user_row INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    disabled INTEGER NOT NULL DEFAULT 0
  );
  CREATE TABLE conversations (
    conversation_row INTEGER PRIMARY KEY,
    conversation_id TEXT NOT NULL UNIQUE
  );
  CREATE TABLE members (
    member_row INTEGER PRIMARY KEY,
    conversation_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    UNIQUE (conversation_id, user_id)
  );
  CREATE INDEX members_by_user ON members (user_id, conversation_id);

  CREATE TABLE directory_changes (
    change_id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    conversation_id TEXT,
    user_id TEXT NOT NULL
  );
  CREATE TRIGGER directory_changes_pruned AFTER INSERT ON directory_changes BEGIN
    DELETE FROM directory_changes WHERE change_id <= NEW.change_id - 10000;
  END;
  CREATE TRIGGER members_inserted AFTER INSERT ON members BEGIN
    INSERT OR IGNORE INTO conversations (conversation_id) VALUES (NEW.conversation_id);
    INSERT INTO directory_changes (kind, conversation_id, user_id)
      VALUES ('member_added', NEW.conversation_id, NEW.user_id);
  END;
  CREATE TRIGGER members_deleted AFTER DELETE ON members BEGIN
    INSERT INTO directory_changes (kind, conversation_id, user_id)
      VALUES ('member_removed', OLD.conversation_id, OLD.user_id);
  END;
  CREATE TRIGGER members_updated AFTER UPDATE ON members
    WHEN OLD.conversation_id <> NEW.conversation_id OR OLD.user_id <> NEW.user_id BEGIN
    INSERT OR IGNORE INTO conversations (conversation_id) VALUES (NEW.conversation_id);
    INSERT INTO directory_changes (kind, conversation_id, user_id)
      VALUES ('member_removed', OLD.conversation_id, OLD.user_id);
    INSERT INTO directory_changes (kind, conversation_id, user_id)
      VALUES ('member_added', NEW.conversation_id, NEW.user_id);
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
