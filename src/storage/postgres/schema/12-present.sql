-- Keeps who is here while the only node is restarted.

ALTER TABLE ${ws}.statuses ADD COLUMN present text;
CREATE INDEX statuses_present ON ${ws}.statuses (user_id) WHERE present IS NOT NULL;
COMMENT ON COLUMN ${ws}.statuses.present IS
  'Devices of somebody who was here when the only node stopped, until it has started again; null: nobody was.';
