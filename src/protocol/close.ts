/** Tells what a line was closed with: the code that a client was sent, and the name that a figure gives it [ENV5]. */

import * as codes from "./close-codes.ts";

export const CloseCode = codes;

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
const knownCodes: ReadonlySet<number> = new Set([...Object.values(CloseCode), ...platformCodes]);

/** The code as a figure names it: a client may close with any of 2,000 codes, and each name is kept for ever. */
export const closeLabel = (code: number): string => (knownCodes.has(code) ? String(code) : "other");

export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode];
