/** Copies the SQLite file while a service runs, and puts such a copy in its place while none does [OPS8]. */
import { Database } from "bun:sqlite";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname } from "node:path";
import { ExpectedError } from "../../ground/expected-error.ts";
import { FileHold } from "./file-hold.ts";
import { createPrivately, refuseAnotherUser } from "./files.ts";
import { schemaVersion, versionOf } from "./schema.ts";

interface CopyOptions {
  /** The service's file. */
  path: string;
  /** The copy that is made, or taken back. */
  copy: string;
  busyTimeoutMs: number;
}

export interface Copy {
  bytes: number;
  schemaVersion: number;
  /** Position of the newest event that it has [LOG]. */
  position: number;
}

export interface Restored extends Copy {
  /** The former file, by its new name; null where there was none. */
  kept: string | null;
}

/**
 * Reads in one transaction, beside which the service goes on writing. The copy is on the disk when this returns, is for its owner alone,
 * and has nothing of what was deleted before it was made.
 * @throws ExpectedError where there is no file of this service, something is in the copy's place, or it cannot be written
 */
export function backUpFile({ path, copy, busyTimeoutMs }: CopyOptions): Copy {
  if (!existsSync(path)) throw new ExpectedError(`${path} is not there`);
  const partial = `${copy}.partial`;
  // Empty until all of it is there: half a copy must not be taken for one.
  reserve(copy);
  try {
    reserve(partial);
  } catch (error) {
    rmSync(copy);
    throw error;
  }
  try {
    const database = new Database(path, { readwrite: true, create: false });
    try {
      database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
      if (versionOf(database) === 0) throw new ExpectedError(`${path} is no database of this service`);
      database.run("VACUUM INTO ?", [partial]);
    } finally {
      database.close();
    }
    const found = look(partial, { isWhole: false });
    sync(partial);
    renameSync(partial, copy);
    sync(dirname(copy));
    return found;
  } catch (error) {
    for (const file of [partial, copy]) rmSync(file, { force: true });
    throw expected(error, `${copy} cannot be made`);
  }
}

function reserve(file: string): void {
  try {
    closeSync(openSync(file, "wx", 0o600));
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === "EEXIST";
    throw isThere
      ? new ExpectedError(`${file} is there already, and nothing is overwritten`)
      : expected(error, `${file} cannot be made`);
  }
}

/**
 * The log that comes of it is in another epoch, as after every start [LOG4].
 * @throws ExpectedError where a service has the file, the copy is damaged, none of this service, or of a newer version
 */
export function restoreFile({ path, copy, busyTimeoutMs, now }: CopyOptions & { now: Date }): Restored {
  if (!existsSync(copy)) throw new ExpectedError(`${copy} is not there`);
  // A pipe would be waited for without end.
  if (!statSync(copy).isFile()) throw new ExpectedError(`${copy} is no file`);
  if (existsSync(`${copy}-wal`))
    throw new ExpectedError(`${copy} has a -wal beside it: it is a database in use, and no backup of one`);
  refuseAnotherUser(path);
  const wasThere = existsSync(path);
  const hold = new FileHold({ path, isShared: false, busyTimeoutMs, onOpenFolder() {} });
  hold.take();
  try {
    const file = realpathSync(path);
    if (realpathSync(copy) === file) throw new ExpectedError(`${copy} is the service's own file`);
    const fresh = `${file}-restoring`;
    try {
      rmSync(fresh, { force: true });
      createPrivately(fresh);
      copyFileSync(copy, fresh);
      const found = look(fresh, { isWhole: true });
      sync(fresh);
      const kept = setAside(file, `${file}-before-${now.toISOString().replace(/[-:]|\.\d+/g, "")}`);
      renameSync(fresh, file);
      sync(dirname(file));
      return { ...found, kept };
    } catch (error) {
      throw expected(error, `${copy} cannot be taken back`);
    } finally {
      for (const end of ["", "-wal", "-shm"]) rmSync(fresh + end, { force: true });
    }
  } finally {
    // Made by holding it: a service that starts would take it for a database that is new.
    if (!wasThere && statSync(path).size === 0) rmSync(path);
    hold.release();
  }
}

/** Gives the file a second name under which it stays. @returns that name; null where nothing is in it */
function setAside(file: string, kept: string): string | null {
  try {
    // Takes over what is in the log of writes, and removes that.
    const database = new Database(file, { readwrite: true, create: false });
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    database.close();
  } catch {
    // It is damaged, which may be why there is a restore: the two stay what they are, together.
  }
  // One of another file would be taken for the new file's.
  if (existsSync(`${file}-wal`)) renameSync(`${file}-wal`, `${kept}-wal`);
  rmSync(`${file}-shm`, { force: true });
  if (statSync(file).size === 0) return null;
  linkSync(file, kept);
  return kept;
}

/** Looks into a copy. @param isWhole reads all of it, to find what is damaged @throws ExpectedError where it cannot be used */
function look(file: string, { isWhole }: { isWhole: boolean }): Copy {
  const database = new Database(file, { readwrite: true, create: false });
  try {
    const version = versionOf(database);
    if (isWhole) {
      const [fault] = database.query<{ integrity_check: string }, []>("PRAGMA integrity_check(1)").all();
      if (fault?.integrity_check !== "ok") throw new ExpectedError(`it is damaged: ${fault?.integrity_check}`);
      if (version === 0) throw new ExpectedError("it is no database of this service");
      if (version > schemaVersion)
        throw new ExpectedError(`it has schema version ${version}, this build knows versions up to ${schemaVersion}`);
    }
    // As the view `log_end` says, which older copies do not have.
    const end = "SELECT max(position, coalesce((SELECT max(position) FROM topics), 0)) AS position FROM log_state";
    const { position } = database.query<{ position: number }, []>(end).get()!;
    return { bytes: statSync(file).size, schemaVersion: version, position };
  } finally {
    database.close();
  }
}

/** Of a folder: what it says of its files. */
function sync(path: string): void {
  const descriptor = openSync(path, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** SQLite and the file system say in their own words what is wrong. */
const expected = (error: unknown, what: string): ExpectedError =>
  new ExpectedError(`${what}: ${error instanceof Error ? error.message : error}`, { cause: error });
