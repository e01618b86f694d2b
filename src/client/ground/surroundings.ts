/** Tells the client what happens around it: the time, the network, a page that is shown again or left. */
import type { Clock, Unlisten } from "../core.ts";
import type { Listeners } from "./listeners.ts";

export const systemClock: Clock = {
  now: () => Date.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};

/** A time to come, in milliseconds since 1970, and how far off it was when it was set. */
export interface Moment {
  readonly at: number;
  readonly inMs: number;
}

export const never: Moment = { at: 0, inMs: 0 };
export const momentIn = (inMs: number, now: number): Moment => ({ at: now + inMs, inMs });

/** No longer than it was meant, also by a clock that was set back since. */
export const leftUntil = ({ at, inMs }: Moment, now: number): number => Math.max(0, Math.min(at - now, inMs));

const longestPauseMs = 30_000;

/** Pauses that are twice as long after each try that leads nowhere. */
export const pauseMs = (firstMs: number, tries: number): number => Math.min(longestPauseMs, firstMs * 2 ** tries);

/** `wake`: a line that broke meanwhile has not been noticed yet, perhaps. `hide`: this may be the last moment of the page. */
export type Happening = "online" | "offline" | "wake" | "hide";

export interface Surroundings {
  /** False where there is certainly no network. */
  isOnline(): boolean;
  listen(listener: (happening: Happening) => void): Unlisten;
}

const pageEvents: Record<string, Happening> = {
  online: "online",
  offline: "offline",
  pageshow: "wake",
  pagehide: "hide",
};

/** Tells what a browser tells; outside of one nothing ever happens. */
export const pageSurroundings: Surroundings = {
  isOnline: () => globalThis.navigator?.onLine !== false,
  listen(listener) {
    if (typeof document === "undefined") return () => {};
    const stopped = new AbortController();
    const { signal } = stopped;
    for (const [name, happening] of Object.entries(pageEvents))
      addEventListener(name, () => listener(happening), { signal });
    const tell = () => listener(document.visibilityState === "visible" ? "wake" : "hide");
    document.addEventListener("visibilitychange", tell, { signal });
    return () => stopped.abort();
  },
};

/** Tells what happens around other tabs as well. */
export const joined = ({ isOnline, listen }: Surroundings, others: Listeners<Happening>): Surroundings => ({
  isOnline,
  listen(listener) {
    const stops = [listen(listener), others.add(listener)];
    return () => {
      for (const stop of stops) stop();
    };
  },
});
