/** Defines what the server sends: one payload schema for each message type; the types are inferred from them. */
import * as v from "valibot";
import { adminReplies } from "./admin.ts";
import { authFailureTable, errorTable } from "./errors.ts";
import {
  content,
  cursor,
  endReason,
  flag,
  freeObject,
  iceCandidates,
  identifier,
  mediaKind,
  moment,
  reaction,
  sequence,
  shownStatusName,
} from "./fields.ts";

const keysOf = <T extends Record<string, unknown>>(table: T) =>
  Object.keys(table) as [keyof T & string, ...(keyof T & string)[]];
const text = v.string();

/** How somebody's presence looks to the one who is told. */
const presenceView = v.object({
  user_id: identifier,
  status: shownStatusName,
  status_text: v.optional(text),
  status_emoji: v.optional(text),
  expires_at: v.optional(moment),
  last_seen: v.optional(moment),
  devices: v.optional(sequence),
});
export type PresenceView = v.InferOutput<typeof presenceView>;

const typingEntry = v.object({ user_id: identifier, conversation_id: identifier, expires_at: moment });
/** A call that the asking device is in or rings for [CALL7]. */
const callView = v.object({
  call_id: text,
  state: v.picklist(["ringing", "connecting", "active"]),
  peer_user_id: identifier,
  peer_device_id: v.optional(text),
  media: mediaKind,
  conversation_id: v.optional(identifier),
  expires_at: v.optional(moment),
});
export type CallView = v.InferOutput<typeof callView>;
/** A logged event inside a `history` page, or as a last message. */
const historyEvent = v.object({
  id: text,
  type: text,
  topic: text,
  seq: sequence,
  position: sequence,
  timestamp: moment,
  payload: freeObject,
});

/** How far somebody else has come in a conversation [REC3]. */
const receiptPlace = v.object({ user_id: identifier, read_seq: sequence, delivered_seq: sequence });
const snapshot = v.object({
  /** The conversation's last number when this was read: what has a higher one comes on top of it. */
  as_of_seq: v.optional(sequence),
  read_seq: v.optional(sequence),
  delivered_seq: v.optional(sequence),
  unread: v.optional(sequence),
  /** False where the user is kept from writing; left out where it may. */
  may_write: v.optional(flag),
  /** Null where there is none; absent where the answer would be too large with it. */
  last_message: v.optional(v.nullable(historyEvent)),
  receipts: v.optional(v.array(receiptPlace)),
  typing: v.optional(v.array(typingEntry)),
  presence: v.optional(presenceView),
  calls: v.optional(v.array(callView)),
});

/** One topic's place in an answer to `subscribe` [SUB1]. */
const subscribedTopic = v.object({
  topic: text,
  seq: v.optional(sequence),
  recovered: v.optional(flag),
  replayed: v.optional(sequence),
  snapshot: v.optional(snapshot),
});
export type SubscribedTopic = v.InferOutput<typeof subscribedTopic>;
export type Snapshot = v.InferOutput<typeof snapshot>;

/** The frame around every payload, but for the payload [ENV2]. */
export const serverEnvelope = v.object({
  id: text,
  type: text,
  /** The request's id; on replies. */
  reply_to: v.optional(text),
  /** The three are there on logged events only. */
  topic: v.optional(text),
  seq: v.optional(sequence),
  position: v.optional(sequence),
  timestamp: moment,
});

const receipt = v.object({
  conversation_id: identifier,
  user_id: identifier,
  message_ids: v.array(identifier),
  up_to_seq: sequence,
  at: moment,
  private: v.optional(flag),
});

