/** Remembers which devices this node has told the end of a call: a Redis that lost that, or two masters at once, must not have it told again [CALL4]. */
import { callLimits, type Delivery } from "./record.ts";

/** Ends within the time that an ended call is kept; of more, the oldest are forgotten first. */
const endsMax = 10_000;

export class EndsTold {
  /** When it was told (ms), in that order. An id that is used again later means another call. */
  readonly #told = new Map<string, number>();

  /** @param now milliseconds since 1970 */
  constructor(private readonly now: () => number) {}

  /** Notes that the end is about to be told on this node. @returns whether that is news to the device */
  note({ userId, deviceId, payload }: Delivery): boolean {
    const at = this.now();
    const key = JSON.stringify([payload.call_id, userId, deviceId]);
    const isNews = at - (this.#told.get(key) ?? Number.NEGATIVE_INFINITY) >= callLimits.endedKeptMs;
    if (!isNews) return false;
    this.#told.delete(key);
    this.#told.set(key, at);
    for (const [oldest, toldAt] of this.#told) {
      if (this.#told.size <= endsMax && at - toldAt < callLimits.endedKeptMs) break;
      this.#told.delete(oldest);
    }
    return true;
  }
}
