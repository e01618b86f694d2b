/** Reads how much memory this process has. */

/** As it was read last: where no more files may be opened the system cannot be asked, and nothing fails for a figure. */
let lastBytes = 0;

/** @returns bytes that are resident; those of before where the system does not tell just now */
export function residentBytes(): number {
  try {
    lastBytes = process.memoryUsage.rss();
  } catch {
    // It is asked again with the next figure.
  }
  return lastBytes;
}
