/** Decides who may come in: every check between the request and the upgrade, in the order of docs/protocol.md [CON1]. */
import * as v from "valibot";
import { AuthenticationError, roles as knownRoles, type Role } from "../auth/authenticator.ts";
import { createOriginCheck, isLoopbackOrigin } from "../config/origins.ts";
import type { Config } from "../config/schema.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import { Unavailable } from "../ground/unavailable.ts";
import type { Since } from "../protocol/client.ts";
import type { Codecs } from "../protocol/codecs.ts";
import { cursor, identifier } from "../protocol/fields.ts";
import { subprotocols, type WireFormat } from "../protocol/limits.ts";
import type { AddressLimiter } from "./address-limiter.ts";
import { Connection } from "./connection.ts";
import type { ConnectionQuota } from "./connection-quota.ts";
import { type Credentials, type TokenSession, TooManyFailures } from "./credentials.ts";

export interface UpgradeOptions {
  config: Config;
  credentials: Credentials;
  addresses: AddressLimiter;
  /** The same for the internal listener: a flood of the public one may come from where operators do. */
  internalAddresses: AddressLimiter;
  quota: ConnectionQuota;
  codecs: Codecs;
  /** Counts those of the public listener. */
  connections: () => number;
  isDraining: () => boolean;
  now: () => number;
  newId: () => string;
}

/** A plain HTTP answer instead of an upgrade. */
export class Refusal extends Error {
  constructor(
    readonly status: 400 | 401 | 403 | 426 | 429 | 503,
    readonly code: string,
    message: string,
    readonly details: { retryAfterMs?: number; field?: string } = {},
  ) {
    super(message);
  }

  toResponse(): Response {
    const { retryAfterMs, field } = this.details;
    // Nothing more is expected on it, and it would keep a descriptor.
    const headers: Record<string, string> = { connection: "close" };
    if (retryAfterMs !== undefined) headers["retry-after"] = String(Math.max(1, Math.ceil(retryAfterMs / 1_000)));
    if (this.status === 401) headers["www-authenticate"] = "Bearer";
    if (this.status === 426) headers.upgrade = "websocket";
    const body = { code: this.code, message: this.message, ...(field === undefined ? {} : { field }) };
    return Response.json(body, { status: this.status, headers });
  }
}

/**
 * Where a request goes; null where its Host header is none. HTTP/1.0 need not have one, and load balancers ask like that:
 * then the platform gives the path alone [END2].
 */
export function urlOf({ url, headers }: Request): URL | null {
  const namesHost = (headers.get("host") ?? "") !== "";
  return URL.parse(namesHost ? url : `http://localhost${url}`);
}

export interface Admission {
  connection: Connection;
  /** The subprotocol to answer with; null where the client offered none. */
  subprotocol: string | null;
}

/** Where a request comes from. */
export interface Source {
  address: string;
  /** Tells whether it is from this machine itself, and not passed on for another; to be asked in the same turn. */
  isOfThisMachine: () => boolean;
  /** By the internal listener. */
  isInternal: boolean;
  /** Where it goes, as far as that was read. */
  url?: URL | undefined;
}

interface Query {
  userId: string | null;
  deviceId: string | null;
  token: string | null;
  roles: Role[];
  since: Since | undefined;
}

export class Upgrades {
  #inProgress = 0;
  readonly #isOwnMachines: boolean;
  readonly #isAllowedOrigin: (origin: string) => boolean;

  constructor(private readonly options: UpgradeOptions) {
    const { auth, server } = options.config;
    // Without proof one is believed on this machine only, and any page that is open there can reach it.
    const isOwnMachines = auth.mode === "trusted" && !auth.behind_gateway;
    const isListed = createOriginCheck(server.allowed_origins);
    this.#isOwnMachines = isOwnMachines;
    this.#isAllowedOrigin = (origin) => (!isOwnMachines || isLoopbackOrigin(origin)) && isListed(origin);
  }

  get inProgress(): number {
    return this.#inProgress;
  }

