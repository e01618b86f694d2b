/** Holds what the client does in time, and the order of its list, to the rules, with a clock that is turned by hand. */
import { beforeEach, expect, spyOn, test } from "bun:test";
import fc from "fast-check";
import { Client } from "../../src/client/client.ts";
import { Conversations } from "../../src/client/conversations/conversations.ts";
import type { OutboxEntry, SubscribedTopic } from "../../src/client/core.ts";
import { ServerError } from "../../src/client/errors.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import { FakeServer, until } from "../../src/client/testing.ts";
import { createHandClock, type HandClock } from "../support/hand-clock.ts";
import { type QuietCore, quietCore } from "../support/quiet-core.ts";

let clock: HandClock;
let core: QuietCore;
let conversations: Conversations;
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
async function begin() {
  clock = createHandClock({ settled });
  core = quietCore();
  conversations = new Conversations({
    core,
    clock,
    random: () => 0,
    store: new MemoryStore(),
    onError: (error) => {
      throw error;
    },
  });
  await settled();
}
beforeEach(begin);

const standing = { as_of_seq: 0, read_seq: 0, delivered_seq: 0, unread: 0, last_message: null, receipts: [] };
function subscribed(id: string, snapshot: Partial<SubscribedTopic["snapshot"]> = {}): void {
  const topic = { topic: `conversation:${id}`, seq: 0, snapshot: { ...standing, ...snapshot } };
  core.tell({ kind: "subscribed", topics: [topic] });
}
function said(id: string, seq: number, { by = "ben", at = seq }: { by?: string; at?: number } = {}): void {
  const payload = { message_id: `${id} ${seq}`, conversation_id: id, sender_id: by, content: "text" };
  const timestamp = new Date(clock.now() + at).toISOString();
  const event = { id: `${id} ${seq}`, type: "message.new", topic: `conversation:${id}`, seq, position: seq, timestamp };
  core.tell({ kind: "event", event: { ...event, payload: { ...payload, created_at: timestamp } } });
}
function typing(type: "typing.start" | "typing.stop", userId: string, forMs = 10_000): void {
  const timestamp = new Date(clock.now()).toISOString();
  // The server's clock is another one: only the difference counts.
  const expires_at = new Date(clock.now() + forMs).toISOString();
  core.tell({
    kind: "event",
    event: { id: "t", type, timestamp, payload: { conversation_id: "c", user_id: userId, expires_at } },
  });
}
const marks = () => core.outbox.entries.map(({ type, payload }) => [type, (payload as any).up_to_seq]);

test("[TYP2] keystrokes are told at most every 3 s, and their end after 5 s without one", async () => {
  const c = conversations.get("c");
  const { typing } = c;
  const told = () => core.requests.map(({ type }) => type);
  for (let n = 0; n < 40; n++) {
    typing.keystroke();
    await clock.pass(200);
  }
  expect(told()).toEqual(["typing.start", "typing.start", "typing.start"]);
  await clock.pass(5_000);
  expect(told().at(-1)).toBe("typing.stop");
  await clock.pass(60_000);
  expect(core.requests).toHaveLength(4);
  typing.keystroke();
  typing.stop();
  typing.stop();
  expect(told().slice(4)).toEqual(["typing.start", "typing.stop"]);
  // A message ends it on the server, and the next key begins anew.
  typing.keystroke();
  void c.send("text");
  typing.keystroke();
  expect(told().slice(6)).toEqual(["typing.start", "typing.start"]);
  core.go({ status: "connecting" });
  await clock.pass(4_000);
  typing.keystroke();
  expect(core.requests).toHaveLength(8);
});

