/** Tells one connection something that it has not asked for. */
import type { ServerMessageType, ServerPayload } from "../protocol/server.ts";
import type { Subscriber } from "./subscriber.ts";

export type Tell = <Type extends ServerMessageType>(
  subscriber: Subscriber,
  type: Type,
  payload: ServerPayload<Type>,
) => void;

export function createTell({ newId, now }: { newId: () => string; now: () => number }): Tell {
  return (subscriber, type, payload) =>
    subscriber.sendAll([{ id: newId(), type, payload: JSON.stringify(payload), at: now() }]);
}
