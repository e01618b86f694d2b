/** Says how a service is configured for a population with a backend, own events and members that come and go. */
import type { CheckerOptions } from "./population.ts";

/** Told to the population. */
export const checked = {
  pushAfterMs: 500,
  ownEvents: { "poll.vote": { logged: true }, "voice.recording": { logged: false } },
} satisfies Partial<CheckerOptions>;

/** Told to the service. */
export const checkedSettings: Record<string, string> = {
  // Of conversations some are large enough for it, others not.
  WEBSOCKET__COALESCE_WINDOW: "20ms",
  WEBSOCKET__COALESCE_FROM: "4",
  PUSH__AFTER: `${checked.pushAfterMs}ms`,
  EVENTS: Object.entries(checked.ownEvents)
    .map(([type, { logged }]) => `${type}=${logged ? "logged" : "passing"}`)
    .join(","),
};
