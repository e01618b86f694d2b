/** What the schema knows of devices that acknowledge, besides their cursors. */

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
