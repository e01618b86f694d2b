/** Handles messages about typing: `typing.start`, `typing.stop` [TYP1]. */
import { ProtocolError } from "../protocol/errors.ts";
import { ack, type Handler } from "./context.ts";

export const start: Handler<"typing.start", "directory" | "typing"> = async ({ from, payload, services }) => {
  if (!(await services.directory.ensureMember(payload.conversation_id, from.userId))) {
    throw new ProtocolError("forbidden", "You are not a member of this conversation.", {
      field: "payload.conversation_id",
    });
  }
  // The connection may have gone while the directory was asked; nobody may be left typing.
  if (!from.isClosed) services.typing.startTyping(from, payload.conversation_id);
  return ack;
};

export const stop: Handler<"typing.stop", "typing"> = ({ from, payload, services }) => {
  services.typing.stopTyping(from, payload.conversation_id);
  return ack;
};
