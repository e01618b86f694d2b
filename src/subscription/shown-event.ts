/** Writes a logged event as an answer shows it: in a page of history, and as the last message of a conversation [LOG8] [REC3]. */
import { momentText } from "../ground/moments.ts";
import type { LoggedEvent } from "../storage/ports.ts";

/** JSON text of the event; its payload is passed on as it is stored. */
export function shownEvent({ payload, createdAt, ...event }: LoggedEvent): string {
  const head = JSON.stringify({ ...event, timestamp: momentText(createdAt) });
  return `${head.slice(0, -1)},"payload":${payload}}`;
}
