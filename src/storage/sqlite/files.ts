/** Keeps what is stored from the other users of the machine: the file, what SQLite and this service put beside it, and the folder. */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { ExpectedError } from "../../ground/expected-error.ts";

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

/**
 * Keeps commands from making files that the service could not open: whoever owns the file, or the folder where there is none yet,
 * is who it runs as. Of a folder only root is refused, whose files are never meant to be in another's.
 * @throws ExpectedError
 */
export function refuseAnotherUser(path: string): void {
  const user = process.getuid?.();
  const [place, owner] = ownerOf(path);
  if (owner !== user && (place === path || user === 0))
    throw new ExpectedError(`${place} belongs to the user ${owner}: do this as that user`);
}

/** Of the file, or else of the nearest folder that is there. */
function ownerOf(path: string): [place: string, uid: number] {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? ownerOf(dirname(path)) : [path, found.uid];
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
