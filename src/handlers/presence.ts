/** Handles messages about who is there: `presence.update`, `presence.query` [PRE2] [PRE4]. */
import { seesInvisible } from "../directory/visibility.ts";
import { ack, type Handler } from "./context.ts";

export const update: Handler<"presence.update", "presence"> = async ({ from, payload, services }) => {
  await services.presence.update(from, payload);
  return ack;
};

export const query: Handler<"presence.query", "config" | "presence" | "visibleAmong"> = async (request) => {
  const { from, payload, services } = request;
  const { config, presence, visibleAmong } = services;
  const { user_ids: userIds } = payload;
  const mayBeSeen = await visibleAmong(from, userIds);
  const { userId, connectionId } = from;
  const asker = { userId, connectionId, seesInvisible: seesInvisible(from, config.presence) };
  return { type: "presence.update", payload: { users: await presence.query(asker, userIds, mayBeSeen) } };
};
