/** Declares what clients send: one payload schema for each message type; the types are inferred from them. */
import * as v from "valibot";
import { adminRequests } from "./admin.ts";
import {
  charactersMax,
  content,
  cursor,
  eventType,
  flag,
  freeObject,
  hangupReason,
  iceCandidates,
  identifier,
  identifiers,
  mediaKind,
  moment,
  pageLimit,
  reaction,
  sdp,
  sequence,
  someText,
  statusName,
  topicName,
  topicNames,
  uuid,
} from "./fields.ts";
import { limits } from "./limits.ts";

/** Where `{}` would do, the library takes `[]` for an object as well. */
const plain = <Schema extends v.GenericSchema<Record<string, unknown>>>(schema: Schema) => v.pipe(freeObject, schema);

/** Where to go on: a cursor with what was seen after it, or this device's last acknowledgement [LOG4]. */
const since = v.union(
  [v.literal("acked"), plain(v.object({ cursor, seen: v.optional(plain(v.record(v.string(), sequence))) }))],
  'must be "acked" or an object with a cursor',
);
export type Since = v.InferOutput<typeof since>;

const filterFields = {
  conversation_id: v.optional(identifier),
  conversation_ids: v.optional(identifiers(limits.namesPerRequest)),
  user_id: v.optional(identifier),
  user_ids: v.optional(identifiers(limits.namesPerRequest)),
};
export type Filters = v.InferOutput<v.ObjectSchema<typeof filterFields, undefined>>;
type FilterName = keyof typeof filterFields;

/** A slip of the pen would be taken for all of one's own: no other field is passed over here. */
const filters = v.pipe(
  freeObject,
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const unknown = Object.keys(dataset.value).find((name) => !Object.hasOwn(filterFields, name));
    if (unknown === undefined) return;
    const path = [{ type: "object", origin: "key", input: dataset.value, key: unknown, value: null }] as const;
    addIssue({ message: "is no filter", path: [...path] });
  }),
  v.object(filterFields),
);

/** The short names that a filter speaks of. */
const filteredBy: Record<FilterName, ReadonlySet<string>> = {
  conversation_id: new Set(["conversation", "typing", "presence"]),
  conversation_ids: new Set(["conversation", "typing", "presence"]),
  user_id: new Set(["presence"]),
  user_ids: new Set(["presence"]),
};

const scope = { topics: topicNames, filters: v.optional(filters) };
const isUsable = (name: FilterName) =>
  v.forward(
    v.check(
      ({ topics, filters = {} }: { topics: string[]; filters?: Filters | undefined }) =>
        filters[name] === undefined || topics.some((topic) => filteredBy[name].has(topic)),
      `needs one of ${[...filteredBy[name]].join(", ")} among the topics`,
    ),
    ["filters", name],
  );
const usableFilters = [
  isUsable("conversation_id"),
  isUsable("conversation_ids"),
  isUsable("user_id"),
  isUsable("user_ids"),
] as const;

const receipt = {
  conversation_id: identifier,
  message_ids: v.optional(identifiers(limits.receiptMessageIds)),
  up_to_seq: v.optional(sequence),
};
const exactlyOneMark = <T extends { message_ids?: string[] | undefined; up_to_seq?: number | undefined }>(input: T) =>
  (input.message_ids === undefined) !== (input.up_to_seq === undefined);
const markFault = "needs either message_ids or up_to_seq";

const publishTarget = {
  topic: v.optional(topicName),
  user_ids: v.optional(identifiers(limits.publishUsers)),
  conversation_id: v.optional(identifier),
  all: v.optional(v.literal(true, "must be true where it is given")),
};

/** Text that is stored as it is: PostgreSQL takes every character but this one. */
const stored = (most: number) =>
  v.pipe(v.string(), v.excludes("\0", "must not hold the character U+0000"), charactersMax(most));

