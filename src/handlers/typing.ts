/** Handles messages about typing: `typing.start`, `typing.stop` [TYP1]. */
import { ack, type Handler } from "./context.ts";
import { requireMember } from "./require-member.ts";

export const start: Handler<"typing.start", "directory" | "typing"> = async (request) => {
  const { from, payload, services } = request;
  await requireMember(request, { joins: true, writes: true });
  // The connection may have gone while the directory was asked; nobody may be left typing.
  if (!from.isClosed) services.typing.startTyping(from, payload.conversation_id);
  return ack;
};

export const stop: Handler<"typing.stop", "typing"> = ({ from, payload, services }) => {
  services.typing.stopTyping(from, payload.conversation_id);
  return ack;
};
