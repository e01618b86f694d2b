/** Handles messages that say how far somebody has got: `mark.delivered`, `mark.read` [REC1]. */
import type { ClientPayload } from "../protocol/client.ts";
import type { ReceiptKind } from "../storage/ports.ts";
import type { Handler, Reply, Request } from "./context.ts";
import { requireMember } from "./require-member.ts";

type Needs = "directory" | "receipts";

export const markDelivered: Handler<"mark.delivered", Needs> = (request) => mark(request, "delivered");

export const markRead: Handler<"mark.read", Needs> = (request) =>
  mark(request, request.payload.private ? "read_private" : "read");

async function mark(
  request: Pick<Request<"mark.delivered", Needs>, "from" | "services"> & { payload: ClientPayload<"mark.delivered"> },
  kind: ReceiptKind,
): Promise<Reply> {
  const { from, payload, services } = request;
  const { conversation_id: conversationId, message_ids: messageIds, up_to_seq: upToSeq } = payload;
  await requireMember(request, { joins: false, writes: false });
  const marking = services.receipts.advance(
    { conversationId, userId: from.userId, kind, messageIds, upToSeq },
    { except: from },
  );
  from.whenFollowed(() => services.receipts.hurry());
  const marked = await marking;
  return { type: "ack", payload: { up_to_seq: marked.upToSeq, unread: marked.unread, as_of_seq: marked.asOfSeq } };
}
