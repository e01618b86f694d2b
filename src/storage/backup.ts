/** Makes and takes back copies of what a storage URL names: of SQLite; PostgreSQL has programs of its own for that [OPS8]. */
import { ExpectedError } from "../ground/expected-error.ts";
import type { Copy, Restored } from "./sqlite/backup.ts";

export interface StorageCopyOptions {
  /** `storage.url`. */
  url: string;
  /** The copy, as a path. */
  file: string;
  /** How long another process's lock is waited for, ms. */
  lockTimeoutMs: number;
}

/**
 * Copies the storage as it is at one moment, while a service runs.
 * @throws ExpectedError where the copy cannot be made, or something is in its place
 */
export async function backUpStorage({ url, file, lockTimeoutMs }: StorageCopyOptions): Promise<Copy> {
  const path = pathOf(url, "pg_dump");
  const { backUpFile } = await import("./sqlite/backup.ts");
  return backUpFile({ path, copy: file, busyTimeoutMs: lockTimeoutMs });
}

/**
 * Puts a copy in the place of the storage, and keeps the former one beside it.
 * @throws ExpectedError where a service runs, or the copy is none that this build can use
 */
export async function restoreStorage({ url, file, lockTimeoutMs }: StorageCopyOptions): Promise<Restored> {
  const path = pathOf(url, "pg_restore");
  const { restoreFile } = await import("./sqlite/backup.ts");
  return restoreFile({ path, copy: file, busyTimeoutMs: lockTimeoutMs, now: new Date() });
}

function pathOf(url: string, otherwise: string): string {
  if (!url.startsWith("sqlite:")) throw new ExpectedError(`this is for SQLite; PostgreSQL has ${otherwise}`);
  return url.slice("sqlite:".length);
}
