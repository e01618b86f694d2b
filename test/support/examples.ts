/** One or more valid payloads of every message type, with every field used somewhere; for tests of formats and clients. */
import type { ClientMessageType } from "../../src/protocol/client.ts";
import type { ServerMessageType } from "../../src/protocol/server.ts";

type Payload = Record<string, unknown>;

const callId = "5a0d3b54-7d0e-4f0e-9c33-0d2f6a1c9e10";
const cursor = "k7m2x9qd.3mv";
const at = "2026-01-02T03:04:05.678Z";
const later = "2026-01-02T04:04:05.000Z";
const health = {
  status: "degraded",
  checks: {
    storage: { status: "up", latency_ms: 2 },
    cluster: { status: "degraded", latency_ms: 1_000, error: "no answer within 1000 ms" },
  },
  draining: false,
} as const;
const sdp = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\n";
const candidate = { candidate: "candidate:1 1 udp 2130706431 127.0.0.1 50000 typ host", sdpMid: "0", sdpMLineIndex: 0 };
/** Holds what any codec must bring over unchanged. */
const odd = {
  text: 'Zoë 🙂 \u0000 "quoted"',
  empty: "",
  none: null,
  yes: true,
  no: false,
  zero: 0,
  negative: -1.5e-7,
  large: Number.MAX_SAFE_INTEGER,
  nested: { list: [1, "two", [], {}, null, [{ deep: [false] }]], "": "no name" },
};

