/** Turns a token into an identity: finds the key, checks signature, times, issuer and audience, and reads the claims. */
import { decodeProtectedHeader, errors, type JWSHeaderParameters, type JWTPayload, jwtVerify } from "jose";
import type { Config } from "../config/schema.ts";
import { type Algorithm, importPublicKeys, importSecret, keyFault } from "./fixed-keys.ts";
import { AuthenticationError, type Identity, identityOf } from "./identity.ts";
import { createRemoteKeys, type FetchKeys, type remoteKeysTiming } from "./remote-keys.ts";

export { AuthenticationError, type Identity, knownRoles, type Role, roles } from "./identity.ts";

/** As the `authenticate` message has it; a token from a header or the URL may not be longer either. */
const tokenLengthMax = 8192;

export interface AuthenticatorOptions {
  config: Config["auth"];
  /** Milliseconds since the epoch. */
  now: () => number;
  /** How a JWKS is fetched. */
  fetch?: FetchKeys;
  /** How `auth.public_key_file` is read. */
  readFile?: (path: string) => Promise<string>;
  /** Told, in words for the log, that keys could not be fetched. */
  onFault?: (message: string) => void;
  /** Other times than the usual ones for the JWKS cache. */
  jwksTiming?: Partial<typeof remoteKeysTiming>;
}

export interface Authenticator {
  /**
   * Who the token speaks for [AUTH2].
   * @throws AuthenticationError with a code of [AUTH1]; `unavailable` where the keys could not be had
   */
  verify(token: string): Promise<Identity>;
  /**
   * Reads the keys. A JWKS server that is away does not keep the service from starting; its tokens are `unavailable` until it is back.
   * @throws ConfigError where the settings can never work
   */
  start(): Promise<void>;
  /** Reads `auth.public_key_file` and the JWKS again. Rejects where that fails; the keys that were there stay. */
  reload(): Promise<void>;
  stop(): void;
}

export function createAuthenticator({
  config,
  now,
  fetch = (url, init) => globalThis.fetch(url, init),
  readFile = (path) => Bun.file(path).text(),
  onFault = () => {},
  jwksTiming,
}: AuthenticatorOptions): Authenticator {
  const algorithms: readonly Algorithm[] = config.algorithms;
  const remote =
    config.jwks_url === null
      ? null
      : createRemoteKeys({ url: config.jwks_url, now, fetch, onFault, timing: jwksTiming });
  let secret: CryptoKey | null = null;
  let publicKeys = new Map<Algorithm, CryptoKey[]>();

  async function readPublicKeys(): Promise<void> {
    const path = config.public_key_file;
    if (path === null || algorithms.every((it) => it === "HS256")) return;
    const pem = await readFile(path).catch(() => {
      throw keyFault("auth.public_key_file", "cannot be read", path);
    });
    publicKeys = await importPublicKeys(pem, algorithms);
  }

  /**
   * Keys by the algorithm that a key was given for: a public key is never tried as a secret [AUTH2].
   * The key server is asked only where the configured keys did not do.
   */
  async function* candidates(header: JWSHeaderParameters, algorithm: Algorithm): AsyncGenerator<CryptoKey> {
    if (algorithm === "HS256") {
      if (secret !== null) yield secret;
      return;
    }
    yield* publicKeys.get(algorithm) ?? [];
    if (remote !== null) yield* await remote.candidates(header);
  }

  async function verifiedPayload(token: string, keys: AsyncIterable<CryptoKey>): Promise<JWTPayload> {
    let refusal = new AuthenticationError("token_invalid", "The token's key is not known.");
    for await (const key of keys) {
      try {
        const { payload } = await jwtVerify(token, key, {
          algorithms: [...algorithms],
          clockTolerance: config.leeway / 1_000,
          currentDate: new Date(now()),
          ...(config.issuer === null ? {} : { issuer: config.issuer }),
          ...(config.audience === null ? {} : { audience: config.audience }),
        });
        return payload;
      } catch (error) {
        refusal = refusalOf(error);
        // Only a signature of another key is a reason to try the next one.
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) break;
      }
    }
    throw refusal;
  }

  return {
    async verify(token) {
      if (token.length > tokenLengthMax) throw new AuthenticationError("token_invalid", "The token is too long.");
      const header = headerOf(token);
      const algorithm = algorithms.find((it) => it === header.alg);
      // Before any key is looked for, so that a token of the wrong kind costs no fetch.
      if (algorithm === undefined) {
        throw new AuthenticationError("token_invalid", "The token's algorithm is not one of auth.algorithms.");
      }
      return identityOf(await verifiedPayload(token, candidates(header, algorithm)));
    },

    async start() {
      if (config.mode === "token") checkSources(config);
      if (config.secret !== null) secret = await importSecret(config.secret);
      await readPublicKeys();
      // What went wrong has been told to onFault.
      await remote?.refresh().catch(() => {});
    },

    async reload() {
      await readPublicKeys();
      await remote?.refresh();
    },

    stop: () => remote?.stop(),
  };
}

/** Every algorithm has somewhere to take a key from. */
function checkSources({ algorithms, secret, public_key_file, jwks_url }: Config["auth"]): void {
  if (algorithms.includes("HS256") && secret === null) {
    throw keyFault("auth.secret", "must be set for HS256");
  }
  const asymmetric = algorithms.filter((it) => it !== "HS256");
  if (asymmetric.length > 0 && public_key_file === null && jwks_url === null) {
    throw keyFault("auth.public_key_file", `or auth.jwks_url must be set for ${asymmetric.join(", ")}`);
  }
}

function headerOf(token: string): JWSHeaderParameters {
  try {
    return decodeProtectedHeader(token);
  } catch {
    throw new AuthenticationError("token_invalid", "This is not a token.");
  }
}

/** The library's errors hold the claims; ours say only which rule was broken. */
function refusalOf(error: unknown): AuthenticationError {
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
