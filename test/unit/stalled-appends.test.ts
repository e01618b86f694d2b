/** Proves that nobody looks for sessions that have stalled where nothing is on its way to the log [LOG4]. */
import { expect, test } from "bun:test";
import type { Pool } from "../../src/storage/postgres/pool.ts";
import { StalledAppends } from "../../src/storage/postgres/stalled-appends.ts";

test("[LOG4] a watermark that stands still is looked into only while appends are on their way", async () => {
  const asked: string[] = [];
  async function query(text: string) {
    asked.push(text);
    return [{ ended: 0 }];
  }
  const pool = { query } as unknown as Pool;
  const stalled = new StalledAppends({ pool, schema: "ws", stallMsMax: 0, onStalled: () => {} });
  await stalled.note({ position: 7, inFlight: false });
  await stalled.note({ position: 7, inFlight: false });
  expect(asked).toEqual([]);
  await stalled.note({ position: 7, inFlight: true });
  expect(asked).toEqual(["SELECT ws.end_stalled($1) AS ended"]);
});
