/** Defines every setting: its path, its type and its default. */
import * as v from "valibot";
import {
  age,
  delay,
  duration,
  endpointMap,
  eventMap,
  headerTexts,
  interval,
  listenAddress,
  ratio,
  roleMap,
  sampleInterval,
  size,
  strings,
  tableName,
  whether,
  whole,
} from "./values.ts";

/** A file that holds the setting of the same name without `_file`, on one line; null: there is none [OPS6]. */
const secretFile = v.optional(v.nullable(v.pipe(v.string(), v.minLength(1, "must not be empty"))), null);

const server = v.strictObject({
  host: v.optional(v.pipe(v.string(), v.minLength(1, "must not be empty")), "127.0.0.1"),
  port: v.optional(whole(0, 65535), 8086),
  /**
   * Origins that browsers may come from: exact ones and `https://*.example.com`; `*` for any. Requests without an origin
   * are not browsers. In trusted mode without a gateway pages of this machine alone may come, whatever stands here.
   */
  allowed_origins: v.optional(strings, ["*"]),
  /** Addresses or CIDR blocks whose `X-Forwarded-For` is believed. */
  trusted_proxies: v.optional(strings, []),
  tls: v.optional(v.nullable(v.strictObject({ cert_file: v.string(), key_file: v.string() })), null),
  /** How long draining may take before what is left is closed [DRN]. */
  drain_timeout: v.optional(duration, "30s"),
  /** Over how long clients are told to come back while draining. */
  drain_window: v.optional(duration, "10s"),
});

const websocket = v.strictObject({
  write_wait: v.optional(interval, "10s"),
  pong_wait: v.optional(interval, "60s"),
  ping_period: v.optional(interval, "54s"),
  read_buffer_size: v.optional(size, 1024),
  write_buffer_size: v.optional(size, 1024),
  max_message_size: v.optional(size, "10MiB"),
  /** Messages (of up to 64 KiB each) that may wait for a slow client before it is closed with 4101. */
  client_buffer_size: v.optional(whole(1, 65536), 256),
  cleanup_interval: v.optional(interval, "30s"),
  stale_connection_timeout: v.optional(interval, "90s"),
  /** Upgrades in progress at once. */
  register_buffer: v.optional(whole(1, 1_000_000), 1024),
  /** Disconnects being cleaned up at once. */
  unregister_buffer: v.optional(whole(1, 1_000_000), 1024),
  /** Publishes waiting for the log before `unavailable`. */
  broadcast_buffer: v.optional(whole(1, 1_000_000), 4096),
  /** Events of a busy topic that follow one within it are written together at its end; 0: each at once [WIRE1]. */
  coalesce_window: v.optional(delay, "0s"),
  /** Subscribers of a topic on this node from which on it may be busy. */
  coalesce_from: v.optional(whole(1, 10_000_000), 50),
  max_connections: v.optional(whole(1, 10_000_000), 100_000),
  /** Of one address; null: no limit of its own, for an office and a gateway have one. */
  max_connections_per_address: v.optional(v.nullable(whole(1, 10_000_000)), null),
  /** Messages of one connection that wait for their turn before reading from it pauses [ENV7]. */
  inbound_queue: v.optional(whole(1, 10_000), 64),
  max_topics_per_connection: v.optional(whole(1, 1_000_000), 10_000),
  auto_subscribe: v.optional(v.array(v.picklist(["user", "calls", "notifications"])), [
    "user",
    "calls",
    "notifications",
  ]),
  upgrade_timeout: v.optional(interval, "5s"),
  /**
   * permessage-deflate, for connections that come authenticated. `shared`: one compressor for all; `dedicated`: one for each
   * connection, which remembers what it has sent.
   */
  compression: v.optional(v.picklist(["off", "shared", "dedicated"]), "off"),
  /** Bytes of the smallest frame that is compressed. */
  compression_threshold: v.optional(size, "1KiB"),
  /** Bytes that are compressed for one event, its size times its sockets on this process; above it is sent as it is. */
  compression_work_max: v.optional(size, "512KiB"),
});

