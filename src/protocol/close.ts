/** Lists the close codes; their range tells the client what to do next [ENV5]. */

/** 4000–4099: do not come back as you are. 4100–4199: come back with backoff and resume. */
export const CloseCode = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  invalidData: 1007,
  tooLarge: 1009,
  serviceRestart: 1012,
  protocolAbuse: 4001,
  authenticationTimeout: 4003,
  authenticationFailed: 4004,
  identityChange: 4005,
  unsupportedVersion: 4006,
  replaced: 4010,
  revoked: 4011,
  tooManyDevices: 4012,
  internal: 4100,
  slowConsumer: 4101,
  silent: 4102,
  rateLimited: 4103,
  tokenExpired: 4104,
  overloaded: 4105,
} as const;

/**
 * The code that a client was sent where the platform has ended the connection for what it sent: of those it tells 1006
 * here, and in words what was wrong [ENV5].
 */
export function closeCodeOf(code: number, reason: string): number {
  if (code !== 1006 || !reason.startsWith("Received ")) return code;
  if (reason.endsWith("too big message")) return CloseCode.tooLarge;
  return /invalid (UTF-8|compressed data)/.test(reason) ? CloseCode.invalidData : CloseCode.protocolError;
}

/** Codes that the protocol itself ends with, or that the platform says where none came. */
const platformCodes = [1003, 1005, 1006, 1008, 1010, 1011];
const knownCodes: ReadonlySet<number> = /* @__PURE__ */ new Set([...Object.values(CloseCode), ...platformCodes]);

/** The code as a figure names it: a client may close with any of 2,000 codes, and each name is kept for ever. */
export const closeLabel = (code: number): string => (knownCodes.has(code) ? String(code) : "other");

export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode];
