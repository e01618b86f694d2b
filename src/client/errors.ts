/** Names what can go wrong for an application: what the server answers, and what the client finds by itself. */
import type { ServerPayloads } from "./wire.ts";

/** The server's answer to a request [ENV4]. */
export class ServerError extends Error {
  readonly code: ServerPayloads["error"]["code"];
  /** The same request can succeed later. */
  readonly retryable: boolean;
  /** Path of the first field that is wrong. */
  readonly field: string | undefined;
  /** Not before then, where it was told, ms. */
  readonly retryAfterMs: number | undefined;

  constructor({ code, message, retryable, field, retry_after_ms }: ServerPayloads["error"]) {
    super(message);
    this.name = "ServerError";
    this.code = code;
    this.retryable = retryable;
    this.field = field;
    this.retryAfterMs = retry_after_ms;
  }
}

/**
 * `timeout`: no answer in time, so it may have had its effect. `lost`: the line broke before the answer, likewise. `stopped`: there
 * is no connection, and none comes by itself. `aborted`: by its signal. `too_large`: above what the server takes. `lead_lost`: the
 * tab that had the connection went before the answer. `outbox_full`: too much waits for the server already. `signed_out`: what was
 * kept is wiped.
 */
export type ClientErrorCode =
  | "timeout"
  | "lost"
  | "stopped"
  | "aborted"
  | "too_large"
  | "lead_lost"
  | "outbox_full"
  | "signed_out";

export class ClientError extends Error {
  readonly code: ClientErrorCode;

  constructor(code: ClientErrorCode, message: string) {
    super(message);
    this.name = "ClientError";
    this.code = code;
  }
}