const auth = v.strictObject({
  mode: v.optional(v.picklist(["trusted", "token"]), "trusted"),
  behind_gateway: v.optional(v.boolean(), false),
  timeout: v.optional(interval, "10s"),
  /** Connections of this node that have not authenticated yet; beyond them 429 [CON2]. */
  max_anonymous: v.optional(whole(1, 10_000_000), 1_000),
  max_anonymous_per_address: v.optional(whole(1, 10_000_000), 20),
  algorithms: v.optional(
    v.pipe(v.array(v.picklist(["HS256", "RS256", "ES256", "EdDSA"])), v.minLength(1, "must name at least one")),
    ["HS256"],
  ),
  /** HS256: at least 32 bytes. */
  secret: v.optional(v.nullable(v.string()), null),
  secret_file: secretFile,
  public_key_file: v.optional(v.nullable(v.string()), null),
  jwks_url: v.optional(v.nullable(v.string()), null),
  /** HS256 for backends, beside the users' keys; where it or the next is set, its tokens alone carry roles [AUTH2]. */
  service_secret: v.optional(v.nullable(v.string()), null),
  service_secret_file: secretFile,
  /** The same as public keys. */
  service_public_key_file: v.optional(v.nullable(v.string()), null),
  /** The claim in which users' tokens carry roles, or a path such as `realm_access.roles`; null: they carry none. */
  roles_claim: v.optional(v.nullable(v.pipe(v.string(), v.minLength(1, "must not be empty"))), "roles"),
  /**
   * Which values of it mean `service` and `admin` here; null: with `auth.secret` those names themselves, else none, for
   * the admins of whoever signs are not this service's.
   */
  role_map: v.optional(v.nullable(roleMap), null),
  issuer: v.optional(v.nullable(v.string()), null),
  audience: v.optional(v.nullable(v.string()), null),
  leeway: v.optional(duration, "30s"),
  /** `auth.expiring` is sent so long before a token's end [AUTH3]. */
  expiry_warning: v.optional(duration, "60s"),
  /** After a token's end a connection has so long to refresh before 4104 [AUTH3]. */
  expiry_grace: v.optional(duration, "25s"),
});

const directory = v.strictObject({
  /** `open`: unknown users and conversations come into being on first use (development). `managed`: only what is there. */
  mode: v.optional(v.picklist(["open", "managed"]), "open"),
  /** Confirms that in token mode, on an address that others reach, anybody may use any conversation: `mode: open` there. */
  open_to_all: v.optional(v.boolean(), false),
  cache_ttl: v.optional(duration, "30s"),
  cache_size: v.optional(whole(0, 10_000_000), 100_000),
  /**
   * A view over the application's own table of users, with the columns `user_id` and `disabled`, as `schema.name`; null:
   * a table of this service's own. PostgreSQL only, and only with `mode: managed`; the application alone writes to it [PUB3].
   */
  users: v.optional(v.nullable(tableName), null),
  /** The same for the members of conversations: `conversation_id`, `user_id`, and `joined_at` and `may_write` if it has those [PUB3]. */
  members: v.optional(v.nullable(tableName), null),
  /**
   * The same for conversations that keep their events for less than `log.retention`, with the columns `conversation_id` and
   * `retention`, an interval or a text such as `24h`; with any `mode` [LOG9].
   */
  conversations: v.optional(v.nullable(tableName), null),
});

/**
 * PEM files for connections to an engine: who signs its certificate (null: whom the system trusts), and a certificate of our
 * own with its key, where it asks for one.
 */
const clientTls = v.optional(
  v.nullable(
    v.strictObject({
      ca_file: v.optional(v.nullable(v.string()), null),
      cert_file: v.optional(v.nullable(v.string()), null),
      key_file: v.optional(v.nullable(v.string()), null),
    }),
  ),
  null,
);

const storage = v.strictObject({
  /** `sqlite:<path>` or `postgres://…`. */
  url: v.optional(v.string(), "sqlite:data/ws-service.db"),
  url_file: secretFile,
  /** With PostgreSQL. Set without `sslmode` in the URL it means `verify-full`. */
  tls: clientTls,
  query_timeout: v.optional(interval, "5s"),
  pool_size: v.optional(whole(1, 1000), 10),
  /** Questions of one user before the storage at once, over all its connections; the rest waits for its turn. */
  questions_per_user: v.optional(whole(1, 1000), 1),
  /** With PostgreSQL: what applications leave by `ws.publish(…)` in their own transactions is published [PUB2]. */
  outbox: v.optional(v.boolean(), true),
});

