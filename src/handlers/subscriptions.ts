/** Handles what a connection wants to hear: `subscribe`, `unsubscribe` [SUB]. */
import type { Handler } from "./context.ts";

export const subscribe: Handler<"subscribe", "subscriptions"> = async ({ from, payload, services }) => ({
  type: "subscribed",
  payload: await services.subscriptions.subscribe(from, payload),
});

export const unsubscribe: Handler<"unsubscribe", "subscriptions"> = async ({ from, payload, services }) => ({
  type: "unsubscribed",
  payload: await services.subscriptions.unsubscribe(from, payload),
});
