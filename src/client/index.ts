/** Is `ws-service/client`: everything that an application imports of it. */
/** Names in brackets, such as [LOG4], are rules of the protocol: https://github.com/ws-service/ws-service/blob/main/docs/protocol.md */
export type { Call, CallEndReason, CallView } from "./calls/call.ts";
export type { PlaceOptions } from "./calls/calls.ts";
export type { CallMedia, CallsOptions, Rtc } from "./calls/rtc.ts";
export { Client, type ClientEvents, type ClientOptions, type SentEvent } from "./client.ts";
export type { WebSocketConstructor } from "./connection.ts";
export type { Conversation, ConversationView } from "./conversations/conversation.ts";
export type { Keep } from "./conversations/conversations.ts";
export type { Receipt } from "./conversations/fold.ts";
export type { ConversationListView, ConversationSummary } from "./conversations/list.ts";
export type { Message, Reaction } from "./conversations/message.ts";
export type { Typing } from "./conversations/typing.ts";
export type {
  ConnectionState,
  Reply,
  RequestOptions,
  RequestType,
  ServerEvent,
  StopReason,
  Store,
  Unlisten,
} from "./core.ts";
export { ClientError, type ClientErrorCode, ServerError } from "./errors.ts";
export type { Live } from "./ground/live.ts";
export type { OwnPresence, Presence } from "./presence.ts";
export { IndexedDbStore } from "./stores/indexed-db.ts";
export { MemoryStore } from "./stores/memory.ts";
export type { ClientPayloads, Content, JsonObject, ServerPayloads } from "./wire.ts";