export const clientExamples: Record<ClientMessageType, Payload[]> = {
  ping: [{}],
  authenticate: [
    { token: "a.b.c" },
    { token: "a.b.c", device_id: "phone", since: "acked" },
    { token: "a.b.c", since: { cursor } },
    { token: "a.b.c", since: { cursor: "~".repeat(64), seen: { "conversation:c1": 7, "user:u1": 0 } } },
  ],
  subscribe: [
    { topics: ["conversation"] },
    { topics: ["conversation", "typing"], filters: { conversation_id: "c1" }, since: "acked" },
    { topics: ["presence"], filters: { user_ids: ["u1", "u2"], user_id: "u3" }, since: { cursor } },
    { topics: ["conversation:c1"], filters: {}, since: { cursor, seen: { "conversation:c1": 13 } } },
  ],
  unsubscribe: [{ topics: ["typing"], filters: { conversation_ids: ["c1", "c2"] } }, { topics: ["calls"] }],
  ack: [{ cursor }, { cursor: "0" }],
  history: [
    { topic: "conversation:c1" },
    { topic: "conversation:c1", before_seq: 100, limit: 200 },
    { topic: "conversation:c1", after_seq: 0, limit: 1 },
    { topic: "conversation:c1", types: ["message.new", "poll.vote"] },
  ],
  "message.send": [
    { conversation_id: "c1", client_message_id: "m-1", content: "hello" },
    { conversation_id: "c1", client_message_id: "m-2", content: "" },
    { conversation_id: "c1", client_message_id: "m-3", content: odd },
    { conversation_id: "c1", client_message_id: "m-4", content: {} },
  ],
  "message.edit": [
    { conversation_id: "c1", message_id: "m1", content: "hello" },
    { conversation_id: "c1", message_id: "m1", content: odd },
  ],
  "message.delete": [{ conversation_id: "c1", message_id: "m1" }],
  "reaction.add": [{ conversation_id: "c1", message_id: "m1", reaction: "👍" }],
  "reaction.remove": [{ conversation_id: "c1", message_id: "m1", reaction: ":party:" }],
  "event.send": [
    { conversation_id: "c1", type: "poll.vote", payload: odd, client_event_id: "v-1" },
    { conversation_id: "c1", type: "recording", payload: {} },
  ],
  members: [{ conversation_id: "c1" }, { conversation_id: "c1", after: "u1", limit: 500 }],
  "mark.delivered": [
    { conversation_id: "c1", message_ids: ["m1", "m2"] },
    { conversation_id: "c1", up_to_seq: 12 },
  ],
  "mark.read": [
    { conversation_id: "c1", message_ids: ["m1"], private: true },
    { conversation_id: "c1", up_to_seq: 0, private: false },
  ],
  "presence.update": [
    { status: "online" },
    { status: "away", status_text: "lunch", status_emoji: "🍜", expires_at: later },
    { status: "busy", status_text: null, status_emoji: null, expires_at: null },
    { status: "invisible", status_text: "", automatic: true },
  ],
  "presence.query": [{ user_ids: ["u1", "u2"] }],
  "typing.start": [{ conversation_id: "c1" }],
  "typing.stop": [{ conversation_id: "c1" }],
  "call.offer": [
    { call_id: callId, to_user_id: "u2", conversation_id: "c1", media: "video", sdp },
    { call_id: callId, sdp },
    { call_id: callId, media: "video", sdp },
  ],
  "call.answer": [{ call_id: callId, sdp }],
  "call.ice": [
    { call_id: callId, candidates: [candidate, "candidate:2"] },
    { call_id: callId, candidates: null },
  ],
  "call.hangup": [{ call_id: callId }, { call_id: callId, reason: "declined" }],
  publish: [
    { topic: "conversation:c1", type: "poll.closed", payload: odd, event_key: "poll-1", logged: true },
    { user_ids: ["u1", "u2"], type: "notification", payload: {}, except_device: "phone" },
    { conversation_id: "c1", type: "message.new", payload: { text: "hi" }, logged: false },
    { all: true, type: "maintenance", payload: { at } },
  ],
  "admin.stats": [{}],
  "admin.samples": [{}, { node_id: "node-1", after: at }],
  "admin.watch": [{ connection_id: "x1" }, { connection_id: "x1", payloads: true }],
  "admin.unwatch": [{ watch_id: "w1" }],
  "admin.connections": [
    {},
    { user_id: "u1", device_id: "phone", node_id: "node-1", address: "127.0.0.1", after: "x1", limit: 500 },
    { user_id: "u1", limit: 1 },
  ],
  "admin.connection": [{ connection_id: "x1" }],
  "admin.disconnect": [
    { user_id: "u9" },
    { connection_id: "x1", reason: "a leaked token" },
    { user_id: "u9", device_id: "phone", reason: "" },
  ],
  "admin.topics": [{}, { prefix: "conversation:", after: "conversation:c1", limit: 10 }],
  "admin.topic": [{ topic: "conversation:c1" }],
  "admin.subscribe": [{ user_id: "u9", topics: ["conversation:c1", "typing"] }],
  "admin.unsubscribe": [{ user_id: "u9", topics: ["conversation:c1"] }],
  "admin.nodes": [{}],
  "admin.block": [
    { user_id: "u9", for: "10m", reason: "spam" },
    { user_id: "u9", for: 600 },
    { user_id: "u9", for: 0 },
  ],
  "admin.user": [{ user_id: "u9" }],
  "admin.members": [{ conversation_id: "c9" }, { conversation_id: "c9", after: "u1", limit: 10 }],
  "admin.members.add": [{ conversation_id: "c9", user_ids: ["u8", "u9"] }],
  "admin.members.remove": [{ conversation_id: "c9", user_ids: ["u9"] }],
  "admin.members.update": [
    { conversation_id: "c9", user_id: "u9", may_write: false },
    { conversation_id: "c9", user_id: "u9", may_write: true },
  ],
  "admin.conversations.update": [
    { conversation_id: "c9", retention: "36h" },
    { conversation_id: "c9", retention: null },
  ],
  "admin.users.erase": [{ user_id: "u99" }],
  "admin.users.erasure": [{ user_id: "u99" }],
  "admin.users.upsert": [{ user_ids: ["u8", "u9"] }],
  "admin.users.disable": [{ user_id: "u9" }, { user_id: "u9", disabled: false }],
};

const receipt = { conversation_id: "c1", user_id: "u1", message_ids: ["m1", "m2"], up_to_seq: 12, at };

const connection = {
  connection_id: "x1",
  node_id: "node-1",
  user_id: "u1",
  device_id: "phone",
  address: "192.0.2.7",
  roles: ["service"],
  format: "json",
  connected_at: at,
  last_heard_at: later,
  buffered_bytes: 0,
};

