/** Reads how many files this process has open, and may. */
import { readdirSync, readFileSync } from "node:fs";

/** Set once it was read: where no more files may be opened it cannot be. */
let most: number | null | undefined;

/** @returns null where the system does not tell, or sets no limit */
export function openFilesMax(): number | null {
  if (most === undefined) most = readMost();
  return most;
}

function readMost(): number | null {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}

/** @returns 0 where the system does not tell; where it refuses to, for there are too many, as many as there may be */
export function openFiles(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EMFILE" ? (openFilesMax() ?? 0) : 0;
  }
}
