-- Keeps epochs: from one row to the next the log has only grown; the service begins one whenever it starts [LOG4].

CREATE TABLE epochs (
  no INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  began_at INTEGER NOT NULL,
  broken INTEGER NOT NULL,
  line TEXT NOT NULL,
  created_at INTEGER NOT NULL
);
INSERT INTO epochs SELECT 1, lower(hex(randomblob(4))), position, 0, 'migration', unixepoch() * 1000 FROM log_state;
