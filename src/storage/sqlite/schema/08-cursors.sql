-- Keeps when a device last acknowledged or connected (ms since 1970), and which epoch its position is of; those from before
-- count from now on, and are of the first epoch that is known.

ALTER TABLE cursors RENAME COLUMN cursor TO position;
ALTER TABLE cursors ADD COLUMN epoch TEXT NOT NULL DEFAULT '';
ALTER TABLE cursors ADD COLUMN seen_at INTEGER NOT NULL DEFAULT 0;
UPDATE cursors SET epoch = (SELECT id FROM epochs ORDER BY no LIMIT 1), seen_at = unixepoch() * 1000;
CREATE INDEX cursors_by_age ON cursors (seen_at);
