/** Declares what operators send and are told: the payload schemas of `admin.*` and of its replies [ADM1] [PUB3]. */
import * as v from "valibot";
import { parseDuration } from "../config/values.ts";
import {
  flag,
  freeObject,
  identifier,
  identifiers,
  moment,
  pageLimit,
  sequence,
  topicName,
  topicNames,
} from "./fields.ts";
import { limits } from "./limits.ts";

const text = v.string();
/** Names of whatever may be asked for: nodes, addresses, places in a list. */
const name = topicName;

/** Where the page before ended: its `next`. */
const page = {
  after: v.optional(name),
  limit: pageLimit({ most: limits.adminPage, usual: 100 }),
};

const closeReason = v.optional(
  v.pipe(v.string(), v.maxBytes(limits.closeReasonBytes, `must have at most ${limits.closeReasonBytes} bytes`)),
);

/** Milliseconds of the longest block. */
export const blockMsMax = limits.blockYears * 365 * 86_400_000;
const blockForFault = `must be seconds or a duration such as 30s, 10m, 24h or 7d, at most ${limits.blockYears} years`;
const blockFor = v.union(
  [
    v.pipe(
      v.number(),
      v.minValue(0, "must not be negative"),
      v.maxValue(blockMsMax / 1_000, `must be at most ${limits.blockYears} years`),
    ),
    v.pipe(v.string(), v.regex(/^\d{1,9}(\.\d{1,3})?(ms|s|m|h|d)$/, blockForFault)),
  ],
  blockForFault,
);

const ageFault = `must be a duration from ${limits.retentionMinutesMin}m to ${limits.retentionDaysMax}d, such as 12h or 30d, or null`;
/** How long the events of a conversation stay; null: as the log keeps them. */
const conversationRetention = v.nullable(
  v.pipe(
    v.string(ageFault),
    v.regex(/^\d{1,12}(\.\d{1,3})?(ms|s|m|h|d)$/, ageFault),
    v.check((text) => {
      const ms = parseDuration(text);
      return ms !== null && ms >= limits.retentionMinutesMin * 60_000 && ms <= limits.retentionDaysMax * 86_400_000;
    }, ageFault),
  ),
);

const changeTopics = v.object({
  user_id: identifier,
  topics: topicNames,
});
const changeMembers = v.object({ conversation_id: identifier, user_ids: identifiers(limits.namesPerRequest) });

/** Client → server; each needs the role `admin`. */
export const adminRequests = {
  "admin.stats": v.object({}),
  /** `after`: the `at` of the last one that is known. */
  "admin.samples": v.object({ node_id: v.optional(name), after: v.optional(moment) }),
  "admin.connections": v.object({
    user_id: v.optional(identifier),
    node_id: v.optional(name),
    device_id: v.optional(identifier),
    address: v.optional(name),
    ...page,
  }),
  "admin.connection": v.object({ connection_id: identifier }),
  /** `payloads`: shown as well, where the configuration allows it. */
  "admin.watch": v.object({ connection_id: identifier, payloads: v.optional(flag, false) }),
  "admin.unwatch": v.object({ watch_id: identifier }),
  "admin.disconnect": v.pipe(
    v.object({
      user_id: v.optional(identifier),
      connection_id: v.optional(identifier),
      device_id: v.optional(identifier),
      reason: closeReason,
    }),
    v.forward(
      v.check(
        ({ user_id, connection_id, device_id }) => (user_id ?? connection_id ?? device_id) !== undefined,
        "needs user_id, connection_id or device_id",
      ),
      ["user_id"],
    ),
  ),
  "admin.topics": v.object({ prefix: v.optional(name), ...page }),
  "admin.topic": v.object({ topic: topicName }),
  "admin.subscribe": changeTopics,
  "admin.unsubscribe": changeTopics,
  "admin.nodes": v.object({}),
  /** `for`: seconds, or a duration; 0 lifts the block. */
  "admin.block": v.object({ user_id: identifier, for: blockFor, reason: closeReason }),
  "admin.user": v.object({ user_id: identifier }),
  "admin.members": v.object({ conversation_id: identifier, ...page }),
  "admin.members.add": changeMembers,
  "admin.members.remove": changeMembers,
  "admin.members.update": v.object({ conversation_id: identifier, user_id: identifier, may_write: flag }),
  "admin.conversations.update": v.object({ conversation_id: identifier, retention: conversationRetention }),
  "admin.users.erase": v.object({ user_id: identifier }),
  "admin.users.erasure": v.object({ user_id: identifier }),
  "admin.users.upsert": v.object({ user_ids: identifiers(limits.namesPerRequest) }),
  "admin.users.disable": v.object({ user_id: identifier, disabled: v.optional(flag, true) }),
} as const;

