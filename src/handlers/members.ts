/** Handles `members`: a page of who is in a conversation, for whoever may read it [MEM1]. */
import { ProtocolError } from "../protocol/errors.ts";
import { topicOf } from "../protocol/topic.ts";
import type { Handler } from "./context.ts";

export const members: Handler<"members", "subscriptions" | "directory"> = async ({ from, payload, services }) => {
  const { conversation_id: conversationId, after, limit } = payload;
  if (!(await services.subscriptions.mayRead(from, topicOf("conversation", conversationId))))
    throw new ProtocolError("forbidden", "You are not a member of this conversation.", {
      field: "payload.conversation_id",
    });
  // One more than is shown says whether there are more.
  const found = await services.directory.membersPage({ conversationId, after, limit: limit + 1 });
  const page = found.slice(0, limit);
  return {
    type: "members",
    payload: {
      conversation_id: conversationId,
      user_ids: page.map(({ userId }) => userId),
      may_not_write: page.flatMap(({ userId, mayWrite }) => (mayWrite ? [] : [userId])),
      next: found.length > limit ? page.at(-1)!.userId : null,
    },
  };
};
