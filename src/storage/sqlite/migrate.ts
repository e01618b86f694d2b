/** Brings a SQLite file up to this build's version for the command, never under a service that runs on it. */
import type { Migration } from "../ports.ts";
import { openEngine } from "./engine.ts";
import { FileHold } from "./file-hold.ts";
import { prepareFiles, refuseAnotherUser } from "./files.ts";
import { PreparedDatabase } from "./prepared-database.ts";
import { schemaVersion, versionOf } from "./schema.ts";

export interface MigrateFileOptions {
  path: string;
  /** How long another process's lock is waited for. */
  busyTimeoutMs: number;
}

/**
 * Holds the file while there is something to upgrade: a service of an older version would go on writing as it always did, and
 * what it acknowledges from then on would be unknown to the new one.
 * @throws Unavailable where a service has the file; ExpectedError where it is another user's; whatever keeps it from being opened
 */
export function migrateFile({ path, busyTimeoutMs }: MigrateFileOptions): Migration {
  if (path !== ":memory:") refuseAnotherUser(path);
  const hold = new FileHold({ path, isShared: false, busyTimeoutMs, onOpenFolder() {} });
  if (isOld({ path, busyTimeoutMs })) hold.take();
  try {
    const engine = openEngine({ path, durability: "power", busyTimeoutMs });
    engine.close();
    return engine.migration;
  } finally {
    hold.release();
  }
}

function isOld({ path, busyTimeoutMs }: MigrateFileOptions): boolean {
  if (path !== ":memory:") prepareFiles(path);
  const database = new PreparedDatabase(path, { create: true, readwrite: true });
  try {
    database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    return versionOf(database) < schemaVersion;
  } finally {
    database.close();
  }
}
