-- Keeps who is to be erased, and how far that is [BAK4]. Moments are ms since 1970. What is finished is found by a digest of the id.

CREATE TABLE erasures (
  erasure_row INTEGER PRIMARY KEY,
  user_digest TEXT NOT NULL UNIQUE,
  user_id TEXT,
  requested_by TEXT NOT NULL,
  requested_at INTEGER NOT NULL,
  started_at INTEGER,
  finished_at INTEGER,
  messages INTEGER NOT NULL,
  step INTEGER NOT NULL,
  place TEXT NOT NULL,
  through INTEGER NOT NULL,
  log_end INTEGER NOT NULL,
  turn INTEGER NOT NULL,
  due_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX erasures_running ON erasures (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX erasures_due ON erasures (due_at) WHERE finished_at IS NULL;
CREATE INDEX erasures_by_age ON erasures (finished_at) WHERE finished_at IS NOT NULL;

-- What is changed of them meanwhile would be taken away again, whoever has changed it. Disabling and removing stays.
CREATE TRIGGER erased_users_stay_out BEFORE INSERT ON users
  WHEN NEW.disabled = 0 AND EXISTS (SELECT 1 FROM erasures WHERE user_id = NEW.user_id) BEGIN
  SELECT RAISE(ABORT, 'a user who is being erased is not changed meanwhile');
END;
CREATE TRIGGER erased_users_stay_disabled BEFORE UPDATE ON users
  WHEN NEW.disabled = 0 AND EXISTS (SELECT 1 FROM erasures WHERE user_id = NEW.user_id) BEGIN
  SELECT RAISE(ABORT, 'a user who is being erased is not changed meanwhile');
END;
CREATE TRIGGER erased_members_stay_out BEFORE INSERT ON members
  WHEN EXISTS (SELECT 1 FROM erasures WHERE user_id = NEW.user_id) BEGIN
  SELECT RAISE(ABORT, 'a user who is being erased is not changed meanwhile');
END;
CREATE TRIGGER erased_members_stay_as_they_are BEFORE UPDATE ON members
  WHEN EXISTS (SELECT 1 FROM erasures WHERE user_id = NEW.user_id) BEGIN
  SELECT RAISE(ABORT, 'a user who is being erased is not changed meanwhile');
END;
