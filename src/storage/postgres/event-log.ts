/** Keeps the event log in PostgreSQL: each call is one statement; what it reads is of one moment [LOG1–LOG8]. */
import type { EventLog } from "../ports.ts";
import type { LookBack } from "./epochs.ts";
import { createAppend, createFind } from "./event-log-append.ts";
import { createLogReading } from "./event-log-reading.ts";
import type { Pool } from "./pool.ts";
import { StalledAppends, type StalledAppendsOptions } from "./stalled-appends.ts";

export interface EventLogOptions extends StalledAppendsOptions {
  /** Few connections: batches of a node wait for each other here, not for locks on connections that reads need. */
  appends: Pool;
  lookout: LookBack;
}

export function createEventLog(options: EventLogOptions): EventLog {
  const { pool, appends, schema, lookout } = options;
  const stalled = new StalledAppends(options);
  const reading = createLogReading({
    pool,
    schema,
    lookout,
    onWatermark: (watermark) => void stalled.note(watermark).catch(() => {}),
  });
  return {
    epochs: lookout.epochs,
    note: lookout.note,
    ...reading,
    append: createAppend({ appends, schema, watermark: reading.watermark }),
    find: createFind({ pool, schema }),
    async trim({ createdBefore, eventsPerTopic, batch }) {
      type Row = { removed: number; more: boolean };
      const text = `SELECT removed, more FROM ${schema}.trim($1, $2, $3)`;
      const [row] = await pool.query<Row>(text, [createdBefore, eventsPerTopic, batch]);
      return { removed: row!.removed, more: row!.more };
    },
    heldMs: () => stalled.heldMs,
    async stats() {
      type Row = { events: number; topics: number; position: number };
      const [row] = await pool.query<Row>(`SELECT events, topics, position FROM ${schema}.log_size()`);
      return { events: row!.events, topics: row!.topics, position: row!.position };
    },
  };
}
