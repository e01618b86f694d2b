/** Proves what becomes of each event that is from a user who is erased, or names that user, and whose an idempotency key is [BAK4]. */
import { expect, test } from "bun:test";
import { fateOf } from "../../src/erasure/fates.ts";
import { isKeyOf } from "../../src/storage/erasure-store.ts";

const c = "conversation:c1";
const fate = (topic: string, type: string, payload: object | null) => {
  const event = { topic, position: 1, id: "e1", type, payload: payload === null ? null : JSON.stringify(payload) };
  const it = fateOf(event, "zoe");
  if (it.kind === "rewritten") return JSON.parse(it.payload);
  return it.kind === "deleted" ? `deleted ${it.messageId}` : it.kind;
};

test.each([
  ["a message of the user", c, "message.new", null, "deleted e1"],
  ["one that was sent to somebody in the user's name", "user:ben", "message.new", null, "forgotten"],
  ["how far the user has read", c, "message.read", { user_id: "zoe" }, "forgotten"],
  [
    "how far another one has read, of whose messages the user's is",
    c,
    "message.read",
    { user_id: "ben", message_ids: ["zoe"] },
    "kept",
  ],
  ["a reaction that the user has taken back", c, "message.reaction", { user_id: "zoe", added: false }, "forgotten"],
  ["one to a message that is gone", c, "message.reaction", { user_id: "zoe", added: true }, "forgotten"],
  ["that another one has reacted", c, "message.reaction", { user_id: "ben", added: false, reaction: "zoe" }, "kept"],
  ["an edit of the user's", c, "message.edited", { message_id: "m1", edited_by: "zoe" }, "deleted m1"],
  [
    "that another one has edited it",
    c,
    "message.edited",
    { message_id: "m1", edited_by: "ben", content: "zoe" },
    "kept",
  ],
  ["that the user has deleted something", c, "message.deleted", { message_id: "m1", deleted_by: "zoe" }, "kept"],
  ["a call of the user that another one has missed", "user:ben", "call.ended", { from_user_id: "zoe" }, "forgotten"],
  [
    "a callee that could not be reached",
    "missed",
    "call.unreached",
    { from_user_id: "ben", to_user_id: "zoe" },
    "forgotten",
  ],
  [
    "that a message of the user was missed",
    "missed",
    "delivery.missed",
    { sender_id: "zoe", user_ids: ["ben"] },
    "forgotten",
  ],
  ["that the user alone has missed something", "missed", "delivery.missed", { user_ids: ["zoe"] }, "forgotten"],
  [
    "that the user and another one have missed something",
    "missed",
    "delivery.missed",
    { event_id: "e7", user_ids: ["ben", "zoe", "eve"], sender_id: "dan" },
    { event_id: "e7", user_ids: ["ben", "eve"], sender_id: "dan" },
  ],
  [
    "what the user has sent by event.send",
    c,
    "poll.vote",
    { conversation_id: "c1", user_id: "zoe", data: {} },
    "forgotten",
  ],
  ["what the application has published about the user", c, "poll.closed", { user_id: "zoe", winner: "zoe" }, "kept"],
  ["the same in the topic of another one", "user:ben", "friend.added", { user_id: "zoe", data: {} }, "kept"],
] as const)("[BAK4] %s", (_, topic, type, payload, expected) => {
  expect(fate(topic, type, payload)).toEqual(expected);
});

test("[BAK4] keys that a user was given, or that are of its own topics, are found; those that only look like it are not", () => {
  for (const key of [
    "sent:zoe:c1:m1",
    "event:zoe:c1:v1",
    "receipt:read:c1:zoe:17",
    "missed:zoe:ben:call1",
    "missed:ben:zoe:call1",
    "key:user:zoe:k1",
    "id:notifications:zoe:m1",
    "outbox:8c5a:user:zoe",
  ])
    expect([key, isKeyOf("zoe", key)]).toEqual([key, true]);
  for (const key of [
    "sent:ben:zoe:m1",
    "sent:ben:c1:zoe",
    "sent:zoe2:c1:m1",
    "event:ben:zoe:zoe",
    "receipt:read:zoe:ben:17",
    "key:conversation:zoe:k1",
    "id:conversation:c1:zoe",
    "key:user:ben:zoe",
    "outbox:8c5a:conversation:zoe",
    "outbox:8c5a:user:ben:zoe",
  ])
    expect([key, isKeyOf("zoe", key)]).toEqual([key, false]);
  // A key has no colon in its parts.
  expect(isKeyOf("zoe:7", "sent:zoe 7:c1:m1")).toBe(true);
  expect(isKeyOf("zoe", "sent:zoe 7:c1:m1")).toBe(false);
});
