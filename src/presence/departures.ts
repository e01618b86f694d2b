/** Holds the devices whose connection broke off until it is clear that they do not come back [PRE1]. */
import type { Outage } from "../telemetry/outage.ts";
import type { Timers } from "./timers.ts";

export interface Place {
  userId: string;
  deviceId: string;
  connectionId: string;
}

export interface DeparturesDeps {
  /** Takes the device out of the registry; a rejection means that it is tried again. */
  leave(place: Place): Promise<void>;
  /** Told of each try. */
  outage: Pick<Outage, "began" | "ended">;
  retryDelayMs: number;
  timers: Timers;
}

export interface Departures {
  /** Lets the device leave after `delayMs`, 0 for at once. Resolves with the first attempt where it is made at once. */
  add(place: Place, delayMs: number): Promise<void>;
  /** The device has come back, or its connection was replaced. @returns whether it was on its way out */
  remove(connectionId: string): boolean;
  /** Whether the connection has broken off and its device may still come back. */
  has(connectionId: string): boolean;
  size(): number;
  /** Nobody leaves any more. */
  stop(): void;
}

/** Bounded by the connections that break off within one grace. */
export function createDepartures({ leave, outage, retryDelayMs, timers }: DeparturesDeps): Departures {
  const waiting = new Map<string, () => void>();
  let stopped = false;

  function wait(place: Place, delayMs: number): void {
    waiting.get(place.connectionId)?.();
    const cancel = timers.after(delayMs, () => void attempt(place));
    waiting.set(place.connectionId, cancel);
  }

  async function attempt(place: Place): Promise<void> {
    if (stopped) return;
    waiting.get(place.connectionId)?.();
    waiting.delete(place.connectionId);
    try {
      await leave(place);
      outage.ended();
    } catch (error) {
      outage.began(error);
      // An entry that stays would show its user online for as long as this node lives.
      if (!stopped) wait(place, retryDelayMs);
    }
  }

  return {
    async add(place, delayMs) {
      if (stopped) return;
      if (delayMs === 0) await attempt(place);
      else wait(place, delayMs);
    },
    remove(connectionId) {
      waiting.get(connectionId)?.();
      return waiting.delete(connectionId);
    },
    has: (connectionId) => waiting.has(connectionId),
    size: () => waiting.size,
    stop() {
      stopped = true;
      for (const cancel of waiting.values()) cancel();
      waiting.clear();
    },
  };
}
