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
  // A view of the application's may name somebody twice.
  const mayWrite = new Map(page.map((member) => [member.userId, member.mayWrite]));
  const userIds = [...mayWrite.keys()];
  return {
    type: "members",
    payload: {
      conversation_id: conversationId,
      user_ids: userIds,
      may_not_write: userIds.filter((userId) => !mayWrite.get(userId)),
      next: found.length > limit ? userIds.at(-1)! : null,
    },
  };
};
