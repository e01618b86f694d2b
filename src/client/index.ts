/** Is `ws-service/client`: everything that an application imports of it. */
/** Names in brackets, such as [LOG4], are rules of the protocol: https://github.com/ws-service/ws-service/blob/main/docs/protocol.md */
export type { Call, CallEndReason, CallView } from "./call.ts";
export type { PlaceOptions } from "./calls.ts";
export { Client, type ClientEvents, type ClientOptions, type SentEvent } from "./client.ts";
export type { WebSocketConstructor } from "./connection.ts";
export type { Conversation, ConversationView } from "./conversation.ts";
export type { ConversationListView, ConversationSummary } from "./conversation-list.ts";
export type { Keep } from "./conversations.ts";
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
export type { Receipt } from "./fold.ts";
export type { Live } from "./live.ts";
export type { Message, Reaction } from "./message.ts";
export type { OwnPresence, Presence } from "./presence.ts";
export type { CallMedia, CallsOptions, Rtc } from "./rtc.ts";
export { IndexedDbStore } from "./stores/indexed-db.ts";
export { MemoryStore } from "./stores/memory.ts";
export type { Typing } from "./typing.ts";
export type { ClientPayloads, Content, JsonObject, ServerPayloads } from "./wire.ts";
