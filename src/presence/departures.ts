/** Holds the devices whose connection broke off until it is clear that they do not come back [PRE1]. */

import type { Timers } from "../ground/timers.ts";
import type { Outage } from "../telemetry/outage.ts";

export interface DeviceRef {
  userId: string;
  deviceId: string;
  connectionId: string;
}

export interface DeparturesDeps {
  /** Takes the device out of the registry; a rejection means that it is tried again. */
  leave(ref: DeviceRef): Promise<void>;
  /** Told of each try. */
  outage: Pick<Outage, "began" | "ended">;
  retryDelayMs: number;
  timers: Timers;
}

export interface Departures {
  /** Lets the device leave after `delayMs`, 0 for at once. Resolves with the first attempt where it is made at once. */
  add(ref: DeviceRef, delayMs: number): Promise<void>;
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

  function wait(ref: DeviceRef, delayMs: number): void {
    waiting.get(ref.connectionId)?.();
    const cancel = timers.after(delayMs, () => void attempt(ref));
    waiting.set(ref.connectionId, cancel);
  }

  async function attempt(ref: DeviceRef): Promise<void> {
    if (stopped) return;
    waiting.get(ref.connectionId)?.();
    waiting.delete(ref.connectionId);
    try {
      await leave(ref);
      outage.ended();
    } catch (error) {
      outage.began(error);
      // An entry that stays would show its user online for as long as this node lives.
      if (!stopped) wait(ref, retryDelayMs);
    }
  }

  return {
    async add(ref, delayMs) {
      if (stopped) return;
      if (delayMs === 0) await attempt(ref);
      else wait(ref, delayMs);
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
