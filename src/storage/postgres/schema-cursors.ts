/** What the schema knows of devices that acknowledge, and since when. */

/** @param ws the schema's name */
export const cursorAges = (ws: string) => `
ALTER TABLE ${ws}.cursors ADD COLUMN seen_at bigint NOT NULL DEFAULT 0;
-- Nobody knows since when they are here: they count from now on.
UPDATE ${ws}.cursors SET seen_at = (extract(epoch FROM now()) * 1000)::bigint;
ALTER TABLE ${ws}.cursors ALTER COLUMN seen_at DROP DEFAULT;
COMMENT ON COLUMN ${ws}.cursors.seen_at IS
  'When the device last acknowledged or connected, to a part of log.retention (ms since the epoch).';
CREATE INDEX cursors_by_age ON ${ws}.cursors (seen_at);
`;

/** Acknowledgements of before are of the first epoch that is known. */
export const cursorEpochs = (ws: string) => `
ALTER TABLE ${ws}.cursors RENAME COLUMN cursor TO position;
DO $first$ BEGIN
  -- As a default it is written nowhere: the table may be large.
  EXECUTE format('ALTER TABLE ${ws}.cursors ADD COLUMN epoch text NOT NULL DEFAULT %L', (
    SELECT id FROM ${ws}.epochs ORDER BY no LIMIT 1));
END $first$;
ALTER TABLE ${ws}.cursors ALTER COLUMN epoch DROP DEFAULT;
COMMENT ON TABLE ${ws}.cursors IS 'Up to which position of which epoch of the log a device has acknowledged it.';
`;
