-- Keeps an installation's identity, made with the log, and who is blocked, up to a moment in ms since 1970.

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
