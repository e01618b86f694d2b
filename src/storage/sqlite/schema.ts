/** The tables of the SQLite file, as numbered migrations. */
import type { Database } from "bun:sqlite";
import type { Migration } from "../ports.ts";

/** The newest changes of the directory that are kept for watchers; who is further behind is told to start over. */
export const directoryChangesKept = 10_000;

/** The topic of a member's conversation that has events. */
const conversationOf = (row: "NEW" | "OLD") => `SELECT topic_id, seq FROM topics
      WHERE name = 'conversation:' || ${row}.conversation_id AND seq > 0`;
const watermarkOf = (row: "NEW" | "OLD", kind: string) =>
  `user_id = ${row}.user_id AND kind = '${kind}' AND topic_id = (SELECT topic_id FROM (${conversationOf(row)}))`;
const noteWatermark = (row: "NEW" | "OLD", kind: string) => `
    DELETE FROM receipts WHERE ${watermarkOf(row, kind)};
    INSERT INTO receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
      SELECT topic_id, ${row}.user_id, '${kind}', seq, seq, unixepoch() * 1000 FROM (${conversationOf(row)});
  `;
/** Whoever left at the head that is the head still has missed nothing. */
const missedNothing = `EXISTS (SELECT 1 FROM (${conversationOf("NEW")}) AS t JOIN receipts AS r USING (topic_id)
      WHERE r.user_id = NEW.user_id AND r.kind = 'left' AND r.seq = t.seq)`;

/**
 * Rowid tables with whole-number topic ids throughout: tables keyed by text are four times slower to append to.
 * A migration that was released is never edited; a new one is added at the end.
 */
export const migrations: string[] = [
  /* 1 */ `
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
    DELETE FROM directory_changes WHERE change_id <= NEW.change_id - ${directoryChangesKept};
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
  `,
  // Who is telling of a receipt, up to where, and since when (ms since the epoch).
  /* 2 */ `
  ALTER TABLE receipts ADD COLUMN claimed_seq INTEGER;
  ALTER TABLE receipts ADD COLUMN claimed_at INTEGER;
  `,
  // What is written to see whether writes are taken.
  /* 3 */ `
  CREATE TABLE write_proof (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), proofs INTEGER NOT NULL, payload BLOB NOT NULL);
  INSERT INTO write_proof VALUES (1, 0, x'');
  `,
  // Keys are by topic, with the digest of what was said under them; what was appended before is found by its new key,
  // the first where several publishers or ways in had used one key on one topic [LOG2].
  /* 4 */ `
  ALTER TABLE idempotency_keys ADD COLUMN digest TEXT;
  -- message:<user>:<client_message_id>
  UPDATE idempotency_keys SET key = 'sent' || substr(key, 8, instr(substr(key, 9), ':') + 1)
      || replace(substr((SELECT name FROM topics AS t WHERE t.topic_id = idempotency_keys.topic_id), 14), ':', ' ')
      || substr(key, 8 + instr(substr(key, 9), ':'))
    WHERE key LIKE 'message:%';
  -- event:<publisher>:<kind of topic>:<its id>:<event_key, or message:<message_id>>
  UPDATE OR IGNORE idempotency_keys SET key = 'key' || substr(key, 6 + instr(substr(key, 7), ':'))
    WHERE key LIKE 'event:%' OR key LIKE 'stream-key:%';
  UPDATE idempotency_keys SET key = 'id:' || substr(p.parts, 1, p.scope) || substr(p.parts, p.scope + 9)
    FROM (
      SELECT key_id, parts, kind + instr(substr(parts, kind + 1), ':') AS scope
      FROM (SELECT key_id, substr(key, 5) AS parts, instr(substr(key, 5), ':') AS kind
        FROM idempotency_keys WHERE key LIKE 'key:%')) AS p
    WHERE p.key_id = idempotency_keys.key_id AND substr(p.parts, p.scope + 1, 8) = 'message:';
  DELETE FROM idempotency_keys WHERE key LIKE 'event:%' OR key LIKE 'stream-key:%';
  `,
  // The identity is made with the log and kept with it. Blocks end at a moment in ms since the epoch.
  /* 5 */ `
  CREATE TABLE installation (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    installation_id TEXT NOT NULL
  );
  INSERT INTO installation VALUES (1, lower(hex(randomblob(16))));
  CREATE TABLE blocks (
    block_row INTEGER PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE,
    ends_at INTEGER NOT NULL
  );
  `,
  // When a device last acknowledged or connected (ms since the epoch); those from before count from now on.
  /* 6 */ `
  ALTER TABLE cursors ADD COLUMN seen_at INTEGER NOT NULL DEFAULT 0;
  UPDATE cursors SET seen_at = unixepoch() * 1000;
  CREATE INDEX cursors_by_age ON cursors (seen_at);
  `,
  // What was said in a conversation before somebody came counts as read by them: a watermark at its head as they join [REC3].
  // Whoever comes again has it moved, where something was said meanwhile: members that are only replaced keep their place, and
  // REPLACE tells nobody that they go. Taken away first, for the triggers' own statements obey an INSERT OR IGNORE.
  /* 7 */ `
  CREATE TRIGGER members_replaced BEFORE INSERT ON members
    WHEN EXISTS (SELECT 1 FROM members WHERE conversation_id = NEW.conversation_id AND user_id = NEW.user_id)
    BEGIN ${noteWatermark("NEW", "left")} END;
  CREATE TRIGGER members_left AFTER DELETE ON members BEGIN ${noteWatermark("OLD", "left")} END;
  CREATE TRIGGER members_joined AFTER INSERT ON members WHEN NOT ${missedNothing}
    BEGIN ${noteWatermark("NEW", "joined")} END;
  CREATE TRIGGER members_moved AFTER UPDATE ON members
    WHEN (OLD.conversation_id <> NEW.conversation_id OR OLD.user_id <> NEW.user_id) AND NOT ${missedNothing}
    BEGIN ${noteWatermark("NEW", "joined")} END;
  `,
  // From one row to the next the log has only grown; the service begins one whenever it starts [LOG4].
  /* 8 */ `
  CREATE TABLE epochs (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    began_at INTEGER NOT NULL,
    broken INTEGER NOT NULL,
    line TEXT NOT NULL,
    created_at INTEGER NOT NULL
  );
  INSERT INTO epochs SELECT 1, lower(hex(randomblob(4))), position, 0, 'migration', unixepoch() * 1000 FROM log_state;
  `,
  // Who reads the whole log is told where retention was faster.
  /* 9 */ `
  CREATE INDEX topics_by_trim ON topics (trimmed_position) WHERE trimmed_position > 0;
  `,
  // What was acknowledged before is of the first epoch that is known.
  /* 10 */ `
  ALTER TABLE cursors RENAME COLUMN cursor TO position;
  ALTER TABLE cursors ADD COLUMN epoch TEXT NOT NULL DEFAULT '';
  UPDATE cursors SET epoch = (SELECT id FROM epochs ORDER BY no LIMIT 1);
  `,
  // Who is here while the only node is restarted.
  /* 11 */ `
  ALTER TABLE statuses ADD COLUMN present TEXT;
  CREATE INDEX statuses_present ON statuses (user_id) WHERE present IS NOT NULL;
  `,
];

