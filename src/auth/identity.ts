/** Reads the claims of a token strictly into the identity it speaks for, or says why it is refused. */
import * as v from "valibot";
import type { AuthFailureCode } from "../protocol/errors.ts";
import { identifier, topicName } from "../protocol/fields.ts";

/** Grants what a connection may do beyond its own user's things; there are no other roles. */
export const roles = ["service", "admin"] as const;
export type Role = (typeof roles)[number];

export interface Identity {
  userId: string;
  roles: Role[];
  /** The device that the token is bound to; null: the client names it. */
  deviceId: string | null;
  /** Whole topic names that the token grants beyond what the user may see anyway. */
  topics: string[];
  /** Milliseconds since 1970; null where nothing expires (trusted mode), never for a token. */
  expiresAt: number | null;
  /** When the token's life began (ms since 1970); null where it does not say. */
  issuedAt: number | null;
}

/** Why a token was refused [AUTH1]. Carries nothing of the token, so that it may be logged. */
export class AuthenticationError extends Error {
  constructor(
    readonly code: AuthFailureCode,
    message: string,
  ) {
    super(message);
    this.name = "AuthenticationError";
  }
}

/** The roles among the names, each once; names that are no role are dropped [AUTH2]. */
export function knownRoles(names: readonly string[]): Role[] {
  return roles.filter((role) => names.includes(role));
}

/** The last moment that a `Date` can hold; an `exp` beyond it could not be told to a client. */
const latestMs = 8.64e15;

const claims = v.object({
  sub: identifier,
  exp: v.pipe(
    v.number(),
    v.check((seconds) => seconds * 1_000 <= latestMs),
  ),
  device_id: v.optional(identifier),
  topics: v.optional(v.array(topicName), []),
  iat: v.optional(v.number()),
});

/** Where a token's roles stand, and which of its values mean which of ours. */
export interface RoleClaim {
  /** The claim's name, or a path into it; null: tokens carry no roles. */
  claim: string | null;
  map: Readonly<Record<string, Role>>;
}

/** As tokens of our own making say them. */
export const ownRoles: RoleClaim = { claim: "roles", map: { service: "service", admin: "admin" } };

const roleList = v.optional(v.array(v.string()), []);
/** Others write them as words of one text, too, as in `scope`. */
const roleWords = v.union([
  roleList,
  v.pipe(
    v.string(),
    v.transform((text) => text.split(/[\s,]+/)),
  ),
]);

/** Reads what stands at a claim's name, else at the path that it spells: names of claims may have dots themselves. */
function claimAt(payload: object, name: string): unknown {
  if (Object.hasOwn(payload, name)) return (payload as Record<string, unknown>)[name];
  let at: unknown = payload;
  for (const part of name.split(".")) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, part)) return undefined;
    at = (at as Record<string, unknown>)[part];
  }
  return at;
}

function rolesIn(payload: object, { claim, map }: RoleClaim): Role[] {
  if (claim === null) return [];
  const names = v.safeParse(claim === ownRoles.claim ? roleList : roleWords, claimAt(payload, claim) ?? undefined);
  if (!names.success) throw new AuthenticationError("token_invalid", "The token's roles are malformed.");
  return knownRoles(names.output.flatMap((name) => (Object.hasOwn(map, name) ? map[name]! : [])));
}

/**
 * Reads the claims of a token whose signature and times have been checked.
 * @throws AuthenticationError `token_invalid` where a claim is missing or of the wrong type
 */
export function identityOf(payload: object, roleClaim: RoleClaim): Identity {
  const result = v.safeParse(claims, payload, { abortEarly: true });
  if (!result.success) {
    // The claim's name is one of ours; its value stays out of the message.
    const claim = v.getDotPath(result.issues[0])?.split(".")[0] ?? "payload";
    throw new AuthenticationError("token_invalid", `The token's claim ${claim} is missing or malformed.`);
  }
  const { sub, exp, iat, device_id, topics } = result.output;
  return {
    userId: sub,
    roles: rolesIn(payload, roleClaim),
    deviceId: device_id ?? null,
    topics,
    expiresAt: Math.floor(exp * 1_000),
    issuedAt: iat === undefined ? null : Math.floor(iat * 1_000),
  };
}

/**
 * When to say that a token will expire: `warningMs` before, but not before a third of its life is left, so that a client
 * of short tokens is not told at once, and again of the next [AUTH3]. Without `iat` its life began as it was first seen.
 */
export function expiryWarningAt(
  { expiresAt, issuedAt }: Pick<Identity, "expiresAt" | "issuedAt">,
  { now, warningMs }: { now: number; warningMs: number },
): number | null {
  if (expiresAt === null) return null;
  const lifeMs = Math.max(0, expiresAt - (issuedAt ?? now));
  return expiresAt - Math.min(warningMs, lifeMs / 3);
}
