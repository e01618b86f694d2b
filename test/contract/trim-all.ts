/** Trims until there is nothing left to trim. */
import type { EventLog } from "../../src/storage/ports.ts";

export async function trimAll(
  log: EventLog,
  policy: { createdBefore: number; eventsPerTopic: number; batch?: number },
) {
  let removed = 0;
  for (let more = true; more; ) {
    const result = await log.trim({ batch: 100, ...policy });
    removed += result.removed;
    more = result.more;
  }
  return { removed };
}
