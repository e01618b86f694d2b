/** Takes a request from its frame to its handler, and sends the one reply [ENV3]. */
import { InvariantBroken } from "../ground/assert.ts";
import { Unavailable } from "../ground/unavailable.ts";
import {
  type PendingReply,
  pipelinedTypes,
  type Reply,
  type Request,
  type Requester,
  type Routes,
  type Services,
} from "../handlers/context.ts";
import type { ClientMessageType } from "../protocol/client.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Codecs } from "../protocol/codecs.ts";
import type { OutgoingMessage } from "../protocol/envelope.ts";
import { AskerGone } from "../storage/fair-queue.ts";
import { noteBroken } from "../telemetry/broken.ts";
import { type Counts, countOne } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Tracing } from "../telemetry/tracing.ts";
import type { Buckets, RateLimiter } from "./rate-limiter.ts";
import { badMessageCodes, faultCodes, RateLimited, refusalOf } from "./refusals.ts";
import { type FrameRef, RequestReader, type ValidRequest } from "./request-reader.ts";
import { onlyAsks } from "./requests.ts";
import { StorageRefusals, type StorageRefusalsOptions } from "./storage-refusals.ts";

/** A connection as the router sees it. */
export interface RoutedConnection extends Requester, Buckets {
  sendMessage(message: OutgoingMessage): void;
  /** Frames that were taken up, and the last of them that was answered: each is once, in their order. */
  takenUp: number;
  answeredThrough: number;
  noteBadMessage(now: number): boolean;
  close(code: number, reason: string): void;
}

/** A frame whose effects have their place in the order, and which is to be answered once they are durable [ENV7]. */
export interface PendingAnswer {
  /** Events that it has on their way to the log. */
  events: number;
  /** Resolves with what writes the reply, to be called in its turn; it never throws. Never rejects. */
  settled: Promise<() => void>;
}

/** Tells what came of taking up a frame; nothing: it is answered. */
// biome-ignore lint/suspicious/noConfusingVoidType: most frames are answered by functions that return nothing.
export type TakeUpResult = PendingAnswer | void;

export interface RouterOptions extends Pick<StorageRefusalsOptions, "storage"> {
  services: Services;
  routes: Routes;
  codecs: Codecs;
  limiter: RateLimiter;
  counts: Counts;
  tracing?: Tracing | null;
  logger: Logger;
}

/** A request as far as it was read before it was refused. */
type Refused = FrameRef & Partial<Pick<ValidRequest, "readAt" | "span">>;

/** They do not wait for what their connection has sent before. */
const pipelined: ReadonlySet<string> = new Set(pipelinedTypes);
export class Router {
  #routes: Routes;
  readonly #reader: RequestReader;
  readonly #refusals: StorageRefusals;

  constructor(private readonly options: RouterOptions) {
    this.#routes = options.routes;
    this.#reader = new RequestReader(options);
    this.#refusals = new StorageRefusals(options);
  }

  /** Puts new handlers in place of the old, for all connections, from their next message on. */
  replaceRoutes(routes: Routes): void {
    this.#routes = routes;
  }

  /**
   * Takes up one frame, as far as its place in the order of its connection is certain: what only waits for the log then is
   * given back to be answered later, everything else is done and answered. Called for one frame after the other; never rejects.
   */
  route(connection: RoutedConnection, frame: string | Uint8Array): TakeUpResult | Promise<TakeUpResult> {
    const ref: FrameRef = { place: ++connection.takenUp, id: undefined };
    try {
      const valid = this.#reader.read(connection, frame, ref);
      const ahead = this.#mayOvertake(valid.type) ? null : connection.ahead;
      return ahead === null ? this.#handle(connection, valid) : ahead.then(() => this.#handle(connection, valid));
    } catch (error) {
      return this.#refuseInTurn(connection, error, ref);
    }
  }

