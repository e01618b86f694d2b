/** Reads how many files this process has open, and may. */
import { readdirSync, readFileSync } from "node:fs";

/** @returns null where the system does not tell, or sets no limit */
export function openFilesMax(): number | null {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}

/** @returns 0 where the system does not tell */
export function openFiles(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return 0;
  }
}
