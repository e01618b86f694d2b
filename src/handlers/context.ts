/** Says what a handler is given and gives back: a request, the services that it needs, one reply. */
import type { Broadcaster } from "../broadcast/broadcaster.ts";
import type { Publisher } from "../broadcast/publisher.ts";
import type { CallService } from "../calls/service.ts";
import type { NodeRegistry } from "../cluster/ports.ts";
import type { Survey } from "../cluster/survey.ts";
import type { Config } from "../config/schema.ts";
import type { DirectoryView } from "../directory/directory.ts";
import type { VisibleAmong } from "../directory/visibility.ts";
import type { Eraser } from "../erasure/eraser.ts";
import type { SharedWrites } from "../ground/shared-writes.ts";
import type { PresenceTracker } from "../presence/tracker.ts";
import type { TypingTracker } from "../presence/typing.ts";
import type { ClientMessageType, ClientPayload } from "../protocol/client.ts";
import type { ServerMessageType, ServerPayload } from "../protocol/server.ts";
import type { ConversationStore } from "../storage/conversation-store.ts";
import type { Directory } from "../storage/directory-store.ts";
import type { ErasureStore } from "../storage/erasure-store.ts";
import type { FairQueue } from "../storage/fair-queue.ts";
import type { Acknowledgement, EventLog } from "../storage/ports.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import type { Subscriber } from "../subscription/subscriber.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Span } from "../telemetry/tracing.ts";
import type { AdminQuestions, ConnectionView } from "./admin-questions.ts";
import type { ReceiptRelay } from "./receipt-relay.ts";

/** The connection that asks. */
export interface Requester extends Subscriber {
  /** Milliseconds since 1970. */
  readonly connectedAt: number;
  readonly roles: readonly string[];
  /** False only for `ping` and `authenticate`: nothing else is handled before. */
  readonly isAuthenticated: boolean;
  /** Resolves once everything that it has sent before is answered; null: it is [ENV7]. */
  readonly ahead: Promise<void> | null;
  /** Has it called once something that it has sent waits for the request that is handled now. */
  whenFollowed(hurry: () => void): void;
}

/** Names everything that handlers may work with; it outlives a hot reload of them. */
export interface Services {
  config: Config;
  log: EventLog;
  acknowledgements: Pick<SharedWrites<Acknowledgement, string>, "write">;
  /** Changes who exists and who is a member, and tells of it what is so; `directory` remembers it for a while. */
  directoryStore: Directory;
  conversationStore: ConversationStore;
  erasures: ErasureStore;
  eraser: Pick<Eraser, "wake">;
  /** Where a question waits for its turn among its user's. */
  questions: FairQueue;
  directory: DirectoryView;
  visibleAmong: VisibleAmong;
  publisher: Publisher;
  broadcaster: Broadcaster;
  subscriptions: SubscriptionManager;
  presence: PresenceTracker;
  typing: TypingTracker;
  calls: CallService;
  receipts: ReceiptRelay;
  /** Verifies a token and makes the connection its user's; or refreshes it [AUTH1] [AUTH3]. */
  authenticate(from: Requester, payload: ClientPayload<"authenticate">): Promise<Reply>;
  admin: Administration;
  now: () => number;
  newId: () => string;
}

/** Joins what operators work with. */
export interface Administration {
  /** The node that answers. */
  nodeId: string;
  survey: Survey<AdminQuestions>;
  nodes: NodeRegistry;
  watching: Watching;
  /** This node's samples are `stepMs` apart, as all nodes' are. */
  stepMs: number;
  onlyAsks: (type: ClientMessageType) => boolean;
  /** Says who did what. */
  logger: Logger;
}

/** Watches connections of any node for the one that asks, which is told by `admin.watched` [ADM1]. */
export interface Watching {
  /** @throws ProtocolError where it watches as many as it may */
  begin(
    from: Subscriber,
    what: { connectionId: string; payloads: boolean },
  ): Promise<{ found: { watchId: string; connection: ConnectionView } | null; missing: string[] }>;
  /** @returns whether it was its own */
  end(from: Subscriber, watchId: string): boolean;
}

export interface Request<Type extends ClientMessageType, Needs extends keyof Services = never> {
  id: string;
  payload: ClientPayload<Type>;
  from: Requester;
  /** Follows what the request causes through the logs. */
  correlationId: string;
  /** Follows it through what others measure; null where it is not traced. */
  span: Span | null;
  services: Pick<Services, Needs>;
}

/**
 * Answers a request, once [ENV3]. `after` is what the connection does when that is written, before its next message: it must
 * neither throw nor reject, for there is no second reply to say so.
 */
export type Reply = (PlainReply | WrittenReply) & { after?: () => void | Promise<void> };

type PlainReply = { [Type in ServerMessageType]: { type: Type; payload: ServerPayload<Type> } }[ServerMessageType];

/** A reply whose payload is JSON text already: what is stored is passed on as it is, never parsed and printed again. */
interface WrittenReply {
  type: ServerMessageType;
  text: string;
  /** Counts what went into it and its length does not tell: topics that it speaks of, characters that were replayed before it, looks through the log. */
  holds?: { topics: number; replayed: number } | { looks: number };
}

/**
 * Answers one type of request with the services that it needs.
 * @throws ProtocolError it becomes the request's `error` reply
 */
export type Handler<Type extends ClientMessageType, Needs extends keyof Services = never> = (
  request: Request<Type, Needs>,
) => Reply | Promise<Reply>;

/**
 * Carries a request that waits only for the log: its events have their place in the queue, so that whatever its
 * connection has sent next may follow [ENV7]. A reply of it has nothing to do `after`.
 */
export interface PendingReply {
  /** How many they are. */
  events: number;
  /** Its reply, once they are durable. */
  settled: Promise<Reply>;
}

/** Answers without waiting for the log. It begins although what was sent before it is not answered yet. */
export type PipelinedHandler<Type extends ClientMessageType, Needs extends keyof Services = never> = (
  request: Request<Type, Needs>,
) => Reply | PendingReply | Promise<Reply | PendingReply>;

/** Lists the messages that share batches of the log when a connection sends them without waiting [ENV7]. */
export const pipelinedTypes = ["message.send", "event.send", "publish"] as const satisfies ClientMessageType[];
type PipelinedType = (typeof pipelinedTypes)[number];

/** Names the handler of every message: a table does not compile where one is missing, or needs a service that is not given. */
export type Routes = {
  [Type in ClientMessageType]: Type extends PipelinedType
    ? PipelinedHandler<Type, keyof Services>
    : Handler<Type, keyof Services>;
};

export const ack: Reply = { type: "ack", payload: {} };
