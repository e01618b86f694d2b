/** The payload of every message of the wire, written by `npm run generate` from the schemas of the protocol. */

export type JsonObject = Record<string, unknown>;

/** The content of a message: text, or an object of the application's. */
export type Content = string | JsonObject;

/** Payloads that a client sends, by type. */
export interface ClientPayloads {
  ping: Record<string, never>;
  authenticate: {
    token: string;
    device_id?: string;
    since?: "acked" | { cursor: string; seen?: Record<string, number> };
  };
  subscribe: {
    topics: string[];
    filters?: { conversation_id?: string; conversation_ids?: string[]; user_id?: string; user_ids?: string[] };
    since?: "acked" | { cursor: string; seen?: Record<string, number> };
  };
  unsubscribe: {
    topics: string[];
    filters?: { conversation_id?: string; conversation_ids?: string[]; user_id?: string; user_ids?: string[] };
  };
  ack: { cursor: string };
  history: { topic: string; before_seq?: number; after_seq?: number; limit?: number; types?: string[] };
  "message.send": { conversation_id: string; client_message_id: string; content: Content };
  "message.edit": { conversation_id: string; message_id: string; content: Content };
  "message.delete": { conversation_id: string; message_id: string };
  "reaction.add": { conversation_id: string; message_id: string; reaction: string };
  "reaction.remove": { conversation_id: string; message_id: string; reaction: string };
  "event.send": { conversation_id: string; type: string; payload: JsonObject; client_event_id?: string };
  members: { conversation_id: string; after?: string; limit?: number };
  "mark.delivered": { conversation_id: string; message_ids?: string[]; up_to_seq?: number };
  "mark.read": { conversation_id: string; message_ids?: string[]; up_to_seq?: number; private?: boolean };
  "presence.update": {
    status: "online" | "away" | "busy" | "invisible";
    status_text?: string | null;
    status_emoji?: string | null;
    expires_at?: string | null;
    automatic?: boolean;
  };
  "presence.query": { user_ids: string[] };
  "typing.start": { conversation_id: string };
  "typing.stop": { conversation_id: string };
  "call.offer": {
    call_id: string;
    to_user_id?: string;
    conversation_id?: string;
    media?: "audio" | "video";
    sdp: string;
  };
  "call.answer": { call_id: string; sdp: string };
  "call.ice": { call_id: string; candidates: (string | JsonObject)[] | null };
  "call.hangup": {
    call_id: string;
    reason?: "hangup" | "cancelled" | "declined" | "busy" | "ice_failed" | "media_failed" | "error";
  };
  publish: {
    topic?: string;
    user_ids?: string[];
    conversation_id?: string;
    all?: true;
    type: string;
    payload: JsonObject;
    event_key?: string;
    logged?: boolean;
    except_device?: string;
  };
  "admin.stats": Record<string, never>;
  "admin.samples": { node_id?: string; after?: string };
  "admin.connections": {
    user_id?: string;
    node_id?: string;
    device_id?: string;
    address?: string;
    after?: string;
    limit?: number;
  };
  "admin.connection": { connection_id: string };
  "admin.watch": { connection_id: string; payloads?: boolean };
  "admin.unwatch": { watch_id: string };
  "admin.disconnect": { user_id?: string; connection_id?: string; device_id?: string; reason?: string };
  "admin.topics": { prefix?: string; after?: string; limit?: number };
  "admin.topic": { topic: string };
  "admin.subscribe": { user_id: string; topics: string[] };
  "admin.unsubscribe": { user_id: string; topics: string[] };
  "admin.nodes": Record<string, never>;
  "admin.block": { user_id: string; for: number | string; reason?: string };
  "admin.user": { user_id: string };
  "admin.members": { conversation_id: string; after?: string; limit?: number };
  "admin.members.add": { conversation_id: string; user_ids: string[] };
  "admin.members.remove": { conversation_id: string; user_ids: string[] };
  "admin.members.update": { conversation_id: string; user_id: string; may_write: boolean };
  "admin.conversations.update": { conversation_id: string; retention: string | null };
  "admin.users.erase": { user_id: string };
  "admin.users.erasure": { user_id: string };
  "admin.users.upsert": { user_ids: string[] };
  "admin.users.disable": { user_id: string; disabled?: boolean };
}

