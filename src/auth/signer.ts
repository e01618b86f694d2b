/** Verifies the tokens of one kind of signer, users' or backends': signature, times, issuer and audience, by public keys once for a token. */
import { errors, type JWSHeaderParameters, type JWTPayload, jwtVerify } from "jose";
import { AuthenticationError, type Identity, identityOf, type RoleClaim } from "./identity.ts";
import type { KeySource } from "./key-source.ts";
import { verifyHs256 } from "./shared-secret.ts";
import { type Verified, VerifiedTokens } from "./verified-tokens.ts";

export interface SignerOptions {
  keys: Pick<KeySource, "takes" | "bringUpToDate" | "revision" | "candidates">;
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
  async verify(token: string, header: JWSHeaderParameters): Promise<Identity | AuthenticationError> {
    const { keys, leewayMs, now } = this.options;
    // A secret is as quick as the look whether the token is known.
    const isRemembered = header.alg !== "HS256";
    if (isRemembered) await keys.bringUpToDate();
    const { revision } = keys;
    const known = isRemembered ? this.#verified.find(token, revision, { leewayMs, now: now() }) : null;
    if (known !== null) return known;
    const verified = await this.#verifyAnew(token, header);
    if (verified instanceof AuthenticationError) return verified;
    if (isRemembered && keys.revision === revision) this.#verified.remember(token, verified);
    return verified.identity;
  }

  async #verifyAnew(token: string, header: JWSHeaderParameters): Promise<Verified | AuthenticationError> {
    const { keys, roles } = this.options;
    let refusal: AuthenticationError | null = null;
    for await (const key of keys.candidates(header)) {
      try {
        const claims = await this.#claimsOf(token, header, key);
        return { identity: identityOf(claims, roles), notBefore: claims.nbf, expires: claims.exp };
      } catch (error) {
        refusal = authenticationErrorOf(error);
        // Only a signature of another key is a reason to try the next one.
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) throw refusal;
      }
    }
    return refusal ?? new AuthenticationError("token_invalid", "The token's key is not known.");
  }

  async #claimsOf(token: string, header: JWSHeaderParameters, key: CryptoKey | Uint8Array): Promise<JWTPayload> {
    const { issuer, audience, leewayMs, now } = this.options;
    const options = {
      algorithms: [header.alg!],
      clockTolerance: leewayMs / 1_000,
      currentDate: new Date(now()),
      ...(issuer === null ? {} : { issuer }),
      ...(audience === null ? {} : { audience }),
    };
    if (key instanceof Uint8Array) return verifyHs256(token, { header, secret: key }, options);
    return (await jwtVerify(token, key, options)).payload;
  }
}

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
