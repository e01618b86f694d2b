-- Keeps an installation's identity, and who is blocked.

CREATE TABLE ${ws}.installation (
  only_row integer PRIMARY KEY CHECK (only_row = 1),
  installation_id text NOT NULL
);
COMMENT ON TABLE ${ws}.installation IS
  'Made with the log and kept with it; every key and channel in Redis carries it. A copy of the files has the same: give it another.';
INSERT INTO ${ws}.installation VALUES (1, gen_random_uuid());

CREATE TABLE ${ws}.blocks (user_id text PRIMARY KEY, ends_at bigint NOT NULL);
COMMENT ON TABLE ${ws}.blocks IS 'Users who count as disabled until then (ms since 1970), whether or not they are known.';
