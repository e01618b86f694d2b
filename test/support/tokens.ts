/** Tokens and authenticators for tests, with real keys and a clock that stands still. */
import { afterEach, expect } from "bun:test";
import { type JWTPayload, SignJWT } from "jose";
import * as v from "valibot";
import {
  AuthenticationError,
  type Authenticator,
  createAuthenticator,
  type Identity,
} from "../../src/auth/authenticator.ts";
import { configSchema } from "../../src/config/schema.ts";

export const nowMs = Date.UTC(2026, 0, 2);
export const nowSeconds = nowMs / 1_000;
export const secret = "a secret of at least thirty-two bytes";
export const secretBytes = new TextEncoder().encode(secret);
/** Claims that are in order for an hour. */
export const usualClaims = { sub: "u1", exp: nowSeconds + 3_600 };

type Options = Partial<Parameters<typeof createAuthenticator>[0]>;
/** As somebody sees it who waits for what it says. */
export interface AwaitedAuthenticator extends Authenticator {
  verify(token: string): Promise<Identity>;
}
const running: Authenticator[] = [];
afterEach(() => {
  for (const it of running.splice(0)) it.stop();
});

/** Not started yet; stopped after the test. */
export function authenticator(auth: Record<string, unknown>, options: Options = {}): AwaitedAuthenticator {
  const config = v.parse(configSchema, { auth: { mode: "token", ...auth } }).auth;
  const it = createAuthenticator({ config, now: () => nowMs, ...options });
  running.push(it);
  return { ...it, verify: async (token) => it.verify(token) };
}

export async function startedAuthenticator(
  auth: Record<string, unknown>,
  options: Options = {},
): Promise<AwaitedAuthenticator> {
  const it = authenticator(auth, options);
  await it.start();
  return it;
}

/** Signed with the secret where nothing else is said. */
export function signToken(
  claims: JWTPayload,
  { alg = "HS256", key = secretBytes, kid }: { alg?: string; key?: CryptoKey | Uint8Array; kid?: string } = {},
): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg, ...(kid === undefined ? {} : { kid }) }).sign(key);
}

/** The error with which the verification was refused. */
export async function refusal(verification: Promise<unknown>): Promise<AuthenticationError> {
  const error = await verification.then(
    () => new Error("it was accepted"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(AuthenticationError);
  return error as AuthenticationError;
}
