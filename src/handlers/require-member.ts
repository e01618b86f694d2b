/** Refuses requests about a conversation whose member their sender is not, or may not write in [SUB1] [MSG5]. */
import { ProtocolError } from "../protocol/errors.ts";
import type { Requester, Services } from "./context.ts";

interface ConversationRequest {
  from: Pick<Requester, "userId">;
  payload: { conversation_id: string };
  services: Pick<Services, "directory">;
}

interface Use {
  /**
   * Whether using the conversation like this joins it, where the directory is open: saying something does, marking what others
   * have said does not.
   */
  joins: boolean;
  /** Whether others see what is done: members who are kept from writing may not. */
  writes: boolean;
}

const field = "payload.conversation_id";

/**
 * Lets the sender go on as a member of the conversation.
 * @throws ProtocolError `forbidden`
 */
export async function requireMember(
  { from, payload, services }: ConversationRequest,
  { joins, writes }: Use,
): Promise<void> {
  const { directory } = services;
  const find = joins ? directory.ensureMember : directory.membership;
  const membership = await find(payload.conversation_id, from.userId);
  if (membership === undefined)
    throw new ProtocolError("forbidden", "You are not a member of this conversation.", { field });
  if (writes && !membership.mayWrite)
    throw new ProtocolError("forbidden", "You may read this conversation, and not write in it.", { field });
}

/** Whether the sender is remembered as a member who may write; where nothing is remembered nobody knows. */
export function isKnownToWrite({ from, payload, services }: ConversationRequest): boolean {
  const { conversation_id } = payload;
  return (
    services.directory.rememberedMemberships(from.userId, [conversation_id])?.get(conversation_id)?.mayWrite === true
  );
}
