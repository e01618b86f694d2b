/** Decides who may change which messages: the only place that does [MSG2] [MSG3]. */

import { ProtocolError } from "../protocol/errors.ts";
import type { AmendmentRefusal } from "../storage/amendments.ts";
import type { Requester, Services } from "./context.ts";
import { requireMember } from "./require-member.ts";

interface ChangeRequest {
  from: Pick<Requester, "userId" | "roles">;
  payload: { conversation_id: string; message_id: string };
  services: Pick<Services, "config" | "directory">;
}

/**
 * Lets the sender go on with changing a message of the conversation: its own, as `service` anybody's, as `admin` also delete
 * anybody's. Members react to all messages.
 * @returns whose message it must be; undefined: anybody's
 * @throws ProtocolError `forbidden`
 */
export async function requireChange(
  request: ChangeRequest,
  change: "edit" | "delete" | "react",
): Promise<string | undefined> {
  const { from, services } = request;
  if (from.roles.includes("service")) return undefined;
  if (change === "delete" && from.roles.includes("admin")) return undefined;
  if (!services.config.messages.accept)
    throw new ProtocolError("forbidden", "Messages are changed by the application's backend here.");
  // Kept from writing, one may still take back what one has said [MSG5].
  await requireMember(request, { joins: false, writes: change !== "delete" });
  return change === "react" ? undefined : from.userId;
}

/** Says why a message was not changed. @param path of the payload that names it */
export function refusalOf(refusal: AmendmentRefusal, path = "payload"): ProtocolError {
  const field = `${path}.message_id`;
  switch (refusal) {
    case "unknown":
      // Whether there is one is not told.
      return new ProtocolError("forbidden", "There is no such message in this conversation that you may change.", {
        field,
      });
    case "deleted":
      return new ProtocolError("conflict", "This message is deleted.", { field });
    case "too_many":
      return new ProtocolError("limit_exceeded", "There are too many different reactions on this message.", {
        field: `${path}.reaction`,
      });
  }
}
