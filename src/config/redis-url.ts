/** Reads `cluster.url`: one Redis server, a master that Sentinels know, or a Redis Cluster; refuses what would not be done as it says. */
import { nearest, nearestHint } from "./nearest.ts";

export interface Endpoint {
  host: string;
  port: number;
}

export type RedisPlace =
  | { kind: "single"; endpoint: Endpoint; database: number }
  | {
      kind: "sentinel";
      sentinels: Endpoint[];
      masterName: string;
      sentinelPassword: string | undefined;
      database: number;
    }
  | { kind: "cluster"; endpoints: Endpoint[] };

export interface RedisUrl {
  username: string | undefined;
  password: string | undefined;
  isEncrypted: boolean;
  place: RedisPlace;
}

/** `message` says what is expected of the URL, and never holds the text, which may hold a password. */
export class RedisUrlFault extends Error {}

const pattern =
  /^(redis|rediss|redis\+sentinel|redis\+cluster):\/\/(?:([^@/?]*)@)?([^/?@\s]+)(?:\/([^?]*))?(?:\?([^#]*))?$/;

/**
 * Reads `redis://`, `rediss://`, `redis+sentinel://host:port,…/<master name>[/<database>]` and
 * `redis+cluster://host:port,…`; user and password stand before an `@`. `?tls=true` encrypts where the scheme does not
 * say so, and `?sentinel_password=` is for the Sentinels themselves.
 * @throws RedisUrlFault where the text is none of them
 */
export function readRedisUrl(url: string): RedisUrl {
  const [, scheme, credentials, hosts = "", path = "", query = ""] = pattern.exec(url) ?? [];
  if (scheme === undefined)
    throw new RedisUrlFault("must be redis://…, rediss://…, redis+sentinel://… or redis+cluster://…");
  const parameters = readParameters(query, scheme);
  const tls = parameters.get("tls");
  if (scheme === "rediss" && tls === "false") throw new RedisUrlFault("must be redis://… where it has tls=false");
  const [username, password] = readCredentials(credentials);
  const place = readPlace({ scheme, hosts, path, sentinelPassword: parameters.get("sentinel_password") });
  return { username, password, isEncrypted: scheme === "rediss" || tls === "true", place };
}

/** Finds what is expected of the URL; null where it can be done as it says. */
export function redisUrlFault(url: string, { hasTls }: { hasTls: boolean }): string | null {
  try {
    const { isEncrypted } = readRedisUrl(url);
    // A certificate that nobody is shown would only mislead.
    return isEncrypted || !hasTls ? null : "must be rediss://…, or have ?tls=true, where cluster.tls is set";
  } catch (error) {
    if (error instanceof RedisUrlFault) return error.message;
    throw error;
  }
}

/** Of a name that is none nothing would be done: with a slip in `tls` passwords would go over the wire for all to read. */
function readParameters(query: string, scheme: string): Map<string, string> {
  const names = scheme === "redis+sentinel" ? ["tls", "sentinel_password"] : ["tls"];
  const given = [...new URLSearchParams(query)];
  const unknown = given.find(([name]) => !names.includes(name))?.[0];
  if (unknown !== undefined) {
    // With an `@` it may be the rest of a password.
    const isShown = /^\w{1,40}$/.test(unknown) && !query.includes("@");
    const what = isShown ? `the parameter ${unknown}` : "such a parameter";
    const known = names.map((name) => (name === "tls" ? "tls=true, tls=false" : `${name}=…`)).join(", ");
    const hint = isShown ? nearestHint(nearest(unknown, names)) : "";
    throw new RedisUrlFault(`must not have ${what}: what may stand behind the ? is ${known}${hint}`);
  }
  const parameters = new Map(given);
  if (parameters.size < given.length) throw new RedisUrlFault("must have each parameter once");
  const tls = parameters.get("tls");
  if (tls !== undefined && tls !== "true" && tls !== "false")
    throw new RedisUrlFault("must have tls=true or tls=false, and no other tls");
  return parameters;
}

function readPlace(parts: {
  scheme: string;
  hosts: string;
  path: string;
  sentinelPassword: string | undefined;
}): RedisPlace {
  const { scheme, hosts, path, sentinelPassword } = parts;
  const [first = "", second = "", ...rest] = path.split("/").map(decoded);
  if (scheme === "redis+cluster") {
    if (path !== "") throw new RedisUrlFault("must have no path: a Redis Cluster has one database");
    return { kind: "cluster", endpoints: readEndpoints(hosts, 6379) };
  }
  if (scheme === "redis+sentinel") {
    if (first === "" || rest.length > 0)
      throw new RedisUrlFault("must have the master's name as its path, and then its database's number, if any");
    const database = readDatabase(second);
    return { kind: "sentinel", sentinels: readEndpoints(hosts, 26379), masterName: first, sentinelPassword, database };
  }
  const [endpoint, ...others] = readEndpoints(hosts, 6379);
  if (endpoint === undefined || others.length > 0)
    throw new RedisUrlFault("must have one host: more are for redis+sentinel://… and redis+cluster://…");
  return { kind: "single", endpoint, database: readDatabase([first, second, ...rest].filter(Boolean).join("/")) };
}

function readCredentials(text: string | undefined): [string | undefined, string | undefined] {
  if (text === undefined) return [undefined, undefined];
  const colon = text.indexOf(":");
  const [name, password] = colon < 0 ? [text, ""] : [text.slice(0, colon), text.slice(colon + 1)];
  return [decoded(name) || undefined, decoded(password) || undefined];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new RedisUrlFault("must have a % of a name or password written as %25");
  }
}

function readEndpoints(hosts: string, defaultPort: number): Endpoint[] {
  return hosts.split(",").map((text) => {
    const endpoint = readEndpoint(text.trim(), defaultPort);
    if (endpoint === null)
      throw new RedisUrlFault("must have hosts as host:port, and what is special in a password written as %40 for @");
    return endpoint;
  });
}

/** @returns null where the text is no `host` or `host:port` */
export function readEndpoint(text: string, defaultPort: number): Endpoint | null {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const number = port === undefined ? defaultPort : Number(port);
  return host === undefined || number < 1 || number > 65_535 ? null : { host, port: number };
}

function readDatabase(text: string): number {
  if (text === "") return 0;
  if (!/^\d{1,4}$/.test(text)) throw new RedisUrlFault("must have a number as its database, such as /0");
  return Number(text);
}