const streamName = v.pipe(
  v.string(),
  v.regex(/^[\x21-\x7e]{1,128}$/, "must have 1 to 128 printable characters without spaces"),
);

const cluster = v.strictObject({
  /** Null: this node is alone. `redis://…` for many nodes. */
  url: v.optional(v.nullable(v.string()), null),
  url_file: secretFile,
  /** With `rediss://`, or `?tls=true`. */
  tls: clientTls,
  /**
   * As the servers of a Redis Cluster or of Sentinels announce themselves → as this node reaches them, behind a
   * translation of addresses, in containers or through tunnels.
   */
  nat_map: v.optional(endpointMap, {}),
  node_id: v.optional(v.nullable(v.string()), null),
  /** Whether a node that cannot reach the others is down (503) instead of degraded [END2]. */
  required: v.optional(v.boolean(), false),
  /** How often a node says that it lives. */
  heartbeat: v.optional(interval, "5s"),
  /** A node that has said nothing for so long is dead, and its users are offline [PRE1]. */
  dead_after: v.optional(interval, "15s"),
  /** A stream of this Redis that applications add to, and whose entries are published and removed; null: none [PUB2]. */
  ingest_stream: v.optional(v.nullable(streamName), null),
  /** The consumer group under which this service reads the stream; null: one of this installation's own. */
  ingest_group: v.optional(v.nullable(streamName), null),
});

const messages = v.strictObject({
  accept: v.optional(v.boolean(), true),
  receipt_window: v.optional(duration, "250ms"),
  /** Members of a conversation that is told of receipts at most; beyond it they count for oneself [REC3]. */
  receipts_max_members: v.optional(whole(0, 10_000), 100),
});

const presence = v.strictObject({
  offline_grace: v.optional(duration, "10s"),
  visible_to: v.optional(v.picklist(["shared_conversation", "everyone"]), "shared_conversation"),
  update_interval: v.optional(duration, "1s"),
  max_devices: v.optional(whole(1, 1000), 10),
  /** Members that a conversation has at most for `presence` to be asked for by its id [SUB1]. */
  watch_max: v.optional(whole(1, 10_000), 1_000),
  /** Whether role `service` is told of invisible people as such by `presence.query` [BAK1]. */
  service_sees_invisible: v.optional(v.boolean(), false),
});

const typing = v.strictObject({
  timeout: v.optional(interval, "10s"),
  relay_interval: v.optional(duration, "3s"),
});

const calls = v.strictObject({
  allowed_between: v.optional(v.picklist(["shared_conversation", "everyone"]), "shared_conversation"),
  ring_timeout: v.optional(interval, "60s"),
  reconnect_timeout: v.optional(duration, "30s"),
  /** Whether a caller is told that the callee is in another call, which rings there all the same. */
  busy: v.optional(v.boolean(), false),
});

const push = v.strictObject({
  /** Whether backends are told of what was missed; `auto`: from the first time that one has subscribed to `missed` on [BAK3]. */
  enabled: v.optional(whether, "auto"),
  /** How long an event has to find a device, to be read or to be acknowledged. */
  after: v.optional(duration, "5s"),
});

const bucket = (perMinute: number, burst: number) =>
  v.optional(
    v.strictObject({
      per_minute: v.optional(whole(1, 10_000_000), perMinute),
      burst: v.optional(whole(1, 10_000_000), burst),
    }),
    {},
  );

