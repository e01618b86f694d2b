/** Makes one refusal for the client of whatever a request has failed with [ENV4]. */
import { Unavailable } from "../ground/unavailable.ts";
import { type ErrorCode, ProtocolError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { BeingErased, DirectoryReadOnly } from "../storage/directory-store.ts";

/** Says that a limit was passed; `abusive`: for so long that the connection is closed with 4103 [LIM]. */
export class RateLimited extends ProtocolError {
  constructor(
    retryAfterMs: number,
    readonly abusive: boolean,
  ) {
    super("rate_limited", "Too many messages; wait before the next.", { retryAfterMs });
  }
}

export function tooLarge({ isAuthenticated }: { isAuthenticated: boolean }): ProtocolError {
  const [what, bytes] = isAuthenticated
    ? ["A message of this type", limits.ordinaryMessageBytes]
    : ["Before authentication a message", limits.unauthenticatedMessageBytes];
  return new ProtocolError("message_too_large", `${what} may have at most ${bytes / 1024} KiB.`);
}

/** Errors that say that the message itself made no sense; too many of them close the connection [ENV4]. */
export const badMessageCodes: ReadonlySet<ErrorCode> = new Set([
  "invalid_json",
  "invalid_message",
  "invalid_payload",
  "unknown_type",
  "message_too_large",
]);

/** Errors that are the service's own fault. */
export const faultCodes: ReadonlySet<ErrorCode> = new Set(["unavailable", "internal"]);

/** @param onFault told of an error that nobody has expected: peers learn nothing of our insides */
export function refusalOf(error: unknown, onFault: (error: unknown) => void): ProtocolError {
  if (error instanceof ProtocolError) return error;
  if (error instanceof Unavailable) return new ProtocolError("unavailable", error.told, error);
  if (error instanceof DirectoryReadOnly) return new ProtocolError("forbidden", error.message);
  if (error instanceof BeingErased) return new ProtocolError("conflict", error.message);
  onFault(error);
  return new ProtocolError("internal", "Something went wrong here.");
}
