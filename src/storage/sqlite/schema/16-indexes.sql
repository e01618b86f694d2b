-- Takes away what each append kept up and others can do without: a page of the log of writes for each. What is old stands first, by
-- position. A key's number says of which event it is: its position, eight times, and which of its keys. The log ends where the
-- topic does that has moved last, and has as many events as that says, but for those that were removed.

CREATE VIEW log_end (position) AS
  SELECT max(log_state.position, coalesce((SELECT max(position) FROM topics), 0)) FROM log_state;
ALTER TABLE log_state RENAME COLUMN events TO removed;
UPDATE log_state SET removed = (SELECT position FROM log_end) - removed;
DROP INDEX events_by_age;
DROP INDEX topics_by_events;
DROP INDEX idempotency_keys_by_age;
ALTER TABLE idempotency_keys RENAME TO keys_in_turn;
CREATE TABLE idempotency_keys (
  key_id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  topic_id INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  position INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  digest TEXT
);
INSERT INTO idempotency_keys
  SELECT position * 8 + row_number() OVER (PARTITION BY position ORDER BY key_id) - 1,
    key, topic_id, seq, position, event_id, created_at, digest
  FROM keys_in_turn;
DROP TABLE keys_in_turn;
