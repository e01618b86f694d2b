/** The close codes; their range tells the client what to do next [ENV5]. */

/** 4000–4099: do not come back as you are. 4100–4199: come back with backoff and resume. */
export const CloseCode = {
  normal: 1000,
  goingAway: 1001,
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

/** What the protocol itself ends with, or the platform says where no code came. */
const platformCodes = [1002, 1003, 1005, 1006, 1007, 1008, 1010, 1011];
const knownCodes: ReadonlySet<number> = new Set([...Object.values(CloseCode), ...platformCodes]);

/** The code as a figure names it: a client may close with any of 2,000 codes, and each name is kept for ever. */
export const closeLabel = (code: number): string => (knownCodes.has(code) ? String(code) : "other");

export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode];
