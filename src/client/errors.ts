/** Defines what a client's requests fail with: what the server answered, or why there is no answer. */
import type { ServerPayloads } from "./wire.ts";

/** An `error` of the server's [ENV4]. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  readonly code: ServerPayloads["error"]["code"];
  /** The same request can succeed later. */
  readonly retryable: boolean;
  /** Path of the first field that is wrong, such as `payload.content`. */
  readonly field: string | undefined;
  /** Not before then, where the server has said so. */
  readonly retryAfterMs: number | undefined;

  constructor({ code, message, retryable, field, retry_after_ms }: ServerPayloads["error"]) {
    super(message);
    this.code = code;
    this.retryable = retryable;
    this.field = field;
    this.retryAfterMs = retry_after_ms;
  }
}

/** Says what each means, where whoever throws it does not. */
const clientErrors = {
  timeout: "No answer in time; it may have happened or not.",
  stopped: "The client is stopped.",
  too_large: "This is larger than the server takes.",
  connection_lost: "The connection broke; it may have happened or not.",
  too_many_requests: "Too many requests wait for an answer.",
  outbox_full: "Too much waits to be sent.",
  invalid_payload: "The server would not understand this.",
} as const;

type OtherCode = "lead_lost" | "forbidden" | "refused";
export type ClientErrorCode = keyof typeof clientErrors | OtherCode;

/** Says why a request has no answer of the server's. */
export class ClientError extends Error {
  override readonly name = "ClientError";
  readonly code: ClientErrorCode;
  /** Path of the field that is wrong, of `invalid_payload` and `too_large`. */
  readonly field: string | undefined;

  constructor(code: keyof typeof clientErrors, about?: { field?: string; message?: string });
  constructor(code: ClientErrorCode, about: { field?: string; message: string });
  constructor(code: ClientErrorCode, { field, message }: { field?: string; message?: string } = {}) {
    super(message ?? clientErrors[code as keyof typeof clientErrors]);
    this.code = code;
    this.field = field;
  }
}
