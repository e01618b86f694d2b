-- Keeps how far the log has been searched for events that were missed, and who is at it [BAK3].

CREATE TABLE push (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  epoch TEXT,
  position INTEGER,
  holder TEXT NOT NULL,
  held_until INTEGER NOT NULL
);
INSERT INTO push VALUES (1, NULL, NULL, '', 0);