/** The payload schema of every server message [ENV2]. */
export const serverPayloads = {
  connected: v.object({
    connection_id: text,
    device_id: text,
    user_id: v.nullable(identifier),
    authenticated: flag,
    protocol_version: v.literal(1),
    server_time: moment,
    ping_interval_ms: sequence,
    max_message_size: sequence,
    auth_timeout_ms: v.optional(sequence),
  }),
  "auth.success": v.object({
    user_id: identifier,
    device_id: text,
    roles: v.array(text),
    expires_at: v.nullable(moment),
    acked_cursor: v.nullable(cursor),
  }),
  "auth.failed": v.object({ code: v.picklist(keysOf(authFailureTable)), retryable: flag }),
  "auth.expiring": v.object({ expires_at: moment }),
  subscribed: v.object({
    topics: v.array(subscribedTopic),
    rejected: v.array(
      v.object({
        topic: text,
        code: v.picklist(["forbidden", "limit_exceeded", "unknown_topic", "conflict"]),
        conversation_id: v.optional(identifier),
      }),
    ),
    /** Of all that were refused; the list has the first 100. */
    rejected_count: v.optional(sequence),
    cursor,
  }),
  unsubscribed: v.object({ topics: v.array(text), reason: v.optional(v.picklist(["access_revoked", "in_log"])) }),
  pong: v.object({ server_time: moment, cursor: v.optional(cursor) }),
  ack: v.object({
    cursor: v.optional(cursor),
    message_id: v.optional(text),
    topic: v.optional(text),
    seq: v.optional(sequence),
    position: v.optional(sequence),
    created_at: v.optional(moment),
    duplicate: v.optional(flag),
    /** When a message was edited or deleted, or somebody has reacted. */
    at: v.optional(moment),
    up_to_seq: v.optional(sequence),
    unread: v.optional(sequence),
    /** The conversation's last number when unread was counted. */
    as_of_seq: v.optional(sequence),
    /** Of a first offer: the callee is in another call, where callers are told so. */
    busy: v.optional(flag),
    published: v.optional(
      v.array(
        v.object({
          topic: text,
          seq: v.optional(sequence),
          position: v.optional(sequence),
          duplicate: v.optional(flag),
        }),
      ),
    ),
    /** Connections on this node that heard what was published [PUB1]. */
    receivers: v.optional(sequence),
  }),
  error: v.object({
    code: v.picklist(keysOf(errorTable)),
    message: text,
    retryable: flag,
    retry_after_ms: v.optional(sequence),
    field: v.optional(text),
  }),
  history: v.object({ topic: text, events: v.array(historyEvent), has_more: flag }),
  "message.new": v.object({
    message_id: text,
    /** The sender's own id; a backend that publishes messages may have none. */
    client_message_id: v.optional(identifier),
    conversation_id: identifier,
    sender_id: identifier,
    /** As it is today; null once the message is deleted [MSG2]. */
    content: v.nullable(content),
    created_at: moment,
    edited_at: v.optional(moment),
    deleted_at: v.optional(moment),
    /** Where there are any [MSG3]. */
    reactions: v.optional(v.array(v.object({ reaction: text, count: sequence, user_ids: v.array(identifier) }))),
  }),
  "message.edited": v.object({
    conversation_id: identifier,
    message_id: identifier,
    content,
    edited_at: moment,
    /** A backend that publishes it may leave it out. */
    edited_by: v.optional(identifier),
  }),
  "message.deleted": v.object({
    conversation_id: identifier,
    message_id: identifier,
    deleted_at: moment,
    deleted_by: v.optional(identifier),
  }),
  "message.reaction": v.object({
    conversation_id: identifier,
    message_id: identifier,
    user_id: identifier,
    reaction,
    added: flag,
    at: moment,
  }),
  members: v.object({
    conversation_id: identifier,
    user_ids: v.array(text),
    /** Some of them: kept from writing. */
    may_not_write: v.array(text),
    /** To be given as `after` for the next page; null where this is the last. */
    next: v.nullable(text),
  }),
  "member.added": v.object({
    conversation_id: identifier,
    user_id: identifier,
    may_write: v.optional(flag),
    at: moment,
  }),
  "member.removed": v.object({ conversation_id: identifier, user_id: identifier, at: moment }),
  "member.updated": v.object({ conversation_id: identifier, user_id: identifier, may_write: flag, at: moment }),
  /** More has changed than is told one by one, or may have: of any conversation where none is named. */
  "members.changed": v.object({ conversation_id: v.optional(identifier), at: moment }),
  "message.delivered": receipt,
  "message.read": receipt,
  "presence.online": v.object({
    user_id: identifier,
    status: shownStatusName,
    status_text: v.optional(text),
    status_emoji: v.optional(text),
    at: moment,
  }),
  "presence.offline": v.object({ user_id: identifier, last_seen: v.optional(moment) }),
  /** As an event: one user's. As the answer to `presence.query`: `users`. */
  "presence.update": v.union([
    v.object({
      user_id: identifier,
      status: shownStatusName,
      status_text: v.nullable(text),
      status_emoji: v.nullable(text),
      expires_at: v.optional(moment),
      at: moment,
    }),
    v.object({ users: v.array(presenceView) }),
  ]),
  "typing.start": typingEntry,
  "typing.stop": v.object({ user_id: identifier, conversation_id: identifier, expires_at: v.optional(moment) }),
  "call.incoming": v.object({
    call_id: text,
    from_user_id: identifier,
    from_device_id: text,
    conversation_id: v.optional(identifier),
    media: mediaKind,
    sdp: text,
    expires_at: moment,
  }),
  /** `media` where the renegotiation is about that. */
  "call.offer": v.object({ call_id: text, from_user_id: identifier, media: v.optional(mediaKind), sdp: text }),
  "call.answer": v.object({ call_id: text, from_user_id: identifier, from_device_id: text, sdp: text }),
  "call.ice": v.object({ call_id: text, from_user_id: identifier, candidates: iceCandidates }),
  "call.ended": v.object({
    call_id: text,
    reason: endReason,
    ended_by: v.optional(identifier),
    duration_ms: v.optional(sequence),
    /** On the callee's `user` topic: who had called, and how [CALL6]. */
    from_user_id: v.optional(identifier),
    conversation_id: v.optional(identifier),
    media: v.optional(mediaKind),
  }),
  /** Names those who have no device and have neither read nor acknowledged the event, of so many as one message has [BAK3]. */
  "delivery.missed": v.object({
    event_id: text,
    topic: text,
    /** Of the event in its topic. */
    seq: sequence,
    type: text,
    user_ids: v.array(identifier),
    sender_id: v.optional(identifier),
  }),
  /** Tells at once of a call to somebody without a device, who may be woken while it rings [BAK3]. */
  "call.unreached": v.object({
    call_id: text,
    from_user_id: identifier,
    to_user_id: identifier,
    media: mediaKind,
    expires_at: moment,
  }),
  draining: v.object({ reconnect_after_ms: sequence }),
  notification: freeObject,
  ...adminReplies,
} as const;

export type ServerMessageType = keyof typeof serverPayloads;
export type ServerPayload<T extends ServerMessageType> = v.InferOutput<(typeof serverPayloads)[T]>;
export const serverMessageTypes = Object.keys(serverPayloads) as ServerMessageType[];
