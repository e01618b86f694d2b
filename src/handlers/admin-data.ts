/** Handles messages of operators about what is kept: how long the events of a conversation stay [LOG9]. */
import { parseDuration } from "../config/values.ts";
import { ack } from "./context.ts";
import { forAdmins } from "./for-admins.ts";

export const updateConversation = forAdmins<"admin.conversations.update", "conversationStore">(
  "admin.conversations.update",
  async ({ payload, services }) => {
    const { conversation_id: conversationId, retention } = payload;
    await services.conversationStore.setRetention(conversationId, retention === null ? null : parseDuration(retention));
    return ack;
  },
);
