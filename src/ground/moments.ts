/** Writes moments as the wire and the log have them. */

/** The last one that was written: a message, its event, its frame and its answer mostly tell of the same millisecond. */
let [lastAt, lastText] = [Number.NaN, ""];

/** @param at ms since 1970 @returns as ISO 8601 in UTC, with milliseconds */
export function momentText(at: number): string {
  if (at !== lastAt) [lastAt, lastText] = [at, new Date(at).toISOString()];
  return lastText;
}