  /**
   * Runs all checks; the identity is checked against the directory before the upgrade.
   * @throws Refusal
   */
  admit(request: Request, from: Source): AtOnce<Admission> {
    return atOnce(this.#admit(request, from));
  }

  *#admit(request: Request, from: Source): Steps<Admission> {
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      throw new Refusal(426, "upgrade_required", "This is a WebSocket endpoint.");
    }
    this.#checkOrigin(request.headers.get("origin"));
    // A proxy on this machine would let in everybody as whoever they like.
    if (this.#isOwnMachines && !from.isOfThisMachine())
      throw new Refusal(
        403,
        "forbidden",
        "In trusted mode only this machine may connect, but for auth.behind_gateway.",
      );
    this.#checkAdmission(from);
    try {
      const identified = atOnce(this.#identify(request, from));
      const admitted = identified instanceof Promise ? yield this.#waitFor(identified, from) : identified;
      // Draining may have begun meanwhile, and everybody who was here has been told so.
      this.#refuseWhileDraining();
      const shortage = this.options.quota.take(admitted.connection);
      if (shortage !== null) throw new Refusal(429, "limit_exceeded", shortage.message, shortage);
      return admitted;
    } catch (error) {
      throw error instanceof Unavailable ? new Refusal(503, "unavailable", error.told, error) : error;
    }
  }

  /** @throws Unavailable where it takes too long */
  async #waitFor(identified: Promise<Admission>, { isInternal }: Source): Promise<Admission> {
    if (!isInternal) this.#inProgress++;
    let timer: Timer | undefined;
    try {
      const late = new Promise<never>((_, reject) => {
        const message = "The identity could not be checked in time.";
        const refuse = () => reject(new Unavailable("auth", message, { isPublic: true }));
        timer = setTimeout(refuse, this.options.config.websocket.upgrade_timeout);
      });
      return await Promise.race([identified, late]);
    } finally {
      clearTimeout(timer);
      if (!isInternal) this.#inProgress--;
    }
  }

  /** Gives back the place of one that was admitted and has given up meanwhile. */
  abandon(connection: Connection): void {
    this.options.quota.leave(connection);
  }

  #checkOrigin(origin: string | null): void {
    // Only browsers send an origin, and only they need the check: it keeps other sites' pages out.
    if (origin === null || this.#isAllowedOrigin(origin)) return;
    throw new Refusal(403, "forbidden", "This origin may not connect.");
  }

  #checkAdmission({ address, isInternal }: Source): void {
    const { config, addresses, internalAddresses, connections, now } = this.options;
    this.#refuseWhileDraining();
    const attempt = (isInternal ? internalAddresses : addresses).connect(address, now());
    if (!attempt.allowed) {
      throw new Refusal(429, "rate_limited", "Too many connection attempts from this address.", attempt);
    }
    if (isInternal) return;
    if (connections() + this.#inProgress >= config.websocket.max_connections) {
      throw new Refusal(429, "limit_exceeded", "This node has as many connections as it may.", { retryAfterMs: 5_000 });
    }
    if (this.#inProgress >= config.websocket.register_buffer) {
      throw new Refusal(429, "limit_exceeded", "Too many connections are being opened at once.", {
        retryAfterMs: 1_000,
      });
    }
  }

  #refuseWhileDraining(): void {
    if (!this.options.isDraining()) return;
    throw new Refusal(503, "draining", "This node is shutting down; connect to another.", { retryAfterMs: 1_000 });
  }

  *#identify(request: Request, { address, isInternal, url }: Source): Steps<Admission> {
    const { config, codecs, now, newId } = this.options;
    const { format, subprotocol } = chooseFormat(request.headers.get("sec-websocket-protocol"));
    const query = readQuery((url ?? urlOf(request)!).searchParams);
    const session =
      config.auth.mode === "trusted"
        ? yield* this.#trust(query)
        : yield* this.#verify(bearerOf(request) ?? query.token, query, address);
    const connection = new Connection({
      connectionId: newId(),
      deviceId: session?.deviceId ?? query.deviceId ?? newId(),
      address,
      isInternal,
      format,
      codec: codecs[format],
      session,
      since: query.since,
      now: now(),
      queueMax: config.websocket.inbound_queue,
    });
    return { connection, subprotocol };
  }

  *#trust({ userId, roles, deviceId }: Query): Steps<TokenSession> {
    if (userId === null) throw new Refusal(401, "not_authenticated", "user_id is missing.", { field: "user_id" });
    yield* this.#refuseUnlessKnown({ userId, roles });
    return { userId, roles, grants: [], expiresAt: null, expiryWarningAt: null, deviceId };
  }

  *#verify(token: string | null, { deviceId }: Query, address: string): Steps<TokenSession | null> {
    if (token === null) return null;
    try {
      const verifying = this.options.credentials.verify(token, { address, deviceId });
      const session = verifying instanceof Promise ? yield verifying : verifying;
      yield* this.#refuseUnlessKnown(session);
      return session;
    } catch (error) {
      if (error instanceof TooManyFailures) throw new Refusal(429, "rate_limited", error.message, error);
      if (!(error instanceof AuthenticationError)) throw error;
      throw new Refusal(401, error.code, error.message);
    }
  }

  *#refuseUnlessKnown(user: { userId: string; roles: readonly string[] }): Steps<void> {
    try {
      const checking = this.options.credentials.checkUser(user);
      if (checking instanceof Promise) yield checking;
    } catch (error) {
      if (error instanceof AuthenticationError) throw new Refusal(403, error.code, error.message);
      throw error;
    }
  }
}

