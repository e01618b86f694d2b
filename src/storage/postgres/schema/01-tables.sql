-- Makes the tables of the first version. Released: never edited.

CREATE TABLE ${ws}.log_state (
  only_row integer PRIMARY KEY CHECK (only_row = 1),
  position bigint NOT NULL,
  events bigint NOT NULL,
  topics bigint NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE ${ws}.log_state IS
  'Position of the last event, and what was appended less what was compacted; written by append() alone.';
INSERT INTO ${ws}.log_state VALUES (1, 0, 0, 0);

CREATE TABLE ${ws}.topics (
  topic_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  seq bigint NOT NULL,
  position bigint NOT NULL,
  events bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE ${ws}.topics IS
  'The head of every topic that ever had an event; a row stays when its events are gone, so that seq goes on.';
CREATE INDEX topics_by_position ON ${ws}.topics (position);
CREATE INDEX topics_crowded ON ${ws}.topics (events) WHERE events > 1000;

CREATE TABLE ${ws}.trims (
  topic_id bigint PRIMARY KEY,
  trimmed_position bigint NOT NULL,
  removed bigint NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE ${ws}.trims IS
  'What retention took from each topic. Apart from topics, so that retention and append() never wait for each other.';

CREATE TABLE ${ws}.trim_state (only_row integer PRIMARY KEY CHECK (only_row = 1), removed bigint NOT NULL);
INSERT INTO ${ws}.trim_state VALUES (1, 0);

CREATE TABLE ${ws}.events (
  topic_id bigint NOT NULL,
  position bigint NOT NULL,
  seq bigint NOT NULL,
  created_at bigint NOT NULL,
  id text NOT NULL,
  type text NOT NULL,
  payload text NOT NULL,
  compaction_key text,
  sender_id text,
  PRIMARY KEY (topic_id, position)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.02);
COMMENT ON COLUMN ${ws}.events.created_at IS 'Milliseconds since the epoch.';
CREATE UNIQUE INDEX events_by_seq ON ${ws}.events (topic_id, seq) INCLUDE (sender_id);
CREATE INDEX events_by_age ON ${ws}.events (created_at);
CREATE INDEX events_by_compaction ON ${ws}.events (topic_id, compaction_key, position)
  WHERE compaction_key IS NOT NULL;
CREATE INDEX messages_by_id ON ${ws}.events (topic_id, id) WHERE sender_id IS NOT NULL;

CREATE TABLE ${ws}.idempotency_keys (
  key text PRIMARY KEY,
  topic text NOT NULL,
  seq bigint NOT NULL,
  position bigint NOT NULL,
  event_id text NOT NULL,
  created_at bigint NOT NULL
);
COMMENT ON TABLE ${ws}.idempotency_keys IS
  'The numbers of the first event with a key; they are held here because compaction may have removed the event.';
CREATE INDEX idempotency_keys_by_age ON ${ws}.idempotency_keys (created_at);

CREATE TABLE ${ws}.receipts (
  topic_id bigint NOT NULL,
  user_id text NOT NULL,
  kind text NOT NULL,
  seq bigint NOT NULL,
  sent_seq bigint NOT NULL,
  moved_at bigint NOT NULL,
  PRIMARY KEY (topic_id, user_id, kind)
) WITH (fillfactor = 80);
CREATE INDEX receipts_unsent ON ${ws}.receipts (moved_at) WHERE sent_seq < seq;

CREATE TABLE ${ws}.cursors (
  user_id text NOT NULL,
  device_id text NOT NULL,
  cursor bigint NOT NULL,
  PRIMARY KEY (user_id, device_id)
) WITH (fillfactor = 80);

CREATE TABLE ${ws}.statuses (
  user_id text PRIMARY KEY,
  status text,
  text text,
  emoji text,
  expires_at bigint,
  last_seen_at bigint
) WITH (fillfactor = 80);
CREATE INDEX statuses_by_expiry ON ${ws}.statuses (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE ${ws}.users (user_id text PRIMARY KEY, disabled boolean NOT NULL DEFAULT false);
CREATE TABLE ${ws}.conversations (conversation_id text PRIMARY KEY);
COMMENT ON TABLE ${ws}.conversations IS 'Every conversation that ever had a member, or was begun without any.';
CREATE TABLE ${ws}.members (
  conversation_id text NOT NULL,
  user_id text NOT NULL,
  PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX members_by_user ON ${ws}.members (user_id, conversation_id);
