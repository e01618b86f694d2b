-- Takes what the schema of rewritten numbers knew over to the log that only appends [LOG1] [LOG4]: the position into a
-- sequence, of each topic the number up to which retention has removed. What is removed as compaction does, of which nobody is
-- told, is counted on by what says how far a topic and the log have come, and not by what says what is lost [LOG9].

DROP FUNCTION ${ws}.append(text[], text[], text[], text[], bigint[], text[], text[], text[]);
DROP FUNCTION ${ws}.trim(bigint, bigint, bigint);
DROP FUNCTION ${ws}.replay(text[], bigint, bigint);
CREATE SEQUENCE ${ws}.positions AS bigint MINVALUE 0 START 0;
SELECT setval('${ws}.positions', position) FROM ${ws}.log_state;
COMMENT ON SEQUENCE ${ws}.positions IS 'Its last value is the last position given out. One that was drawn and not used is missing for ever.';

-- Lets all who may use the schema see how far the log is.
GRANT SELECT ON SEQUENCE ${ws}.positions TO PUBLIC;

ALTER TABLE ${ws}.trims ADD COLUMN trimmed_seq bigint NOT NULL DEFAULT 0;
UPDATE ${ws}.trims AS r SET trimmed_seq = CASE WHEN e.newest = t.seq THEN e.oldest - 1 ELSE t.seq END
  FROM ${ws}.topics AS t, LATERAL (
    SELECT min(seq) AS oldest, max(seq) AS newest FROM ${ws}.events WHERE topic_id = t.topic_id) AS e
  WHERE t.topic_id = r.topic_id;
ALTER TABLE ${ws}.trims DROP COLUMN removed;
ALTER TABLE ${ws}.trims ADD COLUMN forgotten_position bigint NOT NULL DEFAULT 0;
COMMENT ON TABLE ${ws}.trims IS 'Up to where retention has removed the events of each topic.';
COMMENT ON COLUMN ${ws}.trims.trimmed_seq IS 'A topic whose events are all below it goes on after it.';
COMMENT ON COLUMN ${ws}.trims.forgotten_position IS
  'The highest position of the topic that was removed without anybody being told that something is missing.';
-- Finds where retention was faster than a reader of the whole log.
CREATE INDEX trims_by_position ON ${ws}.trims (trimmed_position);
CREATE INDEX trims_by_forgotten ON ${ws}.trims (forgotten_position) WHERE forgotten_position > 0;
ALTER TABLE ${ws}.topics DROP COLUMN seq, DROP COLUMN position, DROP COLUMN events;
COMMENT ON TABLE ${ws}.topics IS 'Every topic that ever had an event. Whoever appends to one locks its row until the commit; nobody changes it.';
DROP TABLE ${ws}.log_state, ${ws}.trim_state;
CREATE TABLE ${ws}.trim_state (
  only_row integer PRIMARY KEY CHECK (only_row = 1),
  oldest bigint NOT NULL,
  counted bigint NOT NULL,
  events_per_topic bigint NOT NULL
);
COMMENT ON TABLE ${ws}.trim_state IS
  'How far retention has come: nothing is left below the position oldest, and no topic had too many events up to counted.';
INSERT INTO ${ws}.trim_state VALUES (1, 0, 0, 9007199254740991);
-- Made before, while the service still ran on the schema of before, unless there was none.
CREATE UNIQUE INDEX IF NOT EXISTS events_by_position ON ${ws}.events (position);
DROP INDEX ${ws}.events_by_age;
