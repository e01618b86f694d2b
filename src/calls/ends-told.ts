/** Remembers which devices this node has told the end of a call: a Redis that lost that, or two masters at once, must not have it told again [CALL4]. */
import { callLimits, type Delivery } from "./record.ts";

export interface EndsTold {
  /** Notes that the end is about to be told on this node. @returns whether that is news to the device */
  note(delivery: Delivery): boolean;
}

/** Ends within the time that an ended call is kept; of more, the oldest are forgotten first. */
const endsMax = 10_000;

/** @param now milliseconds since the epoch */
export function createEndsTold(now: () => number): EndsTold {
  /** When it was told (ms), in that order. Whoever uses an id again later means another call. */
  const told = new Map<string, number>();

  return {
    note({ userId, deviceId, payload }) {
      const key = JSON.stringify([payload.call_id, userId, deviceId]);
      const isNews = now() - (told.get(key) ?? Number.NEGATIVE_INFINITY) >= callLimits.endedKeptMs;
      if (!isNews) return false;
      told.delete(key);
      told.set(key, now());
      for (const [oldest, at] of told) {
        if (told.size <= endsMax && now() - at < callLimits.endedKeptMs) break;
        told.delete(oldest);
      }
      return true;
    },
  };
}