const rateLimits = v.strictObject({
  enabled: v.optional(v.boolean(), true),
  default: bucket(120, 60),
  /** Caused by others' messages: `mark.*` and `ack` must not use up what sending needs. */
  mark: bucket(600, 300),
  /** `subscribe`, `unsubscribe`, `history`, `members`, `presence.query`, weighed by what they cost. */
  reading: bucket(300, 150),
  /** `event.send`: the application's own events, sent by clients. */
  event: bucket(120, 60),
  "call.ice": bucket(300, 150),
  typing: bucket(60, 30),
  "presence.update": bucket(12, 4),
  authenticate: bucket(5, 5),
  ping: bucket(600, 120),
  /** Backends speak for all their users. */
  publish: bucket(60_000, 5_000),
  /** `admin.*` of connections with the role: a console that is looked at asks some fifty times a minute. */
  admin: bucket(600, 120),
  /** Bytes of `message.send`, `message.edit`, `publish` and `event.send`; null: 4 × `max_message_size` a minute, and one at once. */
  bytes: v.optional(
    v.strictObject({
      per_minute: v.optional(v.nullable(size), null),
      burst: v.optional(v.nullable(size), null),
    }),
    {},
  ),
  /** Going on regardless of `rate_limited` for so long closes with 4103. */
  abuse_window: v.optional(interval, "10s"),
  /** So does going on with so many refused messages. */
  abuse_messages: v.optional(whole(1, 10_000_000), 2_000),
  connections_per_second_per_ip: v.optional(whole(1, 1_000_000), 100),
  failed_authentications_per_minute_per_ip: v.optional(whole(1, 1_000_000), 30),
});

const log = v.strictObject({
  level: v.optional(v.picklist(["debug", "info", "warn", "error", "silent"]), "info"),
  /** `pretty`: lines for people; `json`: one object a line. */
  format: v.optional(v.picklist(["json", "pretty"]), "json"),
  /** How long logged events are kept. */
  retention: v.optional(age, "720h"),
  /** How many of the newest events of a topic are kept. */
  events_per_topic: v.optional(whole(1, 1_000_000_000), 100_000),
  /** Memory for the newest events of topics that are heard here, out of which whoever comes back is served; 0: the log is read each time. */
  replay_memory: v.optional(size, "16MiB"),
});

const operations = v.strictObject({
  /** `host:port` of the internal listener with `/metrics`; null: off [END3]. */
  listen: v.optional(v.nullable(listenAddress), null),
  token: v.optional(v.nullable(v.string()), null),
  token_file: secretFile,
  /** Sockets of the internal listener, beside those of the public one: an operator comes in when that is full. */
  max_connections: v.optional(whole(1, 10_000), 100),
  /** Whether an operator who watches a connection may see what is in its messages. */
  show_payloads: v.optional(v.boolean(), false),
  /** Time from one sample of the last hour to the next; the same on all nodes. */
  sample_interval: v.optional(sampleInterval, "10s"),
  /** How long an answer of `/ready` and `/health` that all is well is good for; it bounds how late an outage is seen [END2]. */
  health_cache: v.optional(interval, "5s"),
});

const traces = v.strictObject({
  /** Where an OTLP/HTTP collector takes traces, such as `http://127.0.0.1:4318/v1/traces`; null: off. */
  endpoint: v.optional(v.nullable(v.string()), null),
  /** Go with each request to it: `authorization=Bearer abc,x-tenant=1`. */
  headers: v.optional(v.nullable(headerTexts), null),
  headers_file: secretFile,
  /** How many of the requests that no client traces are traced. */
  sample_ratio: v.optional(ratio, 1),
});

export const configSchema = v.strictObject({
  server: v.optional(server, {}),
  websocket: v.optional(websocket, {}),
  auth: v.optional(auth, {}),
  directory: v.optional(directory, {}),
  storage: v.optional(storage, {}),
  cluster: v.optional(cluster, {}),
  messages: v.optional(messages, {}),
  /** Types of the application's own events that clients may send by `event.send`, and whether the log keeps them [MSG4]. */
  events: v.optional(eventMap, {}),
  presence: v.optional(presence, {}),
  typing: v.optional(typing, {}),
  calls: v.optional(calls, {}),
  push: v.optional(push, {}),
  rate_limits: v.optional(rateLimits, {}),
  log: v.optional(log, {}),
  operations: v.optional(operations, {}),
  traces: v.optional(traces, {}),
});

/** The settings as the service uses them: durations in milliseconds, sizes in bytes. */
export type Config = v.InferOutput<typeof configSchema>;