/** Nodes that did not answer in time: what the reply says is without them. */
const missing = { missing_nodes: v.array(text) };

const connectionView = v.object({
  connection_id: text,
  node_id: text,
  /** Null before authentication. */
  user_id: v.nullable(identifier),
  device_id: text,
  address: text,
  roles: v.array(text),
  format: v.picklist(["json", "protobuf"]),
  connected_at: moment,
  last_heard_at: moment,
  /** Bytes that wait for the client. */
  buffered_bytes: sequence,
});
export type ConnectionView = v.InferOutput<typeof connectionView>;

const healthStatus = v.picklist(["up", "degraded", "down"]);
/** Has what a node's `/health` says [END2]. */
const nodeHealth = v.object({
  status: healthStatus,
  checks: v.record(v.string(), v.object({ status: healthStatus, latency_ms: sequence, error: v.optional(text) })),
  draining: flag,
});
export type NodeHealth = v.InferOutput<typeof nodeHealth>;

const stats = v.record(v.string(), v.number());

/** Sums up what happened within one step of time, on one node or on all, and how things stood at its end. */
const sample = v.object({
  /** When the step began. */
  at: moment,
  connections: sequence,
  /** Well-formed requests, and messages written to sockets: a conversation's event counts once for each that hears it. */
  messages_in: sequence,
  messages_out: sequence,
  /** Events that were published, logged or not. */
  events: sequence,
  /** Batches of the log, and how long they took, ms: the mean and the longest. */
  appends: sequence,
  append_ms: v.number(),
  append_ms_max: v.number(),
  /** Logged events that somebody heard, and how old they were then, ms. */
  deliveries: sequence,
  delivery_ms: v.number(),
  delivery_ms_max: v.number(),
  /** The log's last position, and how many the node that is furthest behind has not published yet; null: the log did not answer. */
  position: sequence,
  lag: v.nullable(sequence),
  /** Events that backends were told of as missed. */
  missed: sequence,
  /** Connections that were closed for being too slow. */
  slow_clients: sequence,
  /** By code of the error reply, or by HTTP status of the refused connection. */
  refusals: v.record(v.string(), v.number()),
  /** Of the processes. */
  memory_bytes: sequence,
});

/** Shows one message of a watched connection. */
const watchedMessage = v.object({
  at: moment,
  /** Seen from the server. */
  direction: v.picklist(["received", "sent"]),
  type: text,
  topic: v.optional(text),
  seq: v.optional(sequence),
  /** Of the message as it travels, before it is compressed. */
  bytes: sequence,
  /** Left out of large ones, and of what bears a token. */
  payload: v.optional(freeObject),
});
export type WatchedMessage = v.InferOutput<typeof watchedMessage>;

/** The topic that what is seen of a connection travels on; nobody subscribes to it by itself. */
export const watchTopic = (watchId: string) => `watch:${watchId}`;

const disconnected = { disconnected: sequence, ...missing };

