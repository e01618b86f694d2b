-- Keeps who is here while the only node is restarted.

ALTER TABLE statuses ADD COLUMN present TEXT;
CREATE INDEX statuses_present ON statuses (user_id) WHERE present IS NOT NULL;