test("[TYP2] nobody is shown typing beyond the time that was told, nor without a connection", async () => {
  const c = conversations.get("c");
  c.subscribe(() => {});
  subscribed("c");
  typing("typing.start", "ben", 10_000);
  typing("typing.start", "me", 10_000);
  typing("typing.start", "carl", 4_000);
  expect(c.current.typing).toEqual(["ben", "carl"]);
  await clock.pass(4_000);
  expect(c.current.typing).toEqual(["ben"]);
  typing("typing.start", "ben", 10_000);
  await clock.pass(9_000);
  expect(c.current.typing).toEqual(["ben"]);
  await clock.pass(1_000);
  expect(c.current.typing).toEqual([]);
  typing("typing.start", "ben");
  typing("typing.stop", "ben");
  expect(c.current.typing).toEqual([]);
  typing("typing.start", "ben");
  said("c", 1);
  expect(c.current.typing).toEqual([]);
  typing("typing.start", "ben");
  core.go({ status: "connecting" });
  expect(c.current.typing).toEqual([]);
});

test("[REC1] marks of reading are one each 500 ms, the first at once, then the latest; private ones apart", async () => {
  const c = conversations.get("c");
  subscribed("c");
  for (let seq = 1; seq <= 9; seq++) said("c", seq, { by: "me" });
  c.markRead(1);
  for (let seq = 2; seq <= 5; seq++) c.markRead(seq);
  c.markRead(3);
  await settled();
  expect(marks()).toEqual([["mark.read", 1]]);
  expect(c.current.readSeq).toBe(5);
  await clock.pass(500);
  expect(marks()).toEqual([
    ["mark.read", 1],
    ["mark.read", 5],
  ]);
  c.markRead(6);
  c.markRead(7, { private: true });
  c.markRead();
  await clock.pass(2_000);
  expect(core.outbox.entries.slice(2).map(({ payload }) => payload as object)).toEqual([
    { conversation_id: "c", up_to_seq: 6 },
    { conversation_id: "c", up_to_seq: 7, private: true },
    { conversation_id: "c", up_to_seq: 9 },
  ]);
});

test("[REC1] what arrives is marked as delivered, many as one, none that is read, and never so many that the outbox is full", async () => {
  conversations.list.subscribe(() => {});
  for (let n = 0; n < 100; n++) subscribed(`c${n}`);
  for (let n = 0; n < 100; n++) for (const seq of [1, 2, 3]) said(`c${n}`, seq);
  conversations.get("c0").markRead();
  await clock.pass(1_000);
  expect(marks()[0]).toEqual(["mark.read", 3]);
  expect(marks().slice(1)).toEqual(Array.from({ length: 20 }, () => ["mark.delivered", 3]));
  // With those that the server has taken there is room for others.
  const entries = core.outbox.entries as OutboxEntry[];
  const seen = new Set<string>();
  for (let rounds = 0; rounds < 6; rounds++) {
    for (const { type, payload } of entries.splice(0)) seen.add(`${type} ${payload.conversation_id}`);
    expect(entries).toEqual([]);
    await conversations.get("c0").react("c0 1", "+");
    await clock.pass(1_000);
  }
  expect([...seen].filter((it) => it.startsWith("mark.delivered"))).toHaveLength(99);
});

test("a tab that does not lead marks nothing as delivered", async () => {
  Object.assign(core, { isLead: false });
  conversations.list.subscribe(() => {});
  subscribed("c");
  said("c", 1);
  await clock.pass(1_000);
  expect(marks()).toEqual([]);
});

