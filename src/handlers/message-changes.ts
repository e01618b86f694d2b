/** Handles what is done to messages afterwards: `message.edit`, `message.delete`, `reaction.add`, `reaction.remove` [MSG2] [MSG3]. */
import { amending, type MessageChange } from "../broadcast/message-changes.ts";
import { momentText } from "../ground/moments.ts";
import { conversationTopic } from "../protocol/topic.ts";
import type { Handler, Reply, Request } from "./context.ts";
import { refusalOf, requireChange } from "./message-rights.ts";

type Needs = "config" | "directory" | "publisher" | "now" | "newId";
type ChangeRequest = Pick<Request<"message.delete", Needs>, "from" | "payload" | "services" | "correlationId" | "span">;

export const edit: Handler<"message.edit", Needs> = async (request) => {
  const { from, payload, services } = request;
  const sentBy = await requireChange(request, "edit");
  const { conversation_id, message_id, content } = payload;
  const at = services.now();
  const edited = { conversation_id, message_id, content, edited_at: momentText(at), edited_by: from.userId };
  return tell(request, { type: "message.edited", payload: edited }, { at, sentBy });
};

export const remove: Handler<"message.delete", Needs> = async (request) => {
  const { from, payload, services } = request;
  const sentBy = await requireChange(request, "delete");
  const { conversation_id, message_id } = payload;
  const at = services.now();
  const deleted = { conversation_id, message_id, deleted_at: momentText(at), deleted_by: from.userId };
  return tell(request, { type: "message.deleted", payload: deleted }, { at, sentBy });
};

export const addReaction: Handler<"reaction.add", Needs> = (request) => react(request, true);

export const removeReaction: Handler<"reaction.remove", Needs> = (request) => react(request, false);

async function react(
  request: Pick<Request<"reaction.add", Needs>, keyof ChangeRequest>,
  added: boolean,
): Promise<Reply> {
  const { from, payload, services } = request;
  const sentBy = await requireChange(request, "react");
  const { conversation_id, message_id, reaction } = payload;
  const at = services.now();
  const reacted = { conversation_id, message_id, user_id: from.userId, reaction, added, at: momentText(at) };
  return tell(request, { type: "message.reaction", payload: reacted }, { at, sentBy });
}

/** Appends the event, and with it changes the message; nothing where it is so already. */
async function tell(
  { from, services, correlationId, span }: ChangeRequest,
  change: MessageChange,
  { at, sentBy }: { at: number; sentBy: string | undefined },
): Promise<Reply> {
  const { conversation_id, message_id } = change.payload;
  const event = { id: services.newId(), topic: conversationTopic(conversation_id), createdAt: at };
  const { topic, seq, position, duplicate, refusal } = await services.publisher.append(
    { ...event, ...change, ...amending(change, sentBy) },
    { audience: { except: from }, correlationId, span },
  );
  if (refusal !== undefined) throw refusalOf(refusal);
  const place = duplicate ? {} : { seq, position, at: momentText(at) };
  return { type: "ack", payload: { message_id, topic, ...place, duplicate } };
}
