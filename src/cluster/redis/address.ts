/** Where Redis is, as `cluster.url` says it: one server, a master that Sentinels know, or a Redis Cluster. */

export interface Endpoint {
  host: string;
  port: number;
}

interface Access {
  username: string | undefined;
  password: string | undefined;
  tls: boolean;
}

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

/**
 * Reads `redis://`, `rediss://`, `redis+sentinel://host:port,…/<master name>[/<database>]` and
 * `redis+cluster://host:port,…`; user and password stand before an `@`. `?tls=true` encrypts the last two, and
 * `?sentinel_password=` is for the Sentinels themselves.
 * @throws Error where the text is none of them; the message never holds the text, which may hold a password
 */
export function parseRedisUrl(url: string): RedisAddress {
  const [, scheme, credentials, hosts = "", path = "", query] = pattern.exec(url) ?? [];
  const options = new URLSearchParams(query);
  const [username, password] = readCredentials(credentials);
  const access = { username, password, tls: scheme === "rediss" || options.get("tls") === "true" };
  const [first = "", second] = path.split("/").map(decodeURIComponent);
  switch (scheme) {
    case "redis":
    case "rediss": {
      const [endpoint, ...others] = readEndpoints(hosts, 6379);
      if (endpoint === undefined || others.length > 0) throw new Error("cluster.url: redis:// takes one host");
      return { ...access, kind: "single", endpoint, database: readDatabase(first) };
    }
    case "redis+sentinel":
      if (first === "") throw new Error("cluster.url: redis+sentinel:// needs the master's name as its path");
      return {
        ...access,
        kind: "sentinel",
        sentinels: readEndpoints(hosts, 26379),
        masterName: first,
        sentinelPassword: options.get("sentinel_password") ?? undefined,
        database: readDatabase(second ?? ""),
      };
    case "redis+cluster":
      if (path !== "") throw new Error("cluster.url: redis+cluster:// takes no path: a Redis Cluster has one database");
      return { ...access, kind: "cluster", endpoints: readEndpoints(hosts, 6379) };
    default:
      throw new Error("cluster.url: must be redis://, rediss://, redis+sentinel:// or redis+cluster://");
  }
}

function readCredentials(text: string | undefined): [string | undefined, string | undefined] {
  if (text === undefined) return [undefined, undefined];
  const colon = text.indexOf(":");
  const [name, password] = colon < 0 ? [text, ""] : [text.slice(0, colon), text.slice(colon + 1)];
  return [decodeURIComponent(name) || undefined, decodeURIComponent(password) || undefined];
}

function readEndpoints(hosts: string, defaultPort: number): Endpoint[] {
  return hosts.split(",").map((text) => {
    const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text.trim()) ?? [];
    const host = bracketed ?? plain;
    const number = port === undefined ? defaultPort : Number(port);
    if (host === undefined || number < 1 || number > 65_535) throw new Error("cluster.url: hosts are host:port");
    return { host, port: number };
  });
}

function readDatabase(text: string): number {
  if (text === "") return 0;
  if (!/^\d{1,4}$/.test(text)) throw new Error("cluster.url: a database is a number");
  return Number(text);
}
