-- Lets one node alone tell of a receipt. Released: never edited.

ALTER TABLE ${ws}.receipts ADD COLUMN claimed_seq bigint, ADD COLUMN claimed_at bigint;
COMMENT ON COLUMN ${ws}.receipts.claimed_seq IS 'Up to where somebody tells of it since claimed_at (ms since the epoch); null: nobody does.';
