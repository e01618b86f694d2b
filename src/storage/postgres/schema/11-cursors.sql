-- Keeps of devices that acknowledge since when they have not, and which epoch of the log their position is of: one of before
-- is of the first that is known.

ALTER TABLE ${ws}.cursors RENAME COLUMN cursor TO position;
DO $defaults$ BEGIN
  -- As defaults they are written nowhere: the table may be large. Nobody knows since when devices are here: they count from now on.
  EXECUTE format('ALTER TABLE ${ws}.cursors ADD COLUMN epoch text NOT NULL DEFAULT %L, ADD COLUMN seen_at bigint NOT NULL DEFAULT %s',
    (SELECT id FROM ${ws}.epochs ORDER BY no LIMIT 1), (extract(epoch FROM now()) * 1000)::bigint);
END $defaults$;
ALTER TABLE ${ws}.cursors ALTER COLUMN epoch DROP DEFAULT, ALTER COLUMN seen_at DROP DEFAULT;
COMMENT ON TABLE ${ws}.cursors IS 'Up to which position of which epoch of the log a device has acknowledged it.';
COMMENT ON COLUMN ${ws}.cursors.seen_at IS
  'When the device last acknowledged or connected, to a part of log.retention (ms since 1970).';
CREATE INDEX cursors_by_age ON ${ws}.cursors (seen_at);
