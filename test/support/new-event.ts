/** Makes events to append, each with an id of its own. */
import type { NewEvent } from "../../src/storage/ports.ts";

let made = 0;

/** An event of the topic, created at moment 1,000 where nothing else is said. */
export function newEvent(topic: string, rest: Partial<NewEvent> = {}): NewEvent {
  const id = `event-${++made}`;
  return { id, topic, type: "message.new", payload: JSON.stringify({ id }), createdAt: 1_000, ...rest };
}

export function newEvents(topic: string, count: number, rest: Partial<NewEvent> = {}): NewEvent[] {
  return Array.from({ length: count }, () => newEvent(topic, rest));
}
