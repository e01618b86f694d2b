/** Begins a turn of the loop that is the caller's alone: what it sends without waiting again is not older than what was sent before. */
export const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));