test("[REC3] the list is in the order of the newest messages, whatever changes", async () => {
  const changes = fc.array(fc.record({ n: fc.nat(30), at: fc.nat(1_000) }), { maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(fc.array(changes, { maxLength: 6 }), async (batches) => {
      await begin();
      const { list } = conversations;
      list.subscribe(() => {});
      const newest = new Map<string, { seq: number; at: number }>();
      for (const batch of batches) {
        const before = new Map(list.current.items.map((item) => [item.id, item]));
        for (const { n, at } of batch) {
          const id = `c${n}`;
          if (!newest.has(id)) subscribed(id);
          const seq = (newest.get(id)?.seq ?? 0) + 1;
          newest.set(id, { seq, at });
          said(id, seq, { at });
        }
        const order = [...newest].sort(([a, one], [b, other]) => other.at - one.at || (a < b ? -1 : 1));
        expect(list.current.items.map(({ id }) => id)).toEqual(order.map(([id]) => id));
        const touched = new Set(batch.map(({ n }) => `c${n}`));
        for (const item of list.current.items) if (!touched.has(item.id)) expect(item).toBe(before.get(item.id)!);
      }
    }),
  );
});

test("[ENV4] [LOG8] a page that the server had no time for is asked for again, after as long as it has told", async () => {
  const errors: unknown[] = [];
  clock = createHandClock({ settled });
  core = quietCore();
  const asked: any[] = [];
  const refusal = { code: "rate_limited", message: "Later.", retryable: true, retry_after_ms: 7_000 } as const;
  Object.assign(core, {
    request: async (_: string, payload: object) => {
      asked.push(payload);
      if (asked.length === 1) throw new ServerError(refusal);
      return { topic: "conversation:c", events: [], has_more: false };
    },
  });
  const onError = (error: unknown) => errors.push(error);
  conversations = new Conversations({ core, clock, random: () => 0, store: new MemoryStore(), onError });
  await settled();
  const c = conversations.get("c");
  c.subscribe(() => {});
  const last = { id: "e", type: "message.new", topic: "conversation:c", seq: 9, position: 9, timestamp: "" };
  const payload = { message_id: "m", conversation_id: "c", sender_id: "ben", content: "text", created_at: "" };
  subscribed("c", { as_of_seq: 9, last_message: { ...last, payload } });
  await clock.pass(6_900);
  expect(asked).toHaveLength(1);
  expect(errors).toMatchObject([{ code: "rate_limited" }]);
  await clock.pass(200);
  expect(asked).toMatchObject([{ before_seq: 9 }, { before_seq: 9 }]);
  expect(c.current).toMatchObject({ status: "live", hasOlder: false, messages: [{ content: "text" }] });
});

test("a listener that throws keeps nobody else from being told, and one that has been told off is not told", async () => {
  const thrown: unknown[] = [];
  const { queueMicrotask } = globalThis;
  const spy = spyOn(globalThis, "queueMicrotask").mockImplementation((run) =>
    queueMicrotask(() => {
      try {
        run();
      } catch (error) {
        thrown.push(error);
      }
    }),
  );
  const c = conversations.get("c");
  const told: string[] = [];
  c.subscribe(() => {
    told.push("first");
    stopThird();
    throw new Error("of the application");
  });
  c.subscribe(() => told.push("second"));
  const stopThird = c.subscribe(() => told.push("third"));
  await settled();
  told.length = 0;
  said("c", 1);
  await settled();
  expect(told).toEqual(["first", "second"]);
  expect(thrown).toContainEqual(new Error("of the application"));
  spy.mockRestore();
});

test("[SUB6] what an application asks for by itself is shown like what it does by the conversation", async () => {
  const server = new FakeServer({ conversations: { c: ["anna", "ben"] } });
  const anna = new Client({ url: "ws://fake/ws", userId: "anna", webSocket: server.webSocket });
  anna.start();
  const c = anna.conversation("c");
  c.subscribe(() => {});
  await until(c, ({ status }) => status === "live");
  const conversation_id = "c";
  const sent = await anna.request("message.send", { conversation_id, client_message_id: "k1", content: "one" });
  await until(c, ({ messages }) => messages.length === 1);
  expect(c.current.messages[0]).toMatchObject({ key: "k1", content: "one", isOwn: true, state: "sent", seq: sent.seq });
  const message_id = sent.message_id!;
  await anna.request("message.edit", { conversation_id, message_id, content: "two" });
  await until(c, ({ messages }) => messages[0]!.content === "two");
  await anna.request("reaction.add", { conversation_id, message_id, reaction: "+" });
  await until(c, ({ messages }) => messages[0]!.reactions.some(({ isMine }) => isMine));
  server.say("c", "ben", "three");
  await until(c, ({ unread }) => unread === 1);
  await anna.request("mark.read", { conversation_id, up_to_seq: c.current.messages.at(-1)!.seq! });
  await until(c, ({ unread }) => unread === 0);
  await anna.stop();
});
