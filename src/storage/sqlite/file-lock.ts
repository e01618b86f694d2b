/** Keeps a SQLite file to one service at a time, by a lock on an empty file beside it that ends with its process. */
import { Database, SQLiteError } from "bun:sqlite";
import { realpathSync } from "node:fs";
import { Unavailable } from "../../ground/unavailable.ts";
import { createPrivately } from "./files.ts";

export interface FileLock {
  release(): void;
}

export interface FileLockOptions {
  /** The database, which is there, be it empty. */
  path: string;
  /** How long the lock is waited for: a service that was killed may take a moment to be gone. */
  busyTimeoutMs: number;
}

/**
 * The database's own locks stay free: other programs write to the directory and make backups while the service runs.
 * @throws Unavailable where another service has the lock, or the file system does not let it be made
 */
export function lockFile({ path, busyTimeoutMs }: FileLockOptions): FileLock {
  let database: Database | null = null;
  try {
    // By whatever name the database is called, its lock is the same one.
    const lock = `${realpathSync(path)}-lock`;
    createPrivately(lock);
    const held = new Database(lock, { create: true, readwrite: true });
    database = held;
    held.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    // Without a journal a process that is killed leaves nothing behind that would have to be mended.
    held.exec("PRAGMA journal_mode = MEMORY");
    held.exec("BEGIN EXCLUSIVE");
    return {
      release() {
        held.exec("ROLLBACK");
        held.close();
      },
    };
  } catch (error) {
    database?.close();
    throw new Unavailable("storage", lockFailureOf(error, path), { setting: "storage.url", cause: error });
  }
}

/**
 * Joins those that use a file together: the lock is shared, so that whoever finds nobody is the first one.
 * @throws Unavailable where the file system does not let it be made
 */
export function joinFile({ path, busyTimeoutMs }: FileLockOptions): FileLock & { isFirst: boolean } {
  let isFirst = true;
  try {
    lockFile({ path, busyTimeoutMs: 0 }).release();
  } catch (error) {
    const { cause } = error as Error;
    if (!(cause instanceof SQLiteError) || cause.code !== "SQLITE_BUSY") throw error;
    isFirst = false;
  }
  const database = new Database(`${realpathSync(path)}-lock`, { create: true, readwrite: true });
  try {
    database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    database.exec("BEGIN");
    database.query("SELECT count(*) FROM sqlite_schema").get();
  } catch (error) {
    database.close();
    throw new Unavailable("storage", lockFailureOf(error, path), { setting: "storage.url", cause: error });
  }
  return { isFirst, release: () => database.close() };
}

function lockFailureOf(error: unknown, path: string): string {
  if (error instanceof SQLiteError && error.code === "SQLITE_BUSY") {
    return `${path} is in use by another service, and only one at a time may use it.`;
  }
  const text = error instanceof Error ? error.message : String(error);
  return `${path} cannot be opened, because ${path}-lock cannot be made or locked: ${text}.`;
}
