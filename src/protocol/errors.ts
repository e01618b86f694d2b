/** Lists the error codes of the wire, and the one exception that carries them [ENV4]. */
import { ExpectedError } from "../ground/expected-error.ts";

/** Every code and whether repeating the same request later can succeed. */
export const errorTable = {
  invalid_json: { retryable: false },
  invalid_message: { retryable: false },
  invalid_payload: { retryable: false },
  unknown_type: { retryable: false },
  message_too_large: { retryable: false },
  not_authenticated: { retryable: false },
  forbidden: { retryable: false },
  not_found: { retryable: false },
  conflict: { retryable: false },
  rate_limited: { retryable: true },
  limit_exceeded: { retryable: false },
  unavailable: { retryable: true },
  internal: { retryable: true },
  call_not_found: { retryable: false },
  call_ended: { retryable: false },
  call_already_answered: { retryable: false },
  not_a_party: { retryable: false },
  call_conflict: { retryable: false },
} as const satisfies Record<string, { retryable: boolean }>;

export type ErrorCode = keyof typeof errorTable;

/** Why an authentication was refused, and whether the same client may try again [AUTH1]. */
export const authFailureTable = {
  token_invalid: { retryable: false },
  token_expired: { retryable: true },
  token_not_yet_valid: { retryable: true },
  user_unknown: { retryable: false },
  user_disabled: { retryable: false },
  too_many_devices: { retryable: false },
} as const satisfies Record<string, { retryable: boolean }>;

export type AuthFailureCode = keyof typeof authFailureTable;

export interface ErrorDetails {
  /** Path of the first invalid field, such as `payload.candidates.0`. */
  field?: string;
  retryAfterMs?: number;
}

/** An expected refusal: it becomes the `error` reply of the request that caused it. */
export class ProtocolError extends ExpectedError {
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: ErrorDetails = {},
  ) {
    super(message);
    this.name = "ProtocolError";
  }

  /** The payload of the `error` message. */
  toPayload(): {
    code: ErrorCode;
    message: string;
    retryable: boolean;
    retry_after_ms?: number;
    field?: string;
  } {
    const { field, retryAfterMs } = this.details;
    return {
      code: this.code,
      message: this.message,
      retryable: errorTable[this.code].retryable,
      ...(retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }),
      ...(field === undefined ? {} : { field }),
    };
  }
}
