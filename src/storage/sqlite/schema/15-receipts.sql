-- A receipt is told in the transaction of the event that does: nobody claims it any more [REC2].

ALTER TABLE receipts DROP COLUMN claimed_seq;
ALTER TABLE receipts DROP COLUMN claimed_at;
