/** Handles messages about who is there: `presence.update`, `presence.query` [PRE2] [PRE4]. */
import { ack, type Handler } from "./context.ts";

export const update: Handler<"presence.update", "presence"> = async ({ from, payload, services }) => {
  await services.presence.update(from, payload);
  return ack;
};

export const query: Handler<"presence.query", "presence" | "visibleAmong"> = async ({ from, payload, services }) => {
  const { presence, visibleAmong } = services;
  const { user_ids: userIds } = payload;
  const mayBeSeen = await visibleAmong(from.userId, userIds);
  return { type: "presence.update", payload: { users: await presence.query(from, userIds, mayBeSeen) } };
};
