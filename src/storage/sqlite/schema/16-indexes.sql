-- Takes away what each append kept up and others can do without: a page of the log of writes for each. What is old stands first, by
-- position. A key's number says of which event it is: its position, eight times, and which of its keys. Those of before have lower ones, in
-- their order, and keep them: a digest, by which alone a key is asked for, they have only of builds that were not released, and lose it.
-- The log ends where the topic does that has moved last, and has as many events as that says, but for those that were removed.

CREATE VIEW log_end (position) AS
  SELECT max(log_state.position, coalesce((SELECT max(position) FROM topics), 0)) FROM log_state;
ALTER TABLE log_state RENAME COLUMN events TO removed;
UPDATE log_state SET removed = (SELECT position FROM log_end) - removed;
DROP INDEX events_by_age;
DROP INDEX topics_by_events;
DROP INDEX idempotency_keys_by_age;
UPDATE idempotency_keys SET digest = NULL WHERE digest IS NOT NULL;
