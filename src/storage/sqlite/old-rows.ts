/** Finds what is old at the front of rows that stand in the order in which they were written. */
import { youngPassedMax } from "../conversation-store.ts";

export interface Age {
  createdBefore: number;
  now: number;
}

/** Reads no further than rows are old; moments are ms since 1970. Clocks differ a little, so some young ones are passed by. */
export function* oldRows<Row extends { createdAt: number }>(rows: Iterable<Row>, age: Age): Generator<Row> {
  const { createdBefore, now } = age;
  let [looked, young] = [0, 0];
  for (const row of rows) {
    looked++;
    if (row.createdAt < createdBefore) yield row;
    // A moment that lies ahead was written by a clock that is fast, and says nothing of what comes after it.
    else if (row.createdAt <= now && (looked === 1 || ++young === youngPassedMax)) return;
  }
}