/** Server → client, each with `reply_to`. The changes of the directory are answered by `ack`. */
export const adminReplies = {
  "admin.stats": v.object({
    /** Of all nodes together. */
    hub: stats,
    subscriptions: stats,
    sequencer: stats,
    typing: stats,
    sessions: stats,
    presence: stats,
    calls: stats,
    log: stats,
    push: stats,
    erasure: stats,
    cluster: stats,
    nodes: v.array(v.object({ node_id: text, figures: v.record(v.string(), stats) })),
    ...missing,
  }),
  "admin.samples": v.object({
    /** Milliseconds from one to the next. */
    step_ms: sequence,
    /** Oldest first. */
    samples: v.array(sample),
    ...missing,
  }),
  "admin.connections": v.object({
    connections: v.array(connectionView),
    /** How many match in all. */
    total: sequence,
    /** To be given as `after` for the next page; null where this is the last. */
    next: v.nullable(text),
    ...missing,
  }),
  "admin.connection": v.object({
    connection: v.object({ ...connectionView.entries, topics: v.array(text), topic_count: sequence }),
    ...missing,
  }),
  "admin.watch": v.object({
    watch_id: text,
    connection_id: text,
    node_id: text,
    user_id: v.nullable(identifier),
    device_id: text,
    payloads: flag,
    ...missing,
  }),
  /** An event, to the connection that watches alone. */
  "admin.watched": v.object({
    watch_id: text,
    messages: v.array(watchedMessage),
    /** How many more there were. */
    left_out: sequence,
    /** Why nothing more comes. */
    ended: v.optional(v.picklist(["closed", "lost", "forbidden"])),
    /** Of the close, where that is known. */
    code: v.optional(sequence),
  }),
  "admin.disconnect": v.object(disconnected),
  "admin.topics": v.object({
    topics: v.array(v.object({ topic: text, subscribers: sequence })),
    next: v.nullable(text),
    ...missing,
  }),
  "admin.topic": v.object({
    topic: text,
    subscribers: sequence,
    nodes: v.array(v.object({ node_id: text, subscribers: sequence })),
    /** Some of those who hear it. */
    connections: v.array(v.object({ connection_id: text, user_id: identifier, device_id: text, node_id: text })),
    /** Null for a topic that is not logged. */
    head: v.nullable(v.object({ seq: sequence, position: sequence })),
    ...missing,
  }),
  "admin.subscribe": v.object({
    connections: v.array(
      v.object({
        connection_id: text,
        node_id: text,
        topics: v.array(text),
        rejected: v.array(v.object({ topic: text, code: text })),
      }),
    ),
    ...missing,
  }),
  "admin.unsubscribe": v.object({
    connections: v.array(v.object({ connection_id: text, node_id: text, topics: v.array(text) })),
    ...missing,
  }),
  "admin.nodes": v.object({
    nodes: v.array(
      v.object({
        node_id: text,
        version: text,
        started_at: moment,
        seen_at: moment,
        connections: sequence,
        answers: flag,
        /** Null where it does not answer. */
        health: v.nullable(nodeHealth),
      }),
    ),
    ...missing,
  }),
  "admin.members": v.object({
    conversation_id: identifier,
    members: v.array(v.object({ user_id: identifier, may_write: flag })),
    next: v.nullable(text),
  }),
  "admin.user": v.object({
    user_id: identifier,
    /** By the directory, whether or not there is a block. */
    state: v.picklist(["active", "disabled", "unknown"]),
    /** When its block ends; null: it is not blocked. */
    blocked_until: v.nullable(moment),
  }),
  "admin.users.erasure": v.object({
    user_id: identifier,
    /** `none`: nobody has asked for it, or it was finished so long ago that it is forgotten. */
    state: v.picklist(["none", "running", "finished"]),
    /** Of the user that are deleted by now. */
    messages: sequence,
    /** How much of the log was looked through. */
    percent: sequence,
    requested_at: v.nullable(moment),
    started_at: v.nullable(moment),
    finished_at: v.nullable(moment),
  }),
  "admin.block": v.object({ user_id: identifier, until: v.nullable(moment), ...disconnected }),
} as const;