/** The wire format among those offered, in the client's order [CON4]. */
function chooseFormat(offered: string | null): { format: WireFormat; subprotocol: string | null } {
  if (offered === null) return { format: "json", subprotocol: null };
  for (const name of offered.split(",").map((it) => it.trim())) {
    for (const [format, subprotocol] of Object.entries(subprotocols)) {
      if (name === subprotocol) return { format: format as WireFormat, subprotocol };
    }
  }
  const ours = Object.values(subprotocols).join(" and ");
  throw new Refusal(400, "unsupported_subprotocol", `The subprotocols here are ${ours}.`, {
    field: "Sec-WebSocket-Protocol",
  });
}

/** The token of `Authorization: Bearer`. Other schemes are not ours: proxies and browsers add them [CON2]. */
function bearerOf(request: Request): string | null {
  // Headers of one name come as one, with commas, of which a token has none.
  const parts =
    request.headers
      .get("authorization")
      ?.split(",")
      .map((part) => part.trim()) ?? [];
  const bearers = parts.filter((part) => /^bearer(\s|$)/i.test(part));
  if (bearers.length === 0) return null;
  const token = bearers[0]!.slice("bearer".length).trimStart();
  const problem = bearers.length > 1 ? "must not stand twice" : /^\S+$/.test(token) ? null : "must have one token";
  if (problem !== null) throw new Refusal(401, "token_invalid", `Authorization: Bearer ${problem}.`);
  return token;
}

const parameters = ["user_id", "roles", "device_id", "token", "since"];

function readQuery(query: URLSearchParams): Query {
  // Which of two counts is for nobody to guess: a gateway may have added the second, and the client wrote the first.
  const given = new Map<string, string>();
  for (const [name, value] of query) {
    if (given.has(name) && parameters.includes(name)) throw badQuery(name, "must not stand twice");
    given.set(name, value);
  }
  const roles = (given.get("roles") ?? "").split(",").filter((role) => role !== "");
  const unknownRole = roles.find((role) => !(knownRoles as readonly string[]).includes(role));
  if (unknownRole !== undefined) throw badQuery("roles", `must be of ${knownRoles.join(", ")}`);
  const since = readText(given, "since", cursor);
  return {
    userId: readText(given, "user_id", identifier),
    deviceId: readText(given, "device_id", identifier),
    token: given.get("token") ?? null,
    roles: roles as Role[],
    since: since === null ? undefined : since === "acked" ? since : { cursor: since },
  };
}

function readText(given: Map<string, string>, field: string, schema: typeof identifier | typeof cursor): string | null {
  const value = given.get(field);
  if (value === undefined) return null;
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (!result.success) throw badQuery(field, result.issues[0].message);
  return value;
}

const badQuery = (field: string, problem: string) => new Refusal(400, "bad_query", `${field} ${problem}.`, { field });
