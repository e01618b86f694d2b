/** Turns a token into an identity: finds the key, checks signature, times, issuer and audience, and reads the claims. */
import { decodeProtectedHeader, type JWSHeaderParameters } from "jose";
import type { Config } from "../config/schema.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import type { Timers } from "../ground/timers.ts";
import { limits } from "../protocol/limits.ts";
import { asymmetricAlgorithms, keyFault } from "./fixed-keys.ts";
import { AuthenticationError, type Identity, ownRoles } from "./identity.ts";
import { createKeySource } from "./key-source.ts";
import { type FetchKeys, RemoteKeys, type remoteKeysTiming } from "./remote-keys.ts";
import { Signer } from "./signer.ts";

export { AuthenticationError, type Identity, knownRoles, type Role, roles } from "./identity.ts";

export interface AuthenticatorOptions {
  config: Config["auth"];
  /** Milliseconds since 1970. */
  now: () => number;
  /** How a JWKS is fetched. */
  fetch?: FetchKeys;
  /** How files of public keys are read. */
  readFile?: (path: string) => Promise<string>;
  /** Told, in words for the log, that keys could not be fetched. */
  onFault?: (message: string) => void;
  /** Other times than the usual ones for the JWKS cache. */
  jwksTiming?: Partial<typeof remoteKeysTiming>;
  /** Runs what ends a fetch of a JWKS that takes too long. */
  after?: Timers["after"];
}

export interface Authenticator {
  /**
   * Reads whom the token speaks for [AUTH2].
   * @throws AuthenticationError with a code of [AUTH1]; Unavailable where the keys could not be had
   */
  verify(token: string): AtOnce<Identity>;
  /**
   * Reads the keys. A JWKS server that is away does not keep the service from starting; its tokens are `unavailable` until it is back.
   * @throws ConfigError where the settings can never work
   */
  start(): Promise<void>;
  /** Reads the public keys' files and the JWKS again. Rejects where that fails; the keys that were there stay. */
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
  after,
}: AuthenticatorOptions): Authenticator {
  const remote =
    config.jwks_url === null
      ? null
      : new RemoteKeys({ url: config.jwks_url, now, fetch, onFault, timing: jwksTiming, after });
  const users = createKeySource({
    algorithms: config.algorithms,
    secret: { path: "auth.secret", value: config.secret },
    publicKeys: { path: "auth.public_key_file", file: config.public_key_file },
    remote,
    readFile,
  });
  const backends = createKeySource({
    algorithms: [
      ...(config.service_secret === null ? [] : (["HS256"] as const)),
      ...(config.service_public_key_file === null ? [] : asymmetricAlgorithms),
    ],
    secret: { path: "auth.service_secret", value: config.service_secret },
    publicKeys: { path: "auth.service_public_key_file", file: config.service_public_key_file },
    remote: null,
    readFile,
  });
  const headers = new Headers();
  const verifying = { leewayMs: config.leeway, now };
  // Backends first, for theirs are never asked for anywhere else.
  const signers = [
    // Their key is for this service alone: there is no other issuer, and no other audience.
    new Signer({ keys: backends, issuer: null, audience: null, roles: ownRoles, ...verifying }),
    new Signer({
      keys: users,
      issuer: config.issuer,
      audience: config.audience,
      roles: userRoles(config),
      ...verifying,
    }),
  ];

  function* verify(token: string): Steps<Identity> {
    // From a header or the URL it may not be longer than in a message either.
    if (token.length > limits.tokenLength) throw new AuthenticationError("token_invalid", "The token is too long.");
    const header = headers.of(token);
    const fitting = signers.filter((it) => it.takes(header.alg));
    // Before any key is looked for, so that a token of the wrong kind costs no fetch.
    if (fitting.length === 0) {
      throw new AuthenticationError("token_invalid", "The token's algorithm is not one of auth.algorithms.");
    }
    let refusal: AuthenticationError | null = null;
    for (const signer of fitting) {
      const verifying = signer.verify(token, header);
      const verified = verifying instanceof Promise ? yield verifying : verifying;
      if (!(verified instanceof AuthenticationError)) return verified;
      refusal = verified;
    }
    throw refusal;
  }

  return {
    verify: (token) => atOnce(verify(token)),

    async start() {
      if (config.mode === "token") checkSources(config);
      await Promise.all([users.start(), backends.start()]);
    },

    async reload() {
      await Promise.all([users.reload(), backends.reload()]);
    },

    stop: () => users.stop(),
  };
}

/**
 * How users' tokens carry roles. Where another key is for backends, none does. Without a map only those that are signed
 * with a secret of ours say `service` and `admin` and mean it: whoever else signs has admins of its own [AUTH2].
 */
function userRoles({ roles_claim, role_map, secret, service_secret, service_public_key_file }: Config["auth"]) {
  const carriesNone = service_secret !== null || service_public_key_file !== null || roles_claim === null;
  if (carriesNone) return { claim: null, map: {} };
  return { claim: roles_claim, map: role_map ?? (secret === null ? {} : ownRoles.map) };
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

/** Reads headers of tokens, and remembers the last: all of one signer have the same. */
class Headers {
  #text = "";
  #header: JWSHeaderParameters = {};

  of(token: string): JWSHeaderParameters {
    const text = token.slice(0, token.indexOf(".") + 1);
    if (text !== "" && text === this.#text) return this.#header;
    try {
      this.#header = decodeProtectedHeader(token);
    } catch {
      throw new AuthenticationError("token_invalid", "This is not a token.");
    }
    this.#text = text;
    return this.#header;
  }
}
