-- Keeps of conversations how long their events stay, where that is less than the log's retention [LOG9].

CREATE TABLE conversations (
  conversation_row INTEGER PRIMARY KEY,
  conversation_id TEXT NOT NULL UNIQUE,
  retention_ms INTEGER NOT NULL CHECK (retention_ms >= 60000)
);
