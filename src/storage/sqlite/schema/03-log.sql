-- Keeps what is written to see whether writes are taken, and finds where retention was faster than a reader of the whole log.

CREATE TABLE write_proof (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), proofs INTEGER NOT NULL, payload BLOB NOT NULL);
INSERT INTO write_proof VALUES (1, 0, x'');
CREATE INDEX topics_by_trim ON topics (trimmed_position) WHERE trimmed_position > 0;