export const serverExamples: Record<ServerMessageType, Payload[]> = {
  connected: [
    {
      connection_id: "x1",
      device_id: "phone",
      user_id: "u1",
      authenticated: true,
      protocol_version: 1,
      server_time: at,
      ping_interval_ms: 54000,
      max_message_size: 10485760,
    },
    {
      connection_id: "x2",
      device_id: "d2",
      user_id: null,
      authenticated: false,
      protocol_version: 1,
      server_time: at,
      ping_interval_ms: 54000,
      max_message_size: 10485760,
      auth_timeout_ms: 10000,
    },
  ],
  "auth.success": [
    { user_id: "u1", device_id: "phone", roles: ["service", "admin"], expires_at: later, acked_cursor: cursor },
    { user_id: "u1", device_id: "phone", roles: [], expires_at: null, acked_cursor: null },
    { user_id: "u1", device_id: "phone", roles: [], expires_at: null, acked_cursor: "0" },
  ],
  "auth.failed": [{ code: "token_expired", retryable: true }],
  "auth.expiring": [{ expires_at: later }],
  subscribed: [
    { topics: [], rejected: [], rejected_count: 0, cursor },
    {
      topics: [
        { topic: "user:u1" },
        {
          topic: "conversation:c1",
          seq: 12,
          recovered: true,
          replayed: 3,
          snapshot: { as_of_seq: 12, read_seq: 9, delivered_seq: 12, unread: 3 },
        },
        {
          topic: "conversation:c2",
          seq: 1,
          snapshot: {
            as_of_seq: 1,
            read_seq: 0,
            delivered_seq: 0,
            unread: 1,
            last_message: {
              id: "e1",
              type: "message.new",
              topic: "conversation:c2",
              seq: 1,
              position: 2,
              timestamp: at,
              payload: odd,
            },
            receipts: [{ user_id: "u2", read_seq: 0, delivered_seq: 1 }],
          },
        },
        {
          topic: "conversation:c3",
          seq: 0,
          snapshot: { as_of_seq: 0, read_seq: 0, delivered_seq: 0, unread: 0, last_message: null, receipts: [] },
        },
        { topic: "typing:c1", snapshot: { typing: [{ user_id: "u2", conversation_id: "c1", expires_at: later }] } },
        { topic: "typing:c2", snapshot: { typing: [] } },
        { topic: "presence:u2", snapshot: { presence: { user_id: "u2", status: "online" } } },
        { topic: "calls:u1", recovered: false, snapshot: {} },
      ],
      rejected: [{ topic: "conversation:c9", code: "forbidden" }],
      cursor,
    },
  ],
  unsubscribed: [{ topics: ["typing:c1"] }, { topics: ["conversation:c1"], reason: "access_revoked" }, { topics: [] }],
  pong: [{ server_time: at }, { server_time: at, cursor }],
  ack: [
    {},
    { cursor },
    {
      message_id: "m1",
      topic: "conversation:c1",
      seq: 13,
      position: 4712,
      created_at: at,
      duplicate: false,
    },
    { message_id: "m1", topic: "conversation:c1", seq: 14, position: 4713, at, duplicate: false },
    { up_to_seq: 12, unread: 3, as_of_seq: 15 },
    { busy: true },
    { published: [{ topic: "user:u1", seq: 1, position: 9, duplicate: true }, { topic: "typing:c1" }], receivers: 3 },
    { published: [] },
  ],
  error: [
    { code: "invalid_payload", message: "must not be empty", retryable: false, field: "payload.candidates.0" },
    { code: "rate_limited", message: "Slow down.", retryable: true, retry_after_ms: 250 },
  ],
  history: [
    {
      topic: "conversation:c1",
      events: [
        {
          id: "e1",
          type: "message.new",
          topic: "conversation:c1",
          seq: 1,
          position: 2,
          timestamp: at,
          payload: odd,
        },
      ],
      has_more: true,
    },
    { topic: "conversation:c2", events: [], has_more: false },
  ],
  "message.new": [
    ...["hello", odd].map((content) => ({
      message_id: "m1",
      client_message_id: "m-1",
      conversation_id: "c1",
      sender_id: "u1",
      content,
      created_at: at,
      edited_at: later,
      reactions: [{ reaction: "👍", count: 21, user_ids: ["u1", "u2"] }],
    })),
    { message_id: "m1", conversation_id: "c1", sender_id: "u1", content: null, created_at: at, deleted_at: later },
  ],
  "message.edited": ["hello", odd].map((content) => ({
    conversation_id: "c1",
    message_id: "m1",
    content,
    edited_at: at,
    edited_by: "u1",
  })),
  "message.deleted": [{ conversation_id: "c1", message_id: "m1", deleted_at: at, deleted_by: "u1" }],
  "message.reaction": [
    { conversation_id: "c1", message_id: "m1", user_id: "u2", reaction: "👍", added: true, at },
    { conversation_id: "c1", message_id: "m1", user_id: "u2", reaction: ":party:", added: false, at },
  ],
  members: [
    { conversation_id: "c1", user_ids: ["u1", "u2"], may_not_write: ["u2"], next: "u2" },
    { conversation_id: "c1", user_ids: [], may_not_write: [], next: null },
  ],
  "member.added": [
    { conversation_id: "c1", user_id: "u2", at },
    { conversation_id: "c1", user_id: "u3", may_write: false, at },
  ],
  "member.removed": [{ conversation_id: "c1", user_id: "u2", at }],
  "member.updated": [
    { conversation_id: "c1", user_id: "u2", may_write: false, at },
    { conversation_id: "c1", user_id: "u2", may_write: true, at },
  ],
  "members.changed": [{ conversation_id: "c1", at }, { at }],
  "message.delivered": [receipt, { ...receipt, message_ids: [], private: false }],
  "message.read": [receipt, { ...receipt, private: true }],
  "presence.online": [
    { user_id: "u1", status: "online", at },
    { user_id: "u1", status: "busy", status_text: "in a call", status_emoji: "📞", at },
  ],
  "presence.offline": [{ user_id: "u1" }, { user_id: "u1", last_seen: at }],
  "presence.update": [
    { user_id: "u1", status: "away", status_text: "lunch", status_emoji: "🍜", expires_at: later, at },
    { user_id: "u1", status: "online", status_text: null, status_emoji: null, at },
    {
      users: [
        { user_id: "u1", status: "invisible", status_text: "a", status_emoji: "b", expires_at: later, devices: 2 },
        { user_id: "u2", status: "offline", last_seen: at },
      ],
    },
    { users: [] },
  ],
  "typing.start": [{ user_id: "u1", conversation_id: "c1", expires_at: later }],
  "typing.stop": [
    { user_id: "u1", conversation_id: "c1" },
    { user_id: "u1", conversation_id: "c1", expires_at: later },
  ],
  "call.incoming": [
    {
      call_id: callId,
      from_user_id: "u1",
      from_device_id: "phone",
      conversation_id: "c1",
      media: "audio",
      sdp,
      expires_at: later,
    },
    { call_id: callId, from_user_id: "u1", from_device_id: "phone", media: "video", sdp, expires_at: later },
  ],
  "call.offer": [
    { call_id: callId, from_user_id: "u1", sdp },
    { call_id: callId, from_user_id: "u1", media: "video", sdp },
  ],
  "call.answer": [{ call_id: callId, from_user_id: "u2", from_device_id: "laptop", sdp }],
  "call.ice": [
    { call_id: callId, from_user_id: "u1", candidates: [candidate, "candidate:2"] },
    { call_id: callId, from_user_id: "u1", candidates: null },
  ],
  "call.ended": [
    { call_id: callId, reason: "hangup", ended_by: "u1", duration_ms: 61000 },
    { call_id: callId, reason: "timeout", from_user_id: "u1", conversation_id: "c1", media: "audio" },
  ],
  "delivery.missed": [
    { event_id: "m1", topic: "conversation:c1", seq: 13, type: "message.new", user_ids: ["u2", "u3"], sender_id: "u1" },
    { event_id: "m2", topic: "notifications:u2", seq: 1, type: "notification", user_ids: ["u2"] },
  ],
  "call.unreached": [{ call_id: callId, from_user_id: "u1", to_user_id: "u2", media: "video", expires_at: later }],
  draining: [{ reconnect_after_ms: 1500 }, { reconnect_after_ms: 0 }],
  "admin.stats": [
    {
      hub: { connections: 3, authenticated: 3, accepted: 17 },
      subscriptions: { subscribes: 5, catching_up: 0, replayed_events: 12 },
      sequencer: { topics: 4, waiting: 0, position: 4711 },
      typing: { typing: 1 },
      sessions: { cleaning_up: 0 },
      presence: { users: 2, devices: 3 },
      calls: { calls: 0 },
      log: { events: 4711, topics: 90, position: 4711, waiting: 0 },
      push: { on: 1, turn: 1, told: 12, users: 15, behind: 0, oldest_ms: 0 },
      erasure: { running: 1 },
      cluster: { nodes: 2, topics: 8 },
      nodes: [{ node_id: "node-1", figures: { hub: { connections: 3, users: 2 }, typing: {} } }],
      missing_nodes: ["node-2"],
    },
  ],
  "admin.samples": [
    {
      step_ms: 10_000,
      samples: [
        {
          at,
          connections: 3,
          messages_in: 120,
          messages_out: 360,
          events: 90,
          appends: 45,
          append_ms: 1.25,
          append_ms_max: 7.5,
          deliveries: 90,
          delivery_ms: 2.5,
          delivery_ms_max: 12,
          position: 4711,
          lag: 0,
          missed: 1,
          slow_clients: 0,
          refusals: { forbidden: 2, "401": 1 },
          memory_bytes: 90_000_000,
        },
      ],
      missing_nodes: [],
    },
    { step_ms: 10_000, samples: [], missing_nodes: ["node-2"] },
  ],
  "admin.watch": [
    {
      watch_id: "w1",
      connection_id: "x1",
      node_id: "node-1",
      user_id: "u1",
      device_id: "phone",
      payloads: false,
      missing_nodes: [],
    },
    {
      watch_id: "w1",
      connection_id: "x1",
      node_id: "node-1",
      user_id: null,
      device_id: "phone",
      payloads: true,
      missing_nodes: ["node-2"],
    },
  ],
  "admin.watched": [
    {
      watch_id: "w1",
      messages: [
        { at, direction: "received", type: "ping", bytes: 24, payload: {} },
        { at, direction: "sent", type: "message.new", topic: "conversation:c1", seq: 12, bytes: 240 },
      ],
      left_out: 0,
    },
    { watch_id: "w1", messages: [], left_out: 7, ended: "closed", code: 1000 },
    { watch_id: "w1", messages: [], left_out: 0, ended: "lost" },
  ],
  "admin.members": [
    { conversation_id: "c9", members: [{ user_id: "u1", may_write: true }], next: "u1" },
    { conversation_id: "c9", members: [{ user_id: "u2", may_write: false }], next: null },
  ],
  "admin.connections": [
    { connections: [connection, { ...connection, user_id: null, roles: [] }], total: 7, next: "x1", missing_nodes: [] },
    { connections: [], total: 0, next: null, missing_nodes: ["node-2"] },
  ],
  "admin.connection": [
    { connection: { ...connection, topics: ["conversation:c1", "user:u1"], topic_count: 2 }, missing_nodes: [] },
  ],
  "admin.disconnect": [{ disconnected: 2, missing_nodes: [] }],
  "admin.topics": [
    { topics: [{ topic: "conversation:c1", subscribers: 3 }], next: "conversation:c1", missing_nodes: [] },
    { topics: [], next: null, missing_nodes: ["node-2"] },
  ],
  "admin.topic": [
    {
      topic: "conversation:c1",
      subscribers: 1,
      nodes: [{ node_id: "node-1", subscribers: 1 }],
      connections: [{ connection_id: "x1", user_id: "u1", device_id: "phone", node_id: "node-1" }],
      head: { seq: 12, position: 4711 },
      missing_nodes: [],
    },
    { topic: "typing:c1", subscribers: 0, nodes: [], connections: [], head: null, missing_nodes: [] },
  ],
  "admin.subscribe": [
    {
      connections: [
        {
          connection_id: "x1",
          node_id: "node-1",
          topics: ["conversation:c1"],
          rejected: [{ topic: "conversation:c9", code: "forbidden" }],
        },
      ],
      missing_nodes: [],
    },
  ],
  "admin.unsubscribe": [
    { connections: [{ connection_id: "x1", node_id: "node-1", topics: ["conversation:c1"] }], missing_nodes: [] },
  ],
  "admin.nodes": [
    {
      nodes: [
        { node_id: "node-1", version: "1.0.0", started_at: at, seen_at: later, connections: 3, answers: true, health },
        {
          node_id: "node-2",
          version: "1.0.0",
          started_at: at,
          seen_at: at,
          connections: 0,
          answers: false,
          health: null,
        },
      ],
      missing_nodes: ["node-2"],
    },
  ],
  "admin.user": [
    { user_id: "u9", state: "active", blocked_until: at },
    { user_id: "u9", state: "unknown", blocked_until: null },
  ],
  "admin.users.erasure": [
    {
      user_id: "u99",
      state: "running",
      messages: 150,
      percent: 40,
      requested_at: at,
      started_at: later,
      finished_at: null,
    },
    {
      user_id: "u98",
      state: "none",
      messages: 0,
      percent: 0,
      requested_at: null,
      started_at: null,
      finished_at: null,
    },
  ],
  "admin.block": [
    { user_id: "u9", until: later, disconnected: 1, missing_nodes: [] },
    { user_id: "u9", until: null, disconnected: 0, missing_nodes: [] },
  ],
  notification: [{}, odd],
};
