/** Keeps what is stored from the other users of the machine: the file, what SQLite and this service put beside it, and the folder. */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";

/** How the names of the files beside the database end. */
const companions = ["-wal", "-shm", "-lock", "-reserve"];

const ofOthers = 0o077;

/** Makes a file where there is none that nobody else may read. */
export function createPrivately(path: string): void {
  // One that is there is not opened: closing it would give up the locks that this process has on it.
  if (!existsSync(path)) closeSync(openSync(path, "a", 0o600));
}

/**
 * Makes the folder and the file where they are missing. A file that others may read is taken from them; a folder is
 * somebody's, and stays as it is.
 * @returns the folder where others may look into it, and was there before
 */
export function prepareFiles(path: string): { openFolder: string | null } {
  const folder = dirname(path);
  const made = mkdirSync(folder, { recursive: true, mode: 0o700 });
  createPrivately(path);
  // By whatever name it is called, what is beside it is beside the file itself.
  const file = realpathSync(path);
  for (const each of [file, ...companions.map((end) => file + end)]) closeToOthers(each);
  const { mode } = statSync(folder);
  return { openFolder: made === undefined && (mode & ofOthers) !== 0 ? folder : null };
}

function closeToOthers(path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined || (found.mode & ofOthers) === 0) return;
  try {
    chmodSync(path, found.mode & 0o700);
  } catch {
    // It belongs to somebody else, who has let this user have it.
  }
}