/** The version that this build writes and reads. */
export const schemaVersion = migrations.length;

/**
 * Brings the file to this build's version, all steps in one transaction.
 * @returns from which version to which; equal where there was nothing to do
 * @throws Error where a newer build has written the file: going on would damage what it knows and this one does not
 */
export function migrate(database: Database): Migration {
  const version = () => database.query<{ user_version: number }, []>("PRAGMA user_version").get()!.user_version;
  if (version() === schemaVersion) return { from: schemaVersion, to: schemaVersion };
  return database
    .transaction(() => {
      // Read again under the lock: another process may have migrated meanwhile.
      const found = version();
      if (found > schemaVersion) {
        throw new Error(`the database has schema version ${found}, this build knows versions up to ${schemaVersion}`);
      }
      for (const migration of migrations.slice(found)) database.exec(migration);
      database.exec(`PRAGMA user_version = ${schemaVersion}`);
      return { from: found, to: schemaVersion };
    })
    .immediate();
}

/** What the steps have made and the file does not have, after a restore in parts, say: for each a sentence with what puts it back. */
export function missingTriggers(database: Database): string[] {
  const there = database
    .query<{ name: string; sql: string }, []>("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
    .all();
  const inLine = (text: string) => text.replace(/\s+/g, " ").trim();
  const found = new Map(there.map(({ name, sql }) => [name, `${inLine(sql)};`]));
  const made = [...migrations.join("\n").matchAll(/CREATE TRIGGER (\w+)[\s\S]*?\bEND;/g)];
  // Of a trigger that a later step has made anew, only that counts.
  const newest = new Map(made.map(([statement, name]) => [name!, inLine(statement)]));
  return [...newest].flatMap(([name, statement]) => {
    const has = found.get(name);
    if (has === statement) return [];
    const [state, cure] =
      has === undefined ? ["is missing", statement] : ["is not this version's", `DROP TRIGGER ${name}; ${statement}`];
    return [`The trigger ${name} of the SQLite file ${state}: what is written goes unnoticed. ${cure}`];
  });
}
