/** Remembers tokens that were verified by public keys: whoever comes back with one is not checked by the same key once more [AUTH2]. */
import { BoundedMap } from "../ground/bounded-map.ts";
import type { Identity } from "./identity.ts";

/** Tokens that are remembered: those verified longest ago go first. */
const tokensMax = 10_000;
/** Characters of a token that is remembered; longer ones have claims without end. */
const lengthMax = 2_048;

/** An identity, and when it holds, in seconds since 1970, as the claims say it. */
export interface Verified {
  identity: Identity;
  notBefore: number | undefined;
  expires: number | undefined;
}

export class VerifiedTokens {
  /** By digest: a token that lets in is not kept. */
  readonly #tokens = new BoundedMap<string, Verified>(tokensMax);
  /** The state of the keys that all of them were verified by. */
  #keys = 0;

  /** @param keys the state of the keys at present @returns null: not known, or its times are to be looked at */
  find(token: string, keys: number, { leewayMs, now }: { leewayMs: number; now: number }): Identity | null {
    this.#follow(keys);
    if (token.length > lengthMax) return null;
    const known = this.#tokens.get(digestOf(token));
    if (known === undefined) return null;
    // As the library looks at them, in whole seconds.
    const at = Math.floor(now / 1_000);
    const leeway = leewayMs / 1_000;
    const { identity, notBefore = at, expires = Number.POSITIVE_INFINITY } = known;
    return notBefore <= at + leeway && expires > at - leeway ? identity : null;
  }

  /** Only where the keys are those that it was looked for with. */
  remember(token: string, verified: Verified): void {
    if (token.length <= lengthMax) this.#tokens.set(digestOf(token), verified);
  }

  /** Forgets all that was verified by keys that may be gone. */
  #follow(keys: number): void {
    if (keys === this.#keys) return;
    this.#keys = keys;
    this.#tokens.clear();
  }
}

const digestOf = (token: string) => Bun.CryptoHasher.hash("sha256", token, "base64url");
