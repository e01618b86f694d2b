/** Takes a frame through decoding, validation and limits to its handler, and sends the one reply [ENV3]. */
import * as v from "valibot";
import type { Reply, Request, Requester, Routes, Services } from "../handlers/context.ts";
import { type ClientMessageType, clientPayloads } from "../protocol/client.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Codec } from "../protocol/codec.ts";
import { type OutgoingMessage, type RequestEnvelope, requestEnvelope } from "../protocol/envelope.ts";
import { type ErrorCode, ProtocolError } from "../protocol/errors.ts";
import { limits, type WireFormat } from "../protocol/limits.ts";
import { phraseOf } from "../protocol/phrase.ts";
import { StorageUnavailable } from "../storage/ports.ts";
import { type Counts, countOne } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Buckets, RateLimiter } from "./rate-limiter.ts";

/** A connection as the router sees it. */
export interface RoutedConnection extends Requester, Buckets {
  sendMessage(message: OutgoingMessage): void;
  noteBadMessage(now: number): boolean;
  close(code: number, reason: string): void;
}

export interface RouterOptions {
  services: Services;
  routes: Routes;
  codecs: Record<WireFormat, Codec>;
  limiter: RateLimiter;
  counts: Counts;
  logger: Logger;
}

const beforeAuthentication: ReadonlySet<string> = new Set(["ping", "authenticate"]);
const ofAnySize: ReadonlySet<string> = new Set(["message.send", "publish"]);
/** Errors that say that the message itself made no sense; too many of them close the connection [ENV4]. */
const badMessageCodes: ReadonlySet<ErrorCode> = new Set([
  "invalid_json",
  "invalid_message",
  "invalid_payload",
  "unknown_type",
  "message_too_large",
]);
const requestIdPattern = /^[\s\S]{1,64}$/;

export class Router {
  #routes: Routes;

  constructor(private readonly options: RouterOptions) {
    this.#routes = options.routes;
  }

  /** Puts new handlers in place of the old, for all connections, from their next message on. */
  replaceRoutes(routes: Routes): void {
    this.#routes = routes;
  }

  /** Handles one frame; never rejects. */
  route(connection: RoutedConnection, frame: string | Uint8Array): void | Promise<void> {
    let id: string | undefined;
    try {
      const bytes = typeof frame === "string" ? Buffer.byteLength(frame) : frame.byteLength;
      if (!connection.isAuthenticated && bytes > limits.unauthenticatedMessageBytes) {
        throw new ProtocolError("message_too_large", "Before authentication a message may have at most 16 KiB.");
      }
      const decoded = this.options.codecs[connection.format].decode(frame);
      if (typeof decoded.id === "string" && requestIdPattern.test(decoded.id)) id = decoded.id;
      const envelope = parse(requestEnvelope, decoded, { code: "invalid_message", path: "" });
      const type = this.#admit(connection, envelope, bytes);
      countOne(this.options.counts.messagesIn, type);
      const payload = parse(clientPayloads[type], envelope.payload, { code: "invalid_payload", path: "payload" });
      this.#limit(connection, type);
      const correlationId = `${connection.connectionId}:${envelope.id}`;
      const handler = this.#routes[type] as (request: unknown) => Reply | Promise<Reply>;
      const request = { id: envelope.id, payload, from: connection, correlationId, services: this.options.services };
      this.#logHandled(request as Request<ClientMessageType>, type);
      const reply = handler(request);
      return reply instanceof Promise ? this.#settle(connection, reply, id) : this.#reply(connection, reply, id);
    } catch (error) {
      this.#refuse(connection, error, id);
    }
  }

  async #settle(connection: RoutedConnection, reply: Promise<Reply>, id: string | undefined): Promise<void> {
    try {
      await this.#reply(connection, await reply, id);
    } catch (error) {
      this.#refuse(connection, error, id);
    }
  }

  #admit(connection: RoutedConnection, { type }: RequestEnvelope, bytes: number): ClientMessageType {
    if (!Object.hasOwn(clientPayloads, type))
      throw new ProtocolError("unknown_type", "There is no message of this type.", { field: "type" });
    if (!connection.isAuthenticated && !beforeAuthentication.has(type)) {
      // Sense or not, it takes its token: nobody may flood by not authenticating.
      this.#limit(connection, type as ClientMessageType);
      throw new ProtocolError("not_authenticated", "Authenticate first.");
    }
    if (bytes > limits.ordinaryMessageBytes && !ofAnySize.has(type)) {
      throw new ProtocolError("message_too_large", "A message of this type may have at most 64 KiB.");
    }
    return type as ClientMessageType;
  }

  #limit(connection: RoutedConnection, type: ClientMessageType): void {
    const { limiter, services } = this.options;
    const user = connection.isAuthenticated ? limiter.ofUser(connection.userId) : null;
    // Only backends have the room that backends need.
    const limited = type === "publish" && !connection.roles.includes("service") ? "message.send" : type;
    const decision = limiter.take(connection, user, limited, services.now());
    if (decision.allowed) return;
    const { retryAfterMs, abusive } = decision;
    throw new RateLimited(retryAfterMs, abusive);
  }

  #reply(
    connection: RoutedConnection,
    { type, payload, after }: Reply,
    replyTo: string | undefined,
  ): void | Promise<void> {
    const { newId, now } = this.options.services;
    connection.sendMessage({
      id: newId(),
      type,
      payload: JSON.stringify(payload),
      at: now(),
      ...(replyTo === undefined ? {} : { replyTo }),
    });
    return after?.();
  }

  #refuse(connection: RoutedConnection, error: unknown, id: string | undefined): void {
    const refusal = this.#refusalOf(connection, error);
    countOne(this.options.counts.errors, refusal.code);
    this.#reply(connection, { type: "error", payload: refusal.toPayload() }, id);
    if (badMessageCodes.has(refusal.code) && connection.noteBadMessage(this.options.services.now())) {
      connection.close(CloseCode.protocolAbuse, "too many bad messages");
    }
    if (refusal instanceof RateLimited && refusal.abusive) connection.close(CloseCode.rateLimited, "rate limit");
  }

  #refusalOf(connection: RoutedConnection, error: unknown): ProtocolError {
    if (error instanceof ProtocolError) return error;
    if (error instanceof StorageUnavailable) {
      return new ProtocolError("unavailable", "The storage does not answer; try again.", { retryAfterMs: 1_000 });
    }
    // Peers learn nothing of our insides; the log has it once.
    this.options.logger.error(
      { connection_id: connection.connectionId, user_id: connection.userId, err: error },
      "handler failed",
    );
    return new ProtocolError("internal", "Something went wrong here.");
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

/** Over a limit; `abusive`: for too long, so that the connection is closed with 4103 [LIM]. */
class RateLimited extends ProtocolError {
  constructor(
    retryAfterMs: number,
    readonly abusive: boolean,
  ) {
    super("rate_limited", "Too many messages; wait before the next.", { retryAfterMs });
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
