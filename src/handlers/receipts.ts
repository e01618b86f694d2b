/** Handles messages that say how far somebody has got: `mark.delivered`, `mark.read` [REC1]. */
import type { ClientPayload } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { ReceiptKind } from "../storage/ports.ts";
import type { Handler, Reply, Request } from "./context.ts";

type Needs = "directory" | "receipts" | "receiptStore";

export const markDelivered: Handler<"mark.delivered", Needs> = (request) => mark(request, "delivered");

export const markRead: Handler<"mark.read", Needs> = (request) =>
  mark(request, request.payload.private ? "read_private" : "read");

async function mark(
  {
    from,
    payload,
    services,
  }: Pick<Request<"mark.delivered", Needs>, "from" | "services"> & {
    payload: ClientPayload<"mark.delivered">;
  },
  kind: ReceiptKind,
): Promise<Reply> {
  const { conversation_id: conversationId, message_ids: messageIds, up_to_seq: upToSeq } = payload;
  if (!(await services.directory.isMember(conversationId, from.userId))) {
    throw new ProtocolError("forbidden", "You are not a member of this conversation.", {
      field: "payload.conversation_id",
    });
  }
  const watermark = await services.receipts.advance(
    { conversationId, userId: from.userId, kind, messageIds, upToSeq },
    { except: from },
  );
  const places = await services.receiptStore.states(from.userId, [conversationId]);
  return { type: "ack", payload: { up_to_seq: watermark, unread: places.get(conversationId)?.unread ?? 0 } };
}
