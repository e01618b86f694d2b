/** Names what answers each request where that is not `ack`; `error` may always [ENV3]. */
import { type ClientMessageType, clientPayloads } from "./client.ts";
import { type ServerMessageType, serverPayloads } from "./server.ts";

const named: Partial<Record<ClientMessageType, ServerMessageType>> = {
  ping: "pong",
  authenticate: "auth.success",
  subscribe: "subscribed",
  unsubscribe: "unsubscribed",
  "presence.query": "presence.update",
};

/** Questions are answered by a message of their own name. */
export function replyTypeOf(type: ClientMessageType): ServerMessageType {
  const own = type in serverPayloads && isQuestion(type) ? (type as ServerMessageType) : undefined;
  return named[type] ?? own ?? "ack";
}

/** Of the names that both sides have these are no questions: others are told of them as they were asked. */
const isQuestion = (type: ClientMessageType) => !/^(presence|typing|call)\./.test(type);

/** Every server message that is the answer to something. */
export const replyTypes: ReadonlySet<string> = new Set([
  "ack",
  "error",
  "auth.failed",
  ...(Object.keys(clientPayloads) as ClientMessageType[]).map(replyTypeOf),
]);
