/** Handles what a connection wants to hear: `subscribe`, `unsubscribe` [SUB]. */
import { onceThere } from "../ground/at-once.ts";
import type { Subscribed } from "../subscription/manager.ts";
import type { Handler, Reply } from "./context.ts";

export const subscribe: Handler<"subscribe", "subscriptions"> = ({ from, payload, services }) =>
  onceThere(services.subscriptions.subscribe(from, payload), replyOf);

const replyOf = ({ topics, payload: { text }, replayed }: Subscribed): Reply => ({
  type: "subscribed",
  text,
  holds: { topics: topics.length, replayed },
});

export const unsubscribe: Handler<"unsubscribe", "subscriptions"> = async ({ from, payload, services }) => ({
  type: "unsubscribed",
  payload: await services.subscriptions.unsubscribe(from, payload),
});
