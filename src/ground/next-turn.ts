/** Begins a turn of the loop that is the caller's alone: what it sends without waiting again is not older than what was sent before. */
export const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Runs it once what waits in the kernel has been read: a turn runs its timers before it reads what came during its own work. */
export const onceRead = (run: () => void): void => void setImmediate(() => setImmediate(run));
