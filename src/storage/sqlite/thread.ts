/** Starts the thread that the SQL runs in, ahead of the storage where somebody knows already that there will be one. */

let ahead: Worker | null = null;

/** Starts it now: by itself it takes as long as reading half of the program, which goes on meanwhile. */
export function startAhead(): void {
  ahead ??= begin();
}

/** @returns the one that was started ahead, once; else a new one */
export function startThread(): Worker {
  const thread = ahead ?? begin();
  ahead = null;
  return thread;
}

function begin(): Worker {
  // A compiled binary keeps its entry points under their paths below `src`, whatever module asks for them.
  const embedded = import.meta.url.includes("/$bunfs/") || import.meta.url.includes("/~BUN/");
  return new Worker(new URL(embedded ? "./storage/sqlite/worker.js" : "./worker.ts", import.meta.url).href);
}
