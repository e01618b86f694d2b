/** Checks the rules that join several settings, and those that look at the disk. */
import { resolve } from "node:path";
import { readIpBlock } from "../ground/ip-address.ts";
import { isLoopback } from "./addresses.ts";
import { originFault } from "./origins.ts";
import { postgresUrlFault } from "./postgres-url.ts";
import { redisUrlFault } from "./redis-url.ts";
import type { Config } from "./schema.ts";

export interface Check {
  /** The setting that the fault is told of. */
  at: string;
  /** Settings that must be sound for the rule to make sense, besides `at`. */
  needs: readonly string[];
  /** It looks at files that may be changing while a service runs with what they held before. */
  readsFiles?: true;
  /** Finds what is expected of the setting; null where it holds. `cwd` is where relative paths start. */
  find(config: Config, cwd: string): string | null | Promise<string | null>;
}

const bufferedMessageBytes = 64 * 1024;
export const secretBytesMin = 32;
/** Of `operations.token`: as 64 bits in hexadecimal digits, which nobody guesses at 30 a minute. */
const operationsTokenBytesMin = 16;

export const checks: readonly Check[] = [
  {
    at: "websocket.ping_period",
    needs: ["websocket.pong_wait"],
    // A client that answers at once must be heard before it counts as silent [CON6].
    find: ({ websocket }) =>
      websocket.ping_period < websocket.pong_wait ? null : "must be shorter than websocket.pong_wait",
  },
  {
    at: "websocket.stale_connection_timeout",
    needs: ["websocket.pong_wait"],
    find: ({ websocket }) =>
      websocket.stale_connection_timeout >= websocket.pong_wait ? null : "must be at least websocket.pong_wait",
  },
  {
    at: "websocket.client_buffer_size",
    needs: ["websocket.max_message_size"],
    find: ({ websocket }) =>
      websocket.client_buffer_size * bufferedMessageBytes >= websocket.max_message_size
        ? null
        : "must hold one message of websocket.max_message_size (64 KiB are counted for each)",
  },
  {
    at: "websocket.compression_threshold",
    needs: ["websocket.compression_work_max"],
    find: ({ websocket }) =>
      websocket.compression_threshold <= websocket.compression_work_max
        ? null
        : "must be at most websocket.compression_work_max, or nothing is compressed",
  },
  ...(["per_minute", "burst"] as const).map(
    (name): Check => ({
      at: `rate_limits.bytes.${name}`,
      needs: [],
      find: ({ rate_limits }) => (rate_limits.bytes[name] === 0 ? "must be at least 1 byte" : null),
    }),
  ),
  {
    at: "typing.relay_interval",
    needs: ["typing.timeout"],
    // Else others see somebody stop who goes on typing [TYP2].
    find: ({ typing }) => (typing.relay_interval < typing.timeout ? null : "must be shorter than typing.timeout"),
  },
  {
    at: "auth.mode",
    needs: ["auth.behind_gateway", "server.host"],
    find: ({ auth, server }) =>
      auth.mode !== "trusted" || auth.behind_gateway || isLoopback(server.host)
        ? null
        : "believes any user_id: on a host that is not loopback it needs auth.behind_gateway: true, or use token [CON2]",
  },
  {
    at: "auth.mode",
    needs: ["auth.secret", "auth.public_key_file", "auth.jwks_url"],
    find: ({ auth }) => {
      const sources = keySources(auth);
      if (auth.mode !== "token" || sources.length === 1) return null;
      const has = sources.length === 0 ? "" : `; it has ${sources.join(" and ")}`;
      return `needs exactly one of auth.secret, auth.public_key_file and auth.jwks_url${has}`;
    },
  },
  {
    at: "auth.algorithms",
    needs: ["auth.mode", "auth.secret", "auth.public_key_file", "auth.jwks_url"],
    find: ({ auth }) => {
      const shared = auth.algorithms.includes("HS256");
      // A public key taken for a shared secret lets everyone sign [AUTH2].
      if (shared && auth.algorithms.some((algorithm) => algorithm !== "HS256"))
        return "must not mix HS256 with the algorithms of public keys";
      const [source, ...others] = keySources(auth);
      if (auth.mode !== "token" || source === undefined || others.length > 0) return null;
      if (source === "auth.secret") return shared ? null : "must be HS256 with auth.secret";
      return shared ? `must be of RS256, ES256 and EdDSA with ${source}` : null;
    },
  },
  ...(["secret", "service_secret"] as const).map((name) => ({
    at: `auth.${name}`,
    needs: [],
    find: ({ auth }: Config) =>
      auth[name] === null || Buffer.byteLength(auth[name]) >= secretBytesMin
        ? null
        : `must be at least ${secretBytesMin} bytes long`,
  })),
  {
    at: "auth.jwks_url",
    needs: [],
    find: ({ auth }) => {
      const url = auth.jwks_url === null ? null : URL.parse(auth.jwks_url);
      if (auth.jwks_url === null || url?.protocol === "https:") return null;
      if (url?.protocol !== "http:") return "must be an https:// or http:// URL";
      // Anybody on the way would put in keys of its own.
      return isLoopback(url.hostname) ? null : "must be https:// for another host than this one [AUTH2]";
    },
  },
  {
    at: "auth.service_secret",
    needs: ["auth.secret", "auth.service_public_key_file"],
    find: ({ auth }) => {
      if (auth.service_secret === null) return null;
      if (auth.service_public_key_file !== null) return "must be null where auth.service_public_key_file is set";
      return auth.service_secret === auth.secret
        ? "must be another than auth.secret, whose tokens carry no roles"
        : null;
    },
  },
  {
    at: "auth.role_map",
    needs: ["auth.service_secret", "auth.service_public_key_file", "auth.roles_claim"],
    find: ({ auth }) => {
      if (auth.role_map === null) return null;
      const service = auth.service_secret === null ? "auth.service_public_key_file" : "auth.service_secret";
      if (auth.service_secret !== null || auth.service_public_key_file !== null)
        return `must be null where ${service} is set: only its tokens carry roles`;
      return auth.roles_claim === null ? "must be null where auth.roles_claim is: tokens carry no roles" : null;
    },
  },
  ...(["public_key_file", "service_public_key_file"] as const).map((name) => ({
    at: `auth.${name}`,
    needs: [],
    readsFiles: true as const,
    find: ({ auth }: Config, cwd: string) => missingFile(auth[name], cwd),
  })),
  {
    at: "directory.mode",
    needs: ["auth.mode", "server.host", "directory.open_to_all"],
    find: ({ auth, directory, server }) =>
      directory.mode === "managed" || directory.open_to_all || auth.mode !== "token" || isLoopback(server.host)
        ? null
        : "lets whoever has a token into any conversation: off loopback write managed, or say so by directory.open_to_all: true [CON1]",
  },
  {
    at: "server.allowed_origins",
    needs: [],
    find: ({ server }) => {
      const faults = server.allowed_origins.flatMap((entry) => {
        const fault = originFault(entry);
        return fault === null ? [] : [`${JSON.stringify(entry)}: ${fault}`];
      });
      return faults.length === 0 ? null : `has what no page can come from (${faults.join("; ")})`;
    },
  },
  ...(["cert_file", "key_file"] as const).map((name) => ({
    at: `server.tls.${name}`,
    needs: [],
    readsFiles: true as const,
    find: async ({ server: { tls } }: Config, cwd: string) => {
      if (tls === null) return null;
      const { readCertificate } = await import("./certificate.ts");
      const { faults } = await readCertificate(tls, { cwd });
      return faults.find(({ file }) => file === name)?.expected ?? null;
    },
  })),
  {
    at: "server.trusted_proxies",
    needs: [],
    find: ({ server }) => {
      const wrong = server.trusted_proxies.filter((proxy) => readIpBlock(proxy) === null);
      return wrong.length === 0 ? null : `must be addresses or CIDR blocks, unlike ${wrong.join(", ")}`;
    },
  },
  {
    at: "storage.url",
    needs: [],
    find: ({ storage }) =>
      /^(sqlite:[^\s]|postgres(ql)?:\/\/[^\s])/.test(storage.url) ? null : "must be sqlite:<path> or postgres://…",
  },
  {
    at: "storage.url",
    needs: [],
    find: ({ storage: { url, tls } }) => {
      if (url.startsWith("postgres")) return postgresUrlFault(url, { hasTls: tls !== null });
      return tls === null ? null : "must be postgres://… where storage.tls is set";
    },
  },
  ...(["storage", "cluster"] as const).flatMap((section) =>
    (["ca_file", "cert_file", "key_file"] as const).map((name) => ({
      at: `${section}.tls.${name}`,
      needs: [],
      readsFiles: true as const,
      find: async (config: Config, cwd: string) => {
        const { tls } = config[section];
        if (tls === null) return null;
        const { clientTlsFaults } = await import("./client-tls.ts");
        const faults = await clientTlsFaults(tls, { cwd, section: `${section}.tls` });
        return faults.find(({ file }) => file === name)?.expected ?? null;
      },
    })),
  ),
  {
    at: "storage.url",
    needs: ["cluster.url"],
    find: ({ storage, cluster }) =>
      cluster.url !== null && storage.url.startsWith("sqlite:")
        ? "must be postgres://… where cluster.url is set: the nodes share one log"
        : null,
  },
  ...(["users", "members"] as const).map((name) => ({
    at: `directory.${name}`,
    needs: ["directory.mode", "storage.url"],
    find: ({ directory, storage }: Config) => {
      if (directory[name] === null) return null;
      if (!storage.url.startsWith("postgres")) return "needs storage.url: postgres://… [PUB3]";
      // Open mode makes users and conversations, and the application's tables are its own.
      return directory.mode === "managed" ? null : "needs directory.mode: managed [PUB3]";
    },
  })),
  {
    at: "directory.conversations",
    needs: ["storage.url"],
    find: ({ directory, storage }) =>
      directory.conversations !== null && !storage.url.startsWith("postgres")
        ? "needs storage.url: postgres://… [LOG9]"
        : null,
  },
  {
    at: "cluster.url",
    needs: [],
    find: ({ cluster: { url, tls } }) => {
      if (url !== null) return redisUrlFault(url, { hasTls: tls !== null });
      return tls === null ? null : "must be rediss://…, or have ?tls=true, where cluster.tls is set";
    },
  },
  {
    at: "cluster.nat_map",
    needs: ["cluster.url"],
    // One server is named as it is reached: a map that nothing looks at would only mislead.
    find: ({ cluster }) =>
      Object.keys(cluster.nat_map).length === 0 || /^redis\+(sentinel|cluster):/.test(cluster.url ?? "")
        ? null
        : "needs cluster.url: redis+sentinel://… or redis+cluster://…, whose servers announce themselves",
  },
  {
    at: "cluster.ingest_stream",
    needs: ["cluster.url"],
    find: ({ cluster }) =>
      cluster.ingest_stream === null || cluster.url !== null ? null : "needs cluster.url: the Redis that it is on",
  },
  {
    at: "cluster.dead_after",
    needs: ["cluster.heartbeat"],
    // One heartbeat that comes late is no death.
    find: ({ cluster }) =>
      cluster.dead_after >= 2 * cluster.heartbeat ? null : "must be at least twice cluster.heartbeat",
  },
  {
    at: "calls.reconnect_timeout",
    needs: ["cluster.url", "presence.offline_grace"],
    // During its grace other nodes cannot tell a device that vanished from one that is there [CALL5].
    find: ({ calls, cluster, presence }) =>
      cluster.url === null || calls.reconnect_timeout > presence.offline_grace
        ? null
        : "must be longer than presence.offline_grace where cluster.url is set",
  },
  {
    at: "operations.listen",
    needs: ["operations.token"],
    find: ({ operations }) =>
      operations.listen === null || operations.token !== null || isLoopback(operations.listen.host)
        ? null
        : "needs operations.token on a host that is not loopback [END3]",
  },
  {
    at: "operations.token",
    needs: [],
    find: ({ operations: { token } }) =>
      token === null || Buffer.byteLength(token) >= operationsTokenBytesMin
        ? null
        : `must be at least ${operationsTokenBytesMin} bytes long, such as the output of: openssl rand -hex 32`,
  },
  {
    at: "traces.endpoint",
    needs: [],
    find: ({ traces: { endpoint } }) => {
      const url = endpoint === null ? null : URL.parse(endpoint);
      if (endpoint === null) return null;
      if (url === null || !/^https?:$/.test(url.protocol)) return "must be an https:// or http:// URL";
      if (url.username !== "" || url.password !== "") return "must have no name and password in it: use traces.headers";
      return url.pathname === "/" ? "must have a path, which is /v1/traces with most collectors" : null;
    },
  },
];

function keySources(auth: Config["auth"]): string[] {
  const all = {
    "auth.secret": auth.secret,
    "auth.public_key_file": auth.public_key_file,
    "auth.jwks_url": auth.jwks_url,
  };
  return Object.entries(all).flatMap(([name, value]) => (value === null ? [] : [name]));
}

async function missingFile(file: string | null, cwd: string): Promise<string | null> {
  if (file === null) return null;
  return (await Bun.file(resolve(cwd, file)).exists()) ? null : "must be a file that is there";
}
