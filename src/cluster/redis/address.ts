/** Where Redis is, as `cluster.url` says it: one server, a master that Sentinels know, or a Redis Cluster. */
import { type ClientTls, type ClientTlsFiles, readClientTls } from "../../config/client-tls.ts";
import { StartError } from "../../config/faults.ts";

export interface Endpoint {
  host: string;
  port: number;
}

interface Access {
  username: string | undefined;
  password: string | undefined;
  /** As `node:tls` takes it; null: not encrypted. */
  tls: ClientTls | null;
  natMap: NatMap;
}

/** By `host:port` as a server announces it, IPv6 without brackets: where this node reaches it. */
export type NatMap = ReadonlyMap<string, Endpoint>;

export type RedisAddress = Access &
  (
    | { kind: "single"; endpoint: Endpoint; database: number }
    | {
        kind: "sentinel";
        sentinels: Endpoint[];
        masterName: string;
        sentinelPassword: string | undefined;
        database: number;
      }
    | { kind: "cluster"; endpoints: Endpoint[] }
  );

const pattern =
  /^(redis|rediss|redis\+sentinel|redis\+cluster):\/\/(?:([^@/?]*)@)?([^/?@]+)(?:\/([^?]*))?(?:\?([^#]*))?$/;

/** @returns where the server is reached: where the map says, else where the server itself says */
export function reached({ host, port }: Endpoint, natMap: NatMap): Endpoint {
  return natMap.get(`${host}:${port}`) ?? { host, port };
}

/**
 * Reads `redis://`, `rediss://`, `redis+sentinel://host:port,…/<master name>[/<database>]` and
 * `redis+cluster://host:port,…`; user and password stand before an `@`. `?tls=true` encrypts the last two, and
 * `?sentinel_password=` is for the Sentinels themselves. `natMap` has `host:port` by `host:port`: where servers are reached
 * that announce another address. `tls` names the files of encrypted connections.
 * @throws StartError where the text is none of them; the message never holds the text, which may hold a password
 */
export function parseRedisUrl(
  url: string,
  { natMap = {}, tls: files = null }: { natMap?: Readonly<Record<string, string>>; tls?: ClientTlsFiles | null } = {},
): RedisAddress {
  const [, scheme, credentials, hosts = "", path = "", query] = pattern.exec(url) ?? [];
  const options = new URLSearchParams(query);
  const [username, password] = readCredentials(credentials);
  const isEncrypted = scheme === "rediss" || options.get("tls") === "true";
  const tls = isEncrypted ? followClientTls(files) : null;
  const access = { username, password, tls, natMap: readNatMap(natMap) };
  const [first = "", second] = path.split("/").map(decodeURIComponent);
  switch (scheme) {
    case "redis":
    case "rediss": {
      const [endpoint, ...others] = readEndpoints(hosts, 6379);
      if (endpoint === undefined || others.length > 0) throw new StartError("cluster.url", "redis:// takes one host");
      return { ...access, kind: "single", endpoint, database: readDatabase(first) };
    }
    case "redis+sentinel":
      if (first === "") throw new StartError("cluster.url", "redis+sentinel:// needs the master's name as its path");
      return {
        ...access,
        kind: "sentinel",
        sentinels: readEndpoints(hosts, 26379),
        masterName: first,
        sentinelPassword: options.get("sentinel_password") ?? undefined,
        database: readDatabase(second ?? ""),
      };
    case "redis+cluster":
      if (path !== "")
        throw new StartError("cluster.url", "redis+cluster:// takes no path: a Redis Cluster has one database");
      return { ...access, kind: "cluster", endpoints: readEndpoints(hosts, 6379) };
    default:
      throw new StartError("cluster.url", "must be redis://, rediss://, redis+sentinel:// or redis+cluster://");
  }
}

/** Read again for each connection, so that files may be replaced under a running service; what cannot be read stays as it was. */
function followClientTls(files: ClientTlsFiles | null): ClientTls {
  if (files === null) return {};
  let known = readClientTls(files);
  const read = () => {
    try {
      known = readClientTls(files);
    } catch {
      // In the middle of being replaced.
    }
    return known;
  };
  const of = (name: keyof ClientTls) => ({ enumerable: true, get: () => read()[name] });
  const names = Object.keys(known) as (keyof ClientTls)[];
  return Object.defineProperties({}, Object.fromEntries(names.map((name) => [name, of(name)])));
}

function readCredentials(text: string | undefined): [string | undefined, string | undefined] {
  if (text === undefined) return [undefined, undefined];
  const colon = text.indexOf(":");
  const [name, password] = colon < 0 ? [text, ""] : [text.slice(0, colon), text.slice(colon + 1)];
  return [decodeURIComponent(name) || undefined, decodeURIComponent(password) || undefined];
}

function readEndpoints(hosts: string, defaultPort: number): Endpoint[] {
  return hosts.split(",").map((text) => {
    const endpoint = readEndpoint(text.trim(), defaultPort);
    if (endpoint === null) throw new StartError("cluster.url", "hosts are host:port");
    return endpoint;
  });
}

function readEndpoint(text: string, defaultPort: number): Endpoint | null {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const number = port === undefined ? defaultPort : Number(port);
  return host === undefined || number < 1 || number > 65_535 ? null : { host, port: number };
}

function readNatMap(natMap: Readonly<Record<string, string>>): NatMap {
  const entries = Object.entries(natMap).map(([announced, address]) => {
    const [from, to] = [announced, address].map((text) => readEndpoint(text, 6379));
    if (!from || !to) throw new StartError("cluster.nat_map", "must be host:port by host:port");
    return [`${from.host}:${from.port}`, to] as const;
  });
  return new Map(entries);
}

function readDatabase(text: string): number {
  if (text === "") return 0;
  if (!/^\d{1,4}$/.test(text)) throw new StartError("cluster.url", "a database is a number");
  return Number(text);
}
