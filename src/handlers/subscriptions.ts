/** Handles what a connection wants to hear: `subscribe`, `unsubscribe` [SUB]. */
import type { Handler } from "./context.ts";

export const subscribe: Handler<"subscribe", "subscriptions"> = async ({ from, payload, services }) => {
  const { topics, payload: answer, replayed } = await services.subscriptions.subscribe(from, payload);
  return { type: "subscribed", text: answer.text, holds: { topics: topics.length, replayed } };
};

export const unsubscribe: Handler<"unsubscribe", "subscriptions"> = async ({ from, payload, services }) => ({
  type: "unsubscribed",
  payload: await services.subscriptions.unsubscribe(from, payload),
});
