/** Takes a frame through decoding, validation and limits to its handler, and sends the one reply [ENV3]. */
import * as v from "valibot";
import { InvariantBroken } from "../ground/assert.ts";
import { Unavailable } from "../ground/unavailable.ts";
import {
  type Entered,
  pipelinedTypes,
  type Reply,
  type Request,
  type Requester,
  type Routes,
  type Services,
} from "../handlers/context.ts";
import { type ClientMessageType, clientPayloads } from "../protocol/client.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Codecs } from "../protocol/codecs.ts";
import { type OutgoingMessage, type RequestEnvelope, requestEnvelope } from "../protocol/envelope.ts";
import { type ErrorCode, ProtocolError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { phraseOf } from "../protocol/phrase.ts";
import { AskerGone } from "../storage/fair-queue.ts";
import { noteBroken } from "../telemetry/broken.ts";
import { type Counts, countOne } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import { Outage } from "../telemetry/outage.ts";
import { type Answered, answerCharge, ofAnySize, tokensFor } from "./costs.ts";
import type { Buckets, Charge, RateLimiter } from "./rate-limiter.ts";
import { badMessageCodes, RateLimited, refusalOf, tooLarge } from "./refusals.ts";
import { limitClassOf, onlyAsks } from "./requests.ts";

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
export interface Unanswered {
  /** Events that it has on their way to the log. */
  events: number;
  /** Resolves with what writes the reply, to be called in its turn; it never throws. Never rejects. */
  settled: Promise<() => void>;
}

/** Tells what came of taking up a frame; nothing: it is answered. */
// biome-ignore lint/suspicious/noConfusingVoidType: most frames are answered by functions that return nothing.
export type Taken = Unanswered | void;

export interface RouterOptions {
  services: Services;
  routes: Routes;
  codecs: Codecs;
  limiter: RateLimiter;
  counts: Counts;
  logger: Logger;
}

const beforeAuthentication: ReadonlySet<string> = new Set(["ping", "authenticate"]);
/** They do not wait for what their connection has sent before. */
const pipelined: ReadonlySet<string> = new Set(pipelinedTypes);
const requestIdOf = (id: unknown) =>
  typeof id === "string" && id.length >= 1 && id.length <= limits.requestIdLength ? id : undefined;

/** A frame by its place among those of its connection, and what it is replied to as, as far as that is seen. */
interface Asked {
  place: number;
  id: string | undefined;
  type?: ClientMessageType;
}

/** A request that was read, is sound and within the limits. */
interface Sound extends Asked, Pick<Answered, "tokens"> {
  id: string;
  type: ClientMessageType;
  payload: unknown;
}

export class Router {
  #routes: Routes;
  readonly #outage: Outage;
  /** The type of request that the outage began with; null while there is none. */
  #refusedType: ClientMessageType | null = null;

  constructor(private readonly options: RouterOptions) {
    this.#routes = options.routes;
    this.#outage = new Outage({
      level: "error",
      gone: "the storage refuses requests",
      back: "the storage takes requests again",
      logger: options.logger,
    });
  }

  /** Puts new handlers in place of the old, for all connections, from their next message on. */
  replaceRoutes(routes: Routes): void {
    this.#routes = routes;
  }

  /**
   * Takes up one frame, as far as its place in the order of its connection is certain: what only waits for the log then is
   * given back to be answered later, everything else is done and answered. Called for one frame after the other; never rejects.
   */
  route(connection: RoutedConnection, frame: string | Uint8Array): Taken | Promise<Taken> {
    const asked: Asked = { place: ++connection.takenUp, id: undefined };
    try {
      const sound = this.#read(connection, frame, asked);
      const ahead = this.#mayOvertake(sound.type) ? null : connection.ahead;
      return ahead === null ? this.#handle(connection, sound) : ahead.then(() => this.#handle(connection, sound));
    } catch (error) {
      return this.#refuseInTurn(connection, error, asked);
    }
  }

  /** Whether it begins before what was sent before it is answered; one by one where many wait, so that none is refused for that. */
  #mayOvertake(type: ClientMessageType): boolean {
    return pipelined.has(type) && !this.options.services.publisher.isCrowded;
  }

  /** @throws ProtocolError where it makes no sense or is over a limit; what is seen of it until then is noted */
  #read(connection: RoutedConnection, frame: string | Uint8Array, asked: Asked): Sound {
    const bytes = typeof frame === "string" ? Buffer.byteLength(frame) : frame.byteLength;
    const codec = this.options.codecs[connection.format];
    let charged: string | undefined;
    if (bytes > (connection.isAuthenticated ? limits.ordinaryMessageBytes : limits.unauthenticatedMessageBytes)) {
      const glimpse = codec.glimpse(frame);
      asked.id = requestIdOf(glimpse.id);
      charged = this.#admitLarge(connection, glimpse.type, bytes);
    }
    const decoded = codec.decode(frame);
    asked.id = requestIdOf(decoded.id);
    const envelope = parse(requestEnvelope, decoded, { code: "invalid_message", path: "" });
    const type = this.#admit(connection, envelope, bytes);
    countOne(this.options.counts.messagesIn, type);
    const payload = parse(clientPayloads[type], envelope.payload, { code: "invalid_payload", path: "payload" });
    const tokens = tokensFor(type, payload);
    const unpaid = tokens - (charged === type ? 1 : 0);
    if (unpaid > 0) this.#limit(connection, { type, tokens: unpaid, bytes: charged === undefined ? bytes : 0 });
    return { place: asked.place, id: envelope.id, type, payload, tokens };
  }

  #handle(connection: RoutedConnection, sound: Sound): Taken | Promise<Taken> {
    const { id, type, payload } = sound;
    if (connection.isClosed && onlyAsks(type)) return;
    const correlationId = `${connection.connectionId}:${id}`;
    const request = { id, payload, from: connection, correlationId, services: this.options.services };
    this.#logHandled(request as Request<ClientMessageType, keyof Services>, type);
    try {
      const handler = this.#routes[type] as (request: unknown) => Reply | Entered | Promise<Reply | Entered>;
      const outcome = handler(request);
      if (outcome instanceof Promise) return this.#settle(connection, sound, outcome);
      if ("settled" in outcome) return this.#enter(connection, sound, outcome);
      return this.#answer(connection, sound, outcome);
    } catch (error) {
      return this.#refuseInTurn(connection, error, sound);
    }
  }

  async #settle(connection: RoutedConnection, sound: Sound, outcome: Promise<Reply | Entered>): Promise<Taken> {
    const { type } = sound;
    try {
      const reply = await outcome;
      if ("settled" in reply) return this.#enter(connection, sound, reply);
      if (this.#refusedType === type) this.#noteServed();
      await this.#answer(connection, sound, reply);
    } catch (error) {
      // Others are told to the log already: where a sentence for clients is made, and by the cluster's adapter.
      if (error instanceof Unavailable && error.part === "storage" && !error.isPublic) this.#noteRefused(type, error);
      await this.#refuseInTurn(connection, error, sound);
    }
  }

  /** Leaves what waits only for the log to its connection, which has it answered in its turn. */
  #enter(connection: RoutedConnection, sound: Sound, { events, settled }: Entered): Unanswered {
    const refuse = (error: unknown) => () => this.#refuse(connection, error, sound);
    const answer = (reply: Reply) => () => {
      if (this.#refusedType === sound.type) this.#noteServed();
      try {
        void this.#answer(connection, sound, reply);
      } catch (error) {
        this.#refuse(connection, error, sound);
      }
    };
    return { events, settled: settled.then(answer, refuse) };
  }

  /** One line for all of them: clients try again, and are told each time. */
  #noteRefused(type: ClientMessageType, error: Unavailable): void {
    this.#refusedType ??= type;
    this.#outage.began(error, { type });
  }

  #noteServed(): void {
    this.#refusedType = null;
    this.#outage.ended();
  }

  /**
   * Looks at the rate before a large frame is decoded, by what can be seen of it.
   * @returns the type that has paid for it; empty where only its bytes are paid for
   */
  #admitLarge(connection: RoutedConnection, type: string | undefined, bytes: number): string {
    const isKnown = type !== undefined && Object.hasOwn(clientPayloads, type);
    if (!connection.isAuthenticated || (isKnown && !ofAnySize.has(type))) throw tooLarge(connection);
    // Where the type is not seen what is sent counts all the same, and how often once it is known.
    this.#limit(connection, { type: isKnown ? type : undefined, tokens: 1, bytes });
    return isKnown ? type : "";
  }

  #admit(connection: RoutedConnection, { type }: RequestEnvelope, bytes: number): ClientMessageType {
    if (!Object.hasOwn(clientPayloads, type))
      throw new ProtocolError("unknown_type", "There is no message of this type.", { field: "type" });
    if (!connection.isAuthenticated && !beforeAuthentication.has(type)) {
      // Sense or not, it takes its token: nobody may flood by not authenticating.
      this.#limit(connection, { type, tokens: 1, bytes });
      throw new ProtocolError("not_authenticated", "Authenticate first.");
    }
    if (bytes > limits.ordinaryMessageBytes && !ofAnySize.has(type)) throw tooLarge(connection);
    return type as ClientMessageType;
  }

  /** Takes what a message costs. `bytes` count where its type may be large, and where nobody knows it. */
  #limit(
    connection: RoutedConnection,
    { type, tokens, bytes }: { type: string | undefined; tokens: number; bytes: number },
  ): void {
    const charges: Charge[] = [];
    if (type !== undefined) charges.push({ limitClass: this.#classOf(connection, type), tokens });
    if (bytes > 0 && (type === undefined || ofAnySize.has(type))) charges.push({ limitClass: "bytes", tokens: bytes });
    const { limiter, services } = this.options;
    const decision = limiter.take(connection, this.#bucketsOf(connection), charges, services.now());
    if (decision.allowed) return;
    const { retryAfterMs, abusive } = decision;
    throw new RateLimited(retryAfterMs, abusive);
  }

  #classOf(connection: RoutedConnection, type: string) {
    // Only backends have the room that backends need.
    return limitClassOf(type === "publish" && !connection.roles.includes("service") ? "message.send" : type);
  }

  #bucketsOf(connection: RoutedConnection): Buckets | null {
    return connection.isAuthenticated ? this.options.limiter.ofUser(connection.userId) : null;
  }

  /** The reply of a request that was served. */
  #answer(connection: RoutedConnection, sound: Sound, reply: Reply): void | Promise<void> {
    const { type, tokens } = sound;
    const text = "text" in reply ? reply.text : JSON.stringify(reply.payload);
    const charge = answerCharge({ type, tokens, reply, length: text.length });
    const { limiter, services } = this.options;
    if (charge !== null) limiter.takeLater(connection, this.#bucketsOf(connection), charge, services.now());
    this.#send(connection, { type: reply.type, text }, sound);
    if (reply.after !== undefined) return this.#follow(connection, sound, reply.after);
  }

  /** Does what comes after a reply. Where it fails no second reply can say so: the connection ends, and comes back. */
  async #follow(connection: RoutedConnection, sound: Sound, after: NonNullable<Reply["after"]>): Promise<void> {
    try {
      await after();
    } catch (error) {
      if (error instanceof AskerGone) return;
      if (error instanceof InvariantBroken) return this.#breakOff(connection, error);
      this.#noteFault(connection, error, { ...sound, told: "what follows a reply failed" });
      connection.close(CloseCode.internal, "internal");
    }
  }

  #send(
    connection: RoutedConnection,
    { type, text }: { type: string; text: string },
    { place, id: replyTo }: Asked,
  ): void {
    const { newId, now } = this.options.services;
    const { answeredThrough } = connection;
    if (place <= answeredThrough)
      return this.#breakOff(connection, new InvariantBroken("reply_order", { place, answeredThrough, type }));
    connection.answeredThrough = place;
    connection.sendMessage({
      id: newId(),
      type,
      payload: text,
      at: now(),
      ...(replyTo === undefined ? {} : { replyTo }),
    });
  }

  /** Refuses what has no place among what waits for the log: after everything before it. */
  #refuseInTurn(connection: RoutedConnection, error: unknown, asked: Asked): void | Promise<void> {
    const { ahead } = connection;
    if (ahead === null) return this.#refuse(connection, error, asked);
    return ahead.then(() => this.#refuse(connection, error, asked));
  }

  #refuse(connection: RoutedConnection, error: unknown, asked: Asked): void {
    if (error instanceof AskerGone) return;
    if (error instanceof InvariantBroken) return this.#breakOff(connection, error);
    const refusal = refusalOf(error, (fault) => this.#noteFault(connection, fault, asked));
    countOne(this.options.counts.errors, refusal.code);
    this.#send(connection, { type: "error", text: JSON.stringify(refusal.toPayload()) }, asked);
    if (badMessageCodes.has(refusal.code) && connection.noteBadMessage(this.options.services.now())) {
      connection.close(CloseCode.protocolAbuse, "too many bad messages");
    }
    if (refusal instanceof RateLimited && refusal.abusive) connection.close(CloseCode.rateLimited, "rate limit");
  }

  /** Ends the one connection of which nobody can tell any more what it was sent: it comes back, and has it from the log. */
  #breakOff(connection: RoutedConnection, broken: InvariantBroken): void {
    noteBroken(broken, this.options, { connection_id: connection.connectionId, user_id: connection.userId });
    connection.close(CloseCode.internal, "internal");
  }

  #noteFault(
    { connectionId, userId }: RoutedConnection,
    err: unknown,
    { id, type, told = "handler failed" }: Asked & { told?: string },
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

function parse<Schema extends v.GenericSchema>(
  schema: Schema,
  input: unknown,
  { code, path }: { code: ErrorCode; path: string },
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, input, { abortEarly: true });
  if (result.success) return result.output;
  const [outer] = result.issues;
  // A union's fault is told of the union. Where an option got as far as a field within, it is the one that was meant.
  const inner = outer.type === "union" ? outer.issues?.find((it) => v.getDotPath(it) !== null) : undefined;
  const parts = [path, v.getDotPath(outer), inner && v.getDotPath(inner)];
  const field = parts.filter(Boolean).join(".");
  const issue = inner ?? outer;
  throw new ProtocolError(code, `${field || "The message"} ${phraseOf(issue)}.`, field === "" ? {} : { field });
}
