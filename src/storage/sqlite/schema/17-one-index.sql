-- Gives an event two indexes in the place of five: each was a page of the log of writes for each append. Within a topic position grows with
-- seq, so that what was found by position is found by seq; ids of messages that are made here begin with the time, so that those of one batch
-- stand together. Which topics have moved is read from the events behind a position. The last message is at or below `message_seq`.

UPDATE log_state SET position = (SELECT position FROM log_end);
DROP VIEW log_end;
CREATE VIEW log_end (position) AS
  SELECT max(log_state.position, coalesce((SELECT max(position) FROM events), 0)) FROM log_state;
DROP INDEX topics_by_position;
ALTER TABLE topics ADD COLUMN message_seq INTEGER NOT NULL DEFAULT 0;
UPDATE topics SET message_seq = seq;
DROP INDEX events_by_topic;
DROP INDEX events_by_seq;
DROP INDEX messages_by_seq;
DROP INDEX messages_by_id;
CREATE INDEX events_by_seq ON events (topic_id, seq, sender_id);
CREATE INDEX messages_by_id ON events (id) WHERE sender_id IS NOT NULL;