/** The payload schema of every client message [ENV1]. */
export const clientPayloads = {
  ping: v.object({}),
  authenticate: v.object({
    token: someText(limits.tokenLength),
    device_id: v.optional(identifier),
    since: v.optional(since),
  }),
  subscribe: v.pipe(v.object({ ...scope, since: v.optional(since) }), ...usableFilters),
  unsubscribe: v.pipe(v.object(scope), ...usableFilters),
  ack: v.object({ cursor }),
  history: v.pipe(
    v.object({
      topic: topicName,
      before_seq: v.optional(sequence),
      after_seq: v.optional(sequence),
      limit: pageLimit({ most: limits.historyPage, usual: 50 }),
      types: v.optional(
        v.pipe(
          v.array(eventType, "must be a list"),
          v.minLength(1, "must name at least one"),
          v.maxLength(limits.historyTypes, `must name at most ${limits.historyTypes}`),
        ),
      ),
    }),
    v.forward(
      v.check(
        (input) => input.before_seq === undefined || input.after_seq === undefined,
        "cannot be given beside before_seq",
      ),
      ["after_seq"],
    ),
  ),
  "message.send": v.object({
    conversation_id: identifier,
    client_message_id: identifier,
    content,
  }),
  "message.edit": v.object({ conversation_id: identifier, message_id: identifier, content }),
  "message.delete": v.object({ conversation_id: identifier, message_id: identifier }),
  "reaction.add": v.object({ conversation_id: identifier, message_id: identifier, reaction }),
  "reaction.remove": v.object({ conversation_id: identifier, message_id: identifier, reaction }),
  /** The application's own, of a type that the configuration names [MSG4]. */
  "event.send": v.object({
    conversation_id: identifier,
    type: eventType,
    payload: freeObject,
    client_event_id: v.optional(identifier),
  }),
  members: v.object({
    conversation_id: identifier,
    after: v.optional(identifier),
    limit: pageLimit({ most: limits.membersPage, usual: 100 }),
  }),
  "mark.delivered": v.pipe(v.object(receipt), v.forward(v.check(exactlyOneMark, markFault), ["message_ids"])),
  "mark.read": v.pipe(
    v.object({ ...receipt, private: v.optional(flag, false) }),
    v.forward(v.check(exactlyOneMark, markFault), ["message_ids"]),
  ),
  "presence.update": v.object({
    status: statusName,
    status_text: v.optional(v.nullable(stored(limits.statusTextLength))),
    status_emoji: v.optional(v.nullable(stored(limits.statusEmojiLength))),
    expires_at: v.optional(v.nullable(moment)),
    /** Set by the device itself (its idle detection), not by hand: it joins the user's other devices. */
    automatic: v.optional(flag, false),
  }),
  "presence.query": v.object({ user_ids: identifiers(limits.presenceQueryUsers) }),
  "typing.start": v.object({ conversation_id: identifier }),
  "typing.stop": v.object({ conversation_id: identifier }),
  "call.offer": v.object({
    call_id: uuid,
    /** Left out in a renegotiation. */
    to_user_id: v.optional(identifier),
    conversation_id: v.optional(identifier),
    /** Required at first; in a renegotiation where another kind is wanted. */
    media: v.optional(mediaKind),
    sdp,
  }),
  "call.answer": v.object({ call_id: uuid, sdp }),
  "call.ice": v.object({ call_id: uuid, candidates: iceCandidates }),
  "call.hangup": v.object({ call_id: uuid, reason: v.optional(hangupReason) }),
  publish: v.pipe(
    v.object({
      ...publishTarget,
      type: eventType,
      payload: freeObject,
      event_key: v.optional(identifier),
      logged: v.optional(flag),
      except_device: v.optional(identifier),
    }),
    v.forward(
      v.check(
        (input) =>
          [input.topic, input.user_ids, input.conversation_id, input.all].filter((it) => it !== undefined).length === 1,
        "needs exactly one of topic, user_ids, conversation_id and all",
      ),
      ["topic"],
    ),
  ),
  ...adminRequests,
} as const;

export type ClientMessageType = keyof typeof clientPayloads;
export type ClientPayload<T extends ClientMessageType> = v.InferOutput<(typeof clientPayloads)[T]>;
export const clientMessageTypes = Object.keys(clientPayloads) as ClientMessageType[];
