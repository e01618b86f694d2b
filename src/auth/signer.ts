/** Verifies the tokens of one kind of signer, users' or backends': signature, times, issuer and audience, by public keys once for a token. */
import { errors, type JWSHeaderParameters, type JWTVerifyOptions, jwtVerify } from "jose";
import { type AtOnce, atOnce, got, type Steps } from "../ground/at-once.ts";
import { AuthenticationError, type Identity, identityOf, type RoleClaim } from "./identity.ts";
import type { KeySource } from "./key-source.ts";
import { verifyHs256 } from "./shared-secret.ts";
import { type Verified, VerifiedTokens } from "./verified-tokens.ts";

export interface SignerOptions {
  keys: Pick<KeySource, "takes" | "bringUpToDate" | "revision" | "candidates" | "secret">;
  /** Null: any, or none. */
  issuer: string | null;
  audience: string | null;
  roles: RoleClaim;
  leewayMs: number;
  now: () => number;
}

export class Signer {
  readonly #verified = new VerifiedTokens();

  constructor(private readonly options: SignerOptions) {}

  takes(algorithm: string | undefined): boolean {
    return this.options.keys.takes(algorithm);
  }

  /**
   * @returns the refusal where none of its keys has signed the token: another signer may have
   * @throws AuthenticationError where one of them has, and it is refused; Unavailable where the keys could not be had
   */
  verify(token: string, header: JWSHeaderParameters): AtOnce<Identity | AuthenticationError> {
    return header.alg === "HS256" ? this.#verifyShared(token, header) : atOnce(this.#verifyPublic(token, header));
  }

  /** A secret is as quick as the look whether the token is known. */
  #verifyShared(token: string, header: JWSHeaderParameters): AtOnce<Identity | AuthenticationError> {
    const { secret } = this.options.keys;
    if (secret === null) return unknownKey();
    try {
      const claims = verifyHs256(token, { header, secret }, this.#checks(header));
      if (!(claims instanceof Promise)) return identityOf(claims, this.options.roles);
      return claims.then((read) => identityOf(read, this.options.roles)).catch(refusalOf);
    } catch (error) {
      return refusalOf(error);
    }
  }

  *#verifyPublic(token: string, header: JWSHeaderParameters): Steps<Identity | AuthenticationError> {
    const { keys, leewayMs, now } = this.options;
    yield* got(keys.bringUpToDate());
    const { revision } = keys;
    const known = this.#verified.find(token, revision, { leewayMs, now: now() });
    if (known !== null) return known;
    const verified = yield* got(this.#verifyAnew(token, header));
    if (verified instanceof AuthenticationError) return verified;
    if (keys.revision === revision) this.#verified.remember(token, verified);
    return verified.identity;
  }

  async #verifyAnew(token: string, header: JWSHeaderParameters): Promise<Verified | AuthenticationError> {
    let refusal = unknownKey();
    for await (const key of this.options.keys.candidates(header)) {
      try {
        const { payload } = await jwtVerify(token, key, this.#checks(header));
        return { identity: identityOf(payload, this.options.roles), notBefore: payload.nbf, expires: payload.exp };
      } catch (error) {
        refusal = refusalOf(error);
      }
    }
    return refusal;
  }

  #checks(header: JWSHeaderParameters): JWTVerifyOptions {
    const { issuer, audience, leewayMs, now } = this.options;
    return {
      algorithms: [header.alg!],
      clockTolerance: leewayMs / 1_000,
      currentDate: new Date(now()),
      ...(issuer === null ? {} : { issuer }),
      ...(audience === null ? {} : { audience }),
    };
  }
}

/** @returns the refusal where it is another key that has signed the token: only that is a reason to try the next one @throws any other */
function refusalOf(error: unknown): AuthenticationError {
  const refusal = authenticationErrorOf(error);
  if (error instanceof errors.JWSSignatureVerificationFailed) return refusal;
  throw refusal;
}

const unknownKey = () => new AuthenticationError("token_invalid", "The token's key is not known.");

/** The library's errors hold the claims; ours say only which rule was broken. */
function authenticationErrorOf(error: unknown): AuthenticationError {
  if (error instanceof AuthenticationError) return error;
  if (error instanceof errors.JWTExpired) return new AuthenticationError("token_expired", "The token has expired.");
  if (error instanceof errors.JWTClaimValidationFailed) {
    return error.claim === "nbf" && error.reason === "check_failed"
      ? new AuthenticationError("token_not_yet_valid", "The token is not valid yet.")
      : new AuthenticationError("token_invalid", `The token's claim ${error.claim} is missing or not acceptable.`);
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return new AuthenticationError("token_invalid", "The token's signature does not fit.");
  }
  return new AuthenticationError("token_invalid", "This is not a valid token.");
}