  /** Whether it begins before what was sent before it is answered; one by one where many wait, so that none is refused for that. */
  #mayOvertake(type: ClientMessageType): boolean {
    return pipelined.has(type) && !this.options.services.publisher.isCrowded;
  }

  #handle(connection: RoutedConnection, valid: ValidRequest): TakeUpResult | Promise<TakeUpResult> {
    const { id, type, payload, span } = valid;
    if (connection.isClosed && onlyAsks(type)) return;
    const correlationId = `${connection.connectionId}:${id}`;
    const request = { id, payload, from: connection, correlationId, span, services: this.options.services };
    this.#logHandled(request as Request<ClientMessageType, keyof Services>, type);
    try {
      const handler = this.#routes[type] as (request: unknown) => Reply | PendingReply | Promise<Reply | PendingReply>;
      const outcome = handler(request);
      if (outcome instanceof Promise) return this.#settle(connection, valid, outcome);
      if ("settled" in outcome) return this.#leavePending(connection, valid, outcome);
      return this.#answer(connection, valid, outcome);
    } catch (error) {
      return this.#refuseInTurn(connection, error, valid);
    }
  }

  async #settle(
    connection: RoutedConnection,
    valid: ValidRequest,
    outcome: Promise<Reply | PendingReply>,
  ): Promise<TakeUpResult> {
    const { type } = valid;
    try {
      const reply = await outcome;
      if ("settled" in reply) return this.#leavePending(connection, valid, reply);
      this.#refusals.noteServed(type);
      await this.#answer(connection, valid, reply);
    } catch (error) {
      // Others are told to the log already: where a sentence for clients is made, and by the cluster's adapter.
      if (error instanceof Unavailable && error.part === "storage" && !error.isPublic)
        this.#refusals.noteRefused(type, error);
      await this.#refuseInTurn(connection, error, valid);
    }
  }

  /** Leaves what waits only for the log to its connection, which has it answered in its turn. */
  #leavePending(connection: RoutedConnection, valid: ValidRequest, { events, settled }: PendingReply): PendingAnswer {
    const refuse = (error: unknown) => () => this.#refuse(connection, error, valid);
    const answer = (reply: Reply) => () => {
      this.#refusals.noteServed(valid.type);
      try {
        void this.#answer(connection, valid, reply);
      } catch (error) {
        this.#refuse(connection, error, valid);
      }
    };
    return { events, settled: settled.then(answer, refuse) };
  }

  /** The reply of a request that was served. */
  #answer(connection: RoutedConnection, valid: ValidRequest, reply: Reply): void | Promise<void> {
    const text = "text" in reply ? reply.text : JSON.stringify(reply.payload);
    this.#reader.chargeAnswer(connection, valid, { reply, length: text.length });
    this.#send(connection, { type: reply.type, text }, valid);
    this.#noteAnswered(valid);
    valid.span?.end();
    if (reply.after !== undefined) return this.#follow(connection, valid, reply.after);
  }

  /** Does what comes after a reply. Where it fails no second reply can say so: the connection ends, and comes back. */
  async #follow(connection: RoutedConnection, valid: ValidRequest, after: NonNullable<Reply["after"]>): Promise<void> {
    try {
      await after();
    } catch (error) {
      if (error instanceof AskerGone) return;
      if (error instanceof InvariantBroken) return this.#breakOff(connection, error);
      this.#noteFault(connection, error, { ...valid, told: "what follows a reply failed" });
      connection.close(CloseCode.internal, "internal");
    }
  }

  #send(
    connection: RoutedConnection,
    { type, text }: { type: string; text: string },
    { place, id: replyTo }: FrameRef,
  ): void {
    const { newId, now } = this.options.services;
    const { answeredThrough } = connection;
    if (place <= answeredThrough)
      return this.#breakOff(connection, new InvariantBroken("reply_order", { place, answeredThrough, type }));
    const message: OutgoingMessage = { id: newId(), type, payload: text, at: now() };
    if (replyTo !== undefined) message.replyTo = replyTo;
    connection.sendMessage(message);
    // A reply that has no form of its connection's codec is none: the refusal takes its place.
    connection.answeredThrough = place;
  }

  /** Refuses what has no place among what waits for the log: after everything before it. */
  #refuseInTurn(connection: RoutedConnection, error: unknown, ref: Refused): void | Promise<void> {
    const { ahead } = connection;
    if (ahead === null) return this.#refuse(connection, error, ref);
    return ahead.then(() => this.#refuse(connection, error, ref));
  }

  #refuse(connection: RoutedConnection, error: unknown, ref: Refused): void {
    if (error instanceof AskerGone) return;
    if (error instanceof InvariantBroken) return this.#breakOff(connection, error);
    const refusal = refusalOf(error, (fault) => this.#noteFault(connection, fault, ref));
    countOne(this.options.counts.errors, refusal.code);
    this.#send(connection, { type: "error", text: JSON.stringify(refusal.toPayload()) }, ref);
    this.#noteAnswered(ref);
    ref.span?.end({ error: refusal.code, isFault: faultCodes.has(refusal.code) });
    if (badMessageCodes.has(refusal.code) && connection.noteBadMessage(this.options.services.now())) {
      connection.close(CloseCode.protocolAbuse, "too many bad messages");
    }
    if (refusal instanceof RateLimited && refusal.abusive) connection.close(CloseCode.rateLimited, "rate limit");
  }

  #noteAnswered({ type, readAt = null }: Refused): void {
    if (type !== undefined && readAt !== null) this.options.counts.onAnswered?.(type, performance.now() - readAt);
  }

  /** Ends the one connection of which nobody can tell any more what it was sent: it comes back, and has it from the log. */
  #breakOff(connection: RoutedConnection, broken: InvariantBroken): void {
    noteBroken(broken, this.options, { connection_id: connection.connectionId, user_id: connection.userId });
    connection.close(CloseCode.internal, "internal");
  }

  #noteFault(
    { connectionId, userId }: RoutedConnection,
    err: unknown,
    { id, type, told = "handler failed" }: FrameRef & { told?: string },
  ): void {
    const correlationId = id === undefined ? undefined : `${connectionId}:${id}`;
    const about = { connection_id: connectionId, user_id: userId, correlation_id: correlationId, type };
    this.options.logger.error({ ...about, err }, told);
  }

  #logHandled({ from, correlationId }: Request<ClientMessageType>, type: string): void {
    const { logger } = this.options;
    if (!logger.isLevelEnabled("debug")) return;
    logger.debug(
      { connection_id: from.connectionId, user_id: from.userId, correlation_id: correlationId, type },
      "message received",
    );
  }
}
