/** Refuses requests about a conversation whose member their sender is not [SUB1]. */
import { ProtocolError } from "../protocol/errors.ts";
import type { Requester, Services } from "./context.ts";

interface ConversationRequest {
  from: Pick<Requester, "userId">;
  payload: { conversation_id: string };
  services: Pick<Services, "directory">;
}

/**
 * Lets the sender go on as a member of the conversation.
 * @param joins whether using the conversation like this joins it, where the directory is open: saying something does, marking
 * what others have said does not
 * @throws ProtocolError `forbidden`
 */
export async function requireMember(
  { from, payload, services }: ConversationRequest,
  { joins }: { joins: boolean },
): Promise<void> {
  const { directory } = services;
  const conversationId = payload.conversation_id;
  const isMember = joins
    ? await directory.ensureMember(conversationId, from.userId)
    : await directory.isMember(conversationId, from.userId);
  if (!isMember)
    throw new ProtocolError("forbidden", "You are not a member of this conversation.", {
      field: "payload.conversation_id",
    });
}