/** Names what answers a request; `ack` where no other type is named. */
export interface ReplyTypes {
  ping: "pong";
  authenticate: "auth.success";
  subscribe: "subscribed";
  unsubscribe: "unsubscribed";
  history: "history";
  members: "members";
  "presence.query": "presence.update";
  "admin.stats": "admin.stats";
  "admin.samples": "admin.samples";
  "admin.connections": "admin.connections";
  "admin.connection": "admin.connection";
  "admin.watch": "admin.watch";
  "admin.disconnect": "admin.disconnect";
  "admin.topics": "admin.topics";
  "admin.topic": "admin.topic";
  "admin.subscribe": "admin.subscribe";
  "admin.unsubscribe": "admin.unsubscribe";
  "admin.nodes": "admin.nodes";
  "admin.block": "admin.block";
  "admin.user": "admin.user";
  "admin.members": "admin.members";
  "admin.users.erasure": "admin.users.erasure";
}

/** Payloads that the server sends, by type. */
export interface ServerPayloads {
  connected: {
    connection_id: string;
    device_id: string;
    user_id: string | null;
    authenticated: boolean;
    protocol_version: 1;
    server_time: string;
    ping_interval_ms: number;
    max_message_size: number;
    auth_timeout_ms?: number;
  };
  "auth.success": {
    user_id: string;
    device_id: string;
    roles: string[];
    expires_at: string | null;
    acked_cursor: string | null;
  };
  "auth.failed": {
    code:
      | "token_invalid"
      | "token_expired"
      | "token_not_yet_valid"
      | "user_unknown"
      | "user_disabled"
      | "too_many_devices";
    retryable: boolean;
  };
  "auth.expiring": { expires_at: string };
  subscribed: {
    topics: {
      topic: string;
      seq?: number;
      recovered?: boolean;
      replayed?: number;
      snapshot?: {
        as_of_seq?: number;
        read_seq?: number;
        delivered_seq?: number;
        unread?: number;
        may_write?: boolean;
        last_message?: {
          id: string;
          type: string;
          topic: string;
          seq: number;
          position: number;
          timestamp: string;
          payload: JsonObject;
        } | null;
        receipts?: { user_id: string; read_seq: number; delivered_seq: number }[];
        typing?: { user_id: string; conversation_id: string; expires_at: string }[];
        presence?: {
          user_id: string;
          status: "online" | "away" | "busy" | "offline" | "invisible";
          status_text?: string;
          status_emoji?: string;
          expires_at?: string;
          last_seen?: string;
          devices?: number;
        };
        calls?: {
          call_id: string;
          state: "ringing" | "connecting" | "active";
          peer_user_id: string;
          peer_device_id?: string;
          media: "audio" | "video";
          conversation_id?: string;
          expires_at?: string;
        }[];
      };
    }[];
    rejected: {
      topic: string;
      code: "forbidden" | "limit_exceeded" | "unknown_topic" | "conflict";
      conversation_id?: string;
    }[];
    rejected_count?: number;
    cursor: string;
  };
  unsubscribed: { topics: string[]; reason?: "access_revoked" | "in_log" };
  pong: { server_time: string; cursor?: string };
  ack: {
    cursor?: string;
    message_id?: string;
    topic?: string;
    seq?: number;
    position?: number;
    created_at?: string;
    duplicate?: boolean;
    at?: string;
    up_to_seq?: number;
    unread?: number;
    as_of_seq?: number;
    busy?: boolean;
    published?: { topic: string; seq?: number; position?: number; duplicate?: boolean }[];
    receivers?: number;
  };
  error: {
    code:
      | "invalid_json"
      | "invalid_message"
      | "invalid_payload"
      | "unknown_type"
      | "message_too_large"
      | "not_authenticated"
      | "forbidden"
      | "not_found"
      | "conflict"
      | "rate_limited"
      | "limit_exceeded"
      | "unavailable"
      | "internal"
      | "call_not_found"
      | "call_ended"
      | "call_already_answered"
      | "not_a_party"
      | "call_conflict";
    message: string;
    retryable: boolean;
    retry_after_ms?: number;
    field?: string;
  };
  history: {
    topic: string;
    events: {
      id: string;
      type: string;
      topic: string;
      seq: number;
      position: number;
      timestamp: string;
      payload: JsonObject;
    }[];
    has_more: boolean;
  };
  "message.new": {
    message_id: string;
    client_message_id?: string;
    conversation_id: string;
    sender_id: string;
    content: Content | null;
    created_at: string;
    edited_at?: string;
    deleted_at?: string;
    reactions?: { reaction: string; count: number; user_ids: string[] }[];
  };
  "message.edited": {
    conversation_id: string;
    message_id: string;
    content: Content;
    edited_at: string;
    edited_by?: string;
  };
  "message.deleted": { conversation_id: string; message_id: string; deleted_at: string; deleted_by?: string };
  "message.reaction": {
    conversation_id: string;
    message_id: string;
    user_id: string;
    reaction: string;
    added: boolean;
    at: string;
  };
  members: { conversation_id: string; user_ids: string[]; may_not_write: string[]; next: string | null };
  "member.added": { conversation_id: string; user_id: string; may_write?: boolean; at: string };
  "member.removed": { conversation_id: string; user_id: string; at: string };
  "member.updated": { conversation_id: string; user_id: string; may_write: boolean; at: string };
  "members.changed": { conversation_id?: string; at: string };
  "message.delivered": {
    conversation_id: string;
    user_id: string;
    message_ids: string[];
    up_to_seq: number;
    at: string;
    private?: boolean;
  };
  "message.read": {
    conversation_id: string;
    user_id: string;
    message_ids: string[];
    up_to_seq: number;
    at: string;
    private?: boolean;
  };
  "presence.online": {
    user_id: string;
    status: "online" | "away" | "busy" | "offline" | "invisible";
    status_text?: string;
    status_emoji?: string;
    at: string;
  };
  "presence.offline": { user_id: string; last_seen?: string };
  "presence.update":
    | {
        user_id: string;
        status: "online" | "away" | "busy" | "offline" | "invisible";
        status_text: string | null;
        status_emoji: string | null;
        expires_at?: string;
        at: string;
      }
    | {
        users: {
          user_id: string;
          status: "online" | "away" | "busy" | "offline" | "invisible";
          status_text?: string;
          status_emoji?: string;
          expires_at?: string;
          last_seen?: string;
          devices?: number;
        }[];
      };
  "typing.start": { user_id: string; conversation_id: string; expires_at: string };
  "typing.stop": { user_id: string; conversation_id: string; expires_at?: string };
  "call.incoming": {
    call_id: string;
    from_user_id: string;
    from_device_id: string;
    conversation_id?: string;
    media: "audio" | "video";
    sdp: string;
    expires_at: string;
  };
  "call.offer": { call_id: string; from_user_id: string; media?: "audio" | "video"; sdp: string };
  "call.answer": { call_id: string; from_user_id: string; from_device_id: string; sdp: string };
  "call.ice": { call_id: string; from_user_id: string; candidates: (string | JsonObject)[] | null };
  "call.ended": {
    call_id: string;
    reason:
      | "hangup"
      | "cancelled"
      | "declined"
      | "declined_elsewhere"
      | "answered_elsewhere"
      | "busy"
      | "timeout"
      | "replaced"
      | "connection_lost"
      | "ice_failed"
      | "media_failed"
      | "error";
    ended_by?: string;
    duration_ms?: number;
    from_user_id?: string;
    conversation_id?: string;
    media?: "audio" | "video";
  };
  "delivery.missed": {
    event_id: string;
    topic: string;
    seq: number;
    type: string;
    user_ids: string[];
    sender_id?: string;
  };
  "call.unreached": {
    call_id: string;
    from_user_id: string;
    to_user_id: string;
    media: "audio" | "video";
    expires_at: string;
  };
  draining: { reconnect_after_ms: number };
  notification: JsonObject;
  "admin.stats": {
    hub: Record<string, number>;
    subscriptions: Record<string, number>;
    sequencer: Record<string, number>;
    typing: Record<string, number>;
    sessions: Record<string, number>;
    presence: Record<string, number>;
    calls: Record<string, number>;
    log: Record<string, number>;
    push: Record<string, number>;
    erasure: Record<string, number>;
    cluster: Record<string, number>;
    nodes: { node_id: string; figures: Record<string, Record<string, number>> }[];
    missing_nodes: string[];
  };
  "admin.samples": {
    step_ms: number;
    samples: {
      at: string;
      connections: number;
      messages_in: number;
      messages_out: number;
      events: number;
      appends: number;
      append_ms: number;
      append_ms_max: number;
      deliveries: number;
      delivery_ms: number;
      delivery_ms_max: number;
      position: number;
      lag: number | null;
      missed: number;
      slow_clients: number;
      refusals: Record<string, number>;
      memory_bytes: number;
    }[];
    missing_nodes: string[];
  };
  "admin.connections": {
    connections: {
      connection_id: string;
      node_id: string;
      user_id: string | null;
      device_id: string;
      address: string;
      roles: string[];
      format: "json" | "protobuf";
      connected_at: string;
      last_heard_at: string;
      buffered_bytes: number;
    }[];
    total: number;
    next: string | null;
    missing_nodes: string[];
  };
  "admin.connection": {
    connection: {
      connection_id: string;
      node_id: string;
      user_id: string | null;
      device_id: string;
      address: string;
      roles: string[];
      format: "json" | "protobuf";
      connected_at: string;
      last_heard_at: string;
      buffered_bytes: number;
      topics: string[];
      topic_count: number;
    };
    missing_nodes: string[];
  };
  "admin.watch": {
    watch_id: string;
    connection_id: string;
    node_id: string;
    user_id: string | null;
    device_id: string;
    payloads: boolean;
    missing_nodes: string[];
  };
  "admin.watched": {
    watch_id: string;
    messages: {
      at: string;
      direction: "received" | "sent";
      type: string;
      topic?: string;
      seq?: number;
      bytes: number;
      payload?: JsonObject;
    }[];
    left_out: number;
    ended?: "closed" | "lost" | "forbidden";
    code?: number;
  };
  "admin.disconnect": { disconnected: number; missing_nodes: string[] };
  "admin.topics": { topics: { topic: string; subscribers: number }[]; next: string | null; missing_nodes: string[] };
  "admin.topic": {
    topic: string;
    subscribers: number;
    nodes: { node_id: string; subscribers: number }[];
    connections: { connection_id: string; user_id: string; device_id: string; node_id: string }[];
    head: { seq: number; position: number } | null;
    missing_nodes: string[];
  };
  "admin.subscribe": {
    connections: {
      connection_id: string;
      node_id: string;
      topics: string[];
      rejected: { topic: string; code: string }[];
    }[];
    missing_nodes: string[];
  };
  "admin.unsubscribe": {
    connections: { connection_id: string; node_id: string; topics: string[] }[];
    missing_nodes: string[];
  };
  "admin.nodes": {
    nodes: {
      node_id: string;
      version: string;
      started_at: string;
      seen_at: string;
      connections: number;
      answers: boolean;
      health: {
        status: "up" | "degraded" | "down";
        checks: Record<string, { status: "up" | "degraded" | "down"; latency_ms: number; error?: string }>;
        draining: boolean;
      } | null;
    }[];
    missing_nodes: string[];
  };
  "admin.members": { conversation_id: string; members: { user_id: string; may_write: boolean }[]; next: string | null };
  "admin.user": { user_id: string; state: "active" | "disabled" | "unknown"; blocked_until: string | null };
  "admin.users.erasure": {
    user_id: string;
    state: "none" | "running" | "finished";
    messages: number;
    percent: number;
    requested_at: string | null;
    started_at: string | null;
    finished_at: string | null;
  };
  "admin.block": { user_id: string; until: string | null; disconnected: number; missing_nodes: string[] };
}
