/** Tells one connection something that it has not asked for. */
import type { ServerMessageType, ServerPayload } from "../protocol/server.ts";
import type { Subscriber } from "./subscriber.ts";

/** A payload that is JSON text already. */
export class WrittenPayload {
  constructor(readonly text: string) {}
}

export type Tell = <Type extends ServerMessageType>(
  subscriber: Subscriber,
  type: Type,
  payload: ServerPayload<Type> | WrittenPayload,
) => void;

export function createTell({ newId, now }: { newId: () => string; now: () => number }): Tell {
  return (subscriber, type, payload) => {
    const text = payload instanceof WrittenPayload ? payload.text : JSON.stringify(payload);
    subscriber.sendAll([{ id: newId(), type, payload: text, at: now() }]);
  };
}
