/** Tokens that every contender checks when a client connects: HS256, one secret, the platform's own HMAC. */
import { createHmac, timingSafeEqual } from "node:crypto";

export const secret = "bench-secret-bench-secret-bench-secret-0123";
const lifetimeSeconds = 7_200;
const mac = (text: string) => createHmac("sha256", secret).update(text).digest();
const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** @param others claims that one contender reads */
export function issueToken(user: string, others: Record<string, unknown> = {}): string {
  const claims = { sub: user, exp: Math.floor(Date.now() / 1_000) + lifetimeSeconds, ...others };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${mac(signed).toString("base64url")}`;
}

/** @returns the user, or null where the token is not to be believed */
export function userOf(token: string | null | undefined): string | null {
  const [header, claims, signature] = (token ?? "").split(".");
  if (signature === undefined) return null;
  const [given, own] = [Buffer.from(signature, "base64url"), mac(`${header}.${claims}`)];
  if (given.length !== own.length || !timingSafeEqual(given, own)) return null;
  const { sub, exp } = JSON.parse(Buffer.from(claims!, "base64url").toString()) as { sub: string; exp: number };
  return exp * 1_000 > Date.now() ? sub : null;
}
