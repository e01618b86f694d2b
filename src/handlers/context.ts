/** What a handler is given, and what it gives back. */
import type { Broadcaster } from "../broadcast/broadcaster.ts";
import type { Publisher } from "../broadcast/publisher.ts";
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { CallService } from "../calls/service.ts";
import type { NodeRegistry } from "../cluster/ports.ts";
import type { Survey } from "../cluster/survey.ts";
import type { Config } from "../config/schema.ts";
import type { DirectoryView } from "../directory/directory.ts";
import type { PresenceTracker } from "../presence/tracker.ts";
import type { TypingTracker } from "../presence/typing.ts";
import type { ClientMessageType, ClientPayload } from "../protocol/client.ts";
import type { ServerMessageType, ServerPayload } from "../protocol/server.ts";
import type { FairQueue } from "../storage/fair-queue.ts";
import type { Storage } from "../storage/ports.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import type { Subscriber } from "../subscription/subscriber.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { AdminQuestions } from "./admin-questions.ts";
import type { ReceiptRelay } from "./receipt-relay.ts";

/** The connection that asks. */
export interface Requester extends Subscriber {
  /** Milliseconds since the epoch. */
  readonly connectedAt: number;
  readonly roles: readonly string[];
  /** False only for `ping` and `authenticate`: nothing else is handled before. */
  readonly isAuthenticated: boolean;
  /** Resolves once everything that it has sent before is answered; null: it is [ENV7]. */
  readonly ahead: Promise<void> | null;
}

/** Everything handlers work with; it outlives a hot reload of the handlers. */
export interface Services {
  config: Config;
  storage: Storage;
  /** Where a question waits for its turn among its user's. */
  questions: FairQueue;
  directory: DirectoryView;
  publisher: Publisher;
  sequencer: Sequencer;
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

/** What operators work with. */
export interface Administration {
  /** The node that answers. */
  nodeId: string;
  survey: Survey<AdminQuestions>;
  nodes: NodeRegistry;
  /** Who did what. */
  logger: Logger;
}

export interface Request<Type extends ClientMessageType> {
  id: string;
  payload: ClientPayload<Type>;
  from: Requester;
  /** Follows what the request causes through the logs. */
  correlationId: string;
  services: Services;
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
}

/** @throws ProtocolError it becomes the request's `error` reply */
export type Handler<Type extends ClientMessageType> = (request: Request<Type>) => Reply | Promise<Reply>;

/**
 * What a request has come to that waits only for the log: its events have their place in the queue, so that whatever its
 * connection has sent next may follow [ENV7]. A reply of it has nothing to do `after`.
 */
export interface Entered {
  /** How many they are. */
  events: number;
  /** Its reply, once they are durable. */
  settled: Promise<Reply>;
}

/** A handler that does not wait for the log. It begins although what was sent before it is not answered yet. */
export type PipelinedHandler<Type extends ClientMessageType> = (
  request: Request<Type>,
) => Reply | Entered | Promise<Reply | Entered>;

/** Messages that share batches of the log when a connection sends them without waiting [ENV7]. */
export const pipelinedTypes = ["message.send", "publish"] as const satisfies ClientMessageType[];
type PipelinedType = (typeof pipelinedTypes)[number];

/** The table of routes: it does not compile where a message has no handler. */
export type Routes = {
  [Type in ClientMessageType]: Type extends PipelinedType ? PipelinedHandler<Type> : Handler<Type>;
};

export const ack: Reply = { type: "ack", payload: {} };
