/** Handles messages about who is there: `presence.update`, `presence.query` [PRE2] [PRE4]. */
import { ack, type Handler } from "./context.ts";

export const update: Handler<"presence.update", "presence"> = async ({ from, payload, services }) => {
  await services.presence.update(from, payload);
  return ack;
};

export const query: Handler<"presence.query", "config" | "directory" | "presence"> = async ({
  from,
  payload,
  services,
}) => {
  const { config, directory, presence } = services;
  const { user_ids: userIds } = payload;
  const mayBeSeen =
    config.presence.visible_to === "everyone" ? new Set(userIds) : await directory.sharingWith(from.userId, userIds);
  return { type: "presence.update", payload: { users: await presence.query(from.userId, userIds, mayBeSeen) } };
};
