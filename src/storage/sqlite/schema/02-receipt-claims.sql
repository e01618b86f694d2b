-- Lets one process alone tell of a receipt: up to where, and since when (ms since the epoch). Released: never edited.

  ALTER TABLE receipts ADD COLUMN claimed_seq INTEGER;
  ALTER TABLE receipts ADD COLUMN claimed_at INTEGER;
