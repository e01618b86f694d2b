/** Tells where Redis is and how it is reached, as `cluster.url`, `cluster.tls` and `cluster.nat_map` say it. */
import { type ClientTls, type ClientTlsFiles, readClientTls } from "../../config/client-tls.ts";
import { StartError } from "../../config/faults.ts";
import { type Endpoint, type RedisPlace, RedisUrlFault, readEndpoint, readRedisUrl } from "../../config/redis-url.ts";

interface Access {
  username: string | undefined;
  password: string | undefined;
  /** As `node:tls` takes it; null: not encrypted. */
  tls: ClientTls | null;
  natMap: NatMap;
}

/** By `host:port` as a server announces it, IPv6 without brackets: where this node reaches it. */
export type NatMap = ReadonlyMap<string, Endpoint>;

export type RedisAddress = Access & RedisPlace;

/** @returns where the server is reached: where the map says, else where the server itself says */
export function reached({ host, port }: Endpoint, natMap: NatMap): Endpoint {
  return natMap.get(`${host}:${port}`) ?? { host, port };
}

/**
 * `natMap` has `host:port` by `host:port`: where servers are reached that announce another address. `tls` names the files
 * of encrypted connections.
 * @throws StartError where the text is no address; the message never holds the text, which may hold a password
 */
export function parseRedisUrl(
  url: string,
  { natMap = {}, tls: files = null }: { natMap?: Readonly<Record<string, string>>; tls?: ClientTlsFiles | null } = {},
): RedisAddress {
  try {
    const { username, password, isEncrypted, place } = readRedisUrl(url);
    return {
      username,
      password,
      tls: isEncrypted ? followClientTls(files) : null,
      natMap: readNatMap(natMap),
      ...place,
    };
  } catch (error) {
    if (error instanceof RedisUrlFault) throw new StartError("cluster.url", error.message);
    throw error;
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

function readNatMap(natMap: Readonly<Record<string, string>>): NatMap {
  const entries = Object.entries(natMap).map(([announced, address]) => {
    const [from, to] = [announced, address].map((text) => readEndpoint(text, 6379));
    if (!from || !to) throw new StartError("cluster.nat_map", "must be host:port by host:port");
    return [`${from.host}:${from.port}`, to] as const;
  });
  return new Map(entries);
}
