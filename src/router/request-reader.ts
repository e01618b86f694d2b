/** Reads requests out of frames: decodes, validates, and takes what they cost, which of large ones is looked at first [LIM]. */
import * as v from "valibot";
import type { Reply, Requester, Services } from "../handlers/context.ts";
import { type ClientMessageType, clientPayloads } from "../protocol/client.ts";
import type { Codec } from "../protocol/codec.ts";
import type { Codecs } from "../protocol/codecs.ts";
import { type RequestEnvelope, requestEnvelope } from "../protocol/envelope.ts";
import { type ErrorCode, ProtocolError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { phraseOf } from "../protocol/phrase.ts";
import { type Counts, countOne } from "../telemetry/counts.ts";
import type { Span, Tracing } from "../telemetry/tracing.ts";
import { answerCharge, countedInBytes, ofAnySize, tokensFor } from "./costs.ts";
import type { Buckets, Charge, RateLimiter } from "./rate-limiter.ts";
import { RateLimited, tooLarge } from "./refusals.ts";
import { limitClassOf } from "./requests.ts";

/** Sends requests, and pays for them. */
type Sender = Requester & Buckets;

/** A frame by its place among those of its connection, and what it is replied to as, as far as that is seen. */
export interface FrameRef {
  place: number;
  id: string | undefined;
  type?: ClientMessageType;
}

/** A request that was read, is sound and within the limits. */
export interface ValidRequest extends FrameRef {
  id: string;
  type: ClientMessageType;
  payload: unknown;
  /** Tokens that it has taken. */
  tokens: number;
  /** When it was read, by `performance.now()`; null where nobody asks how long it takes. */
  readAt: number | null;
  /** Null where it is not traced. */
  span: Span | null;
}

export interface RequestReaderOptions {
  services: Pick<Services, "now">;
  codecs: Codecs;
  limiter: RateLimiter;
  counts: Counts;
  /** Null, or left out: nothing is traced. */
  tracing?: Tracing | null;
}

const beforeAuthentication: ReadonlySet<string> = new Set(["ping", "authenticate"]);
const requestIdOf = (id: unknown) =>
  typeof id === "string" && id.length >= 1 && id.length <= limits.requestIdLength ? id : undefined;

export class RequestReader {
  constructor(private readonly options: RequestReaderOptions) {}

  /** @throws ProtocolError where it makes no sense or is over a limit; what is seen of it until then is noted */
  read(connection: Sender, frame: string | Uint8Array, ref: FrameRef): ValidRequest {
    const bytes = typeof frame === "string" ? Buffer.byteLength(frame) : frame.byteLength;
    const codec = this.options.codecs[connection.format];
    let charged: string | undefined;
    if (bytes > (connection.isAuthenticated ? limits.ordinaryMessageBytes : limits.unauthenticatedMessageBytes)) {
      const glimpse = codec.glimpse(frame);
      ref.id = requestIdOf(glimpse.id);
      charged = this.#admitLarge(connection, glimpse.type, bytes);
    }
    const decoded = this.#decode(codec, frame, ref);
    ref.id = requestIdOf(decoded.id);
    const envelope = parse(requestEnvelope, decoded, { code: "invalid_message", path: "" });
    const type = this.#admit(connection, envelope, bytes);
    countOne(this.options.counts.messagesIn, type);
    const payload = parse(clientPayloads[type], envelope.payload, { code: "invalid_payload", path: "payload" });
    const tokens = tokensFor(type, payload);
    const unpaid = tokens - (charged === type ? 1 : 0);
    if (unpaid > 0) this.#limit(connection, { type, tokens: unpaid, bytes: charged === undefined ? bytes : 0 });
    const readAt = this.options.counts.onAnswered === null ? null : performance.now();
    const span = this.#beginSpan(connection, type, envelope.traceparent);
    return { place: ref.place, id: envelope.id, type, payload, tokens, readAt, span };
  }

  /** Answers by the id, where that is seen, also what makes no sense otherwise: somebody may wait for it [ENV3]. */
  #decode(codec: Codec, frame: string | Uint8Array, ref: FrameRef): Record<string, unknown> {
    try {
      return codec.decode(frame);
    } catch (error) {
      // Of a text that is no JSON nothing is seen that could be relied on.
      if (error instanceof ProtocolError && error.code === "invalid_message")
        ref.id ??= requestIdOf(codec.glimpse(frame).id);
      throw error;
    }
  }

  #beginSpan({ connectionId }: Sender, type: ClientMessageType, traceparent: string | undefined): Span | null {
    const { tracing = null } = this.options;
    return tracing === null ? null : tracing.beginRequest(type, { traceparent, connectionId });
  }

  /** Takes what an answer costs beyond what its request has cost. */
  chargeAnswer(connection: Sender, { type, tokens }: ValidRequest, answer: { reply: Reply; length: number }): void {
    const charge = answerCharge({ type, tokens, ...answer });
    const { limiter, services } = this.options;
    if (charge !== null) limiter.takeLater(connection, this.#bucketsOf(connection), charge, services.now());
  }

  /**
   * Looks at the rate before a large frame is decoded, by what can be seen of it.
   * @returns the type that has paid for it; empty where only its bytes are paid for
   */
  #admitLarge(connection: Sender, type: string | undefined, bytes: number): string {
    const isKnown = type !== undefined && Object.hasOwn(clientPayloads, type);
    if (!connection.isAuthenticated || (isKnown && !ofAnySize.has(type))) throw tooLarge(connection);
    // Where the type is not seen what is sent counts all the same, and how often once it is known.
    this.#limit(connection, { type: isKnown ? type : undefined, tokens: 1, bytes });
    return isKnown ? type : "";
  }

  #admit(connection: Sender, { type }: RequestEnvelope, bytes: number): ClientMessageType {
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

  /** Takes what a message costs. `bytes` count where its type has others hear of much, and where nobody knows it. */
  #limit(
    connection: Sender,
    { type, tokens, bytes }: { type: string | undefined; tokens: number; bytes: number },
  ): void {
    const charges: Charge[] = [];
    if (type !== undefined) charges.push({ limitClass: this.#classOf(connection, type), tokens });
    if (bytes > 0 && (type === undefined || countedInBytes.has(type)))
      charges.push({ limitClass: "bytes", tokens: bytes });
    const { limiter, services } = this.options;
    const decision = limiter.take(connection, this.#bucketsOf(connection), charges, services.now());
    if (decision.allowed) return;
    const { retryAfterMs, abusive } = decision;
    throw new RateLimited(retryAfterMs, abusive);
  }

  #classOf(connection: Sender, type: string) {
    // Only backends have the room that backends need, and only admins that of admins.
    const role = type === "publish" ? "service" : type.startsWith("admin.") ? "admin" : null;
    return limitClassOf(role === null || connection.roles.includes(role) ? type : "message.send");
  }

  #bucketsOf(connection: Sender): Buckets | null {
    return connection.isAuthenticated ? this.options.limiter.ofUser(connection.userId) : null;
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
