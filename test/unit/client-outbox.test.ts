/** Proves the client's outbox against every answer there is: what goes when, what goes again, what is given up [LOG2] [LIM]. */
import { expect, test } from "bun:test";
import { DurableOutbox } from "../../src/client/connection/outbox.ts";
import type { OutboxEntry, OutboxType, Store } from "../../src/client/core.ts";
import { ClientError, ServerError } from "../../src/client/errors.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import { createHandClock } from "../support/hand-clock.ts";

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

interface Sent {
  type: OutboxType;
  payload: any;
  take(ack?: object): Promise<void>;
  refuse(error: unknown): Promise<void>;
}

/** An outbox whose server is the test: it sees what is sent, and answers. */
async function scene({ store = new MemoryStore() as Store, isLive = true } = {}) {
  const hand = createHandClock({ settled });
  const set = { byMs: 0 };
  // One that the machine may set meanwhile: timers do not mind.
  const clock = { ...hand, now: () => hand.now() + set.byMs };
  const sent: Sent[] = [];
  const told: { entry: OutboxEntry; ack: any; stillThere: boolean }[] = [];
  const errors: unknown[] = [];
  const outbox = new DurableOutbox({
    store,
    clock,
    random: () => 0.5,
    send: (type, payload) =>
      new Promise((resolve, reject) => {
        const then = (done: () => void) => {
          done();
          return settled();
        };
        sent.push({
          type,
          payload,
          take: (ack = {}) => then(() => resolve(ack)),
          refuse: (error) => then(() => reject(error)),
        });
      }),
    onSent: (entry, ack) => told.push({ entry, ack, stillThere: outbox.entries.includes(entry) }),
    onError: (error) => errors.push(error),
  });
  await outbox.load();
  if (isLive) outbox.resume();
  const say = (conversation_id: string, content: string) =>
    outbox.add("message.send", { conversation_id, client_message_id: content, content });
  const contents = () => sent.map(({ payload }) => payload.content);
  const states = () => outbox.entries.map(({ id, state }) => `${id} ${state}`);
  return { store, clock, set, sent, told, errors, outbox, say, contents, states };
}

const refusal = (code: string, more: object = {}) =>
  new ServerError({
    code: code as "unavailable",
    message: code,
    retryable: ["unavailable", "internal", "rate_limited"].includes(code),
    ...more,
  });

test("[LOG2] a listener that throws keeps nothing from being sent, nor its neighbours from being told", async () => {
  const { say, outbox, contents, errors, sent, states } = await scene();
  const fault = new Error("mine");
  outbox.onChange(() => {
    throw fault;
  });
  const seen: string[][] = [];
  outbox.onChange(() => seen.push(states()));
  await say("a", "a1");
  expect(contents()).toEqual(["a1"]);
  await sent[0]!.take();
  expect(seen.at(-1)).toEqual([]);
  expect(new Set(errors)).toEqual(new Set([fault]));
});

test("[LOG2] one after the other in a conversation, and no conversation waits for another", async () => {
  const { say, sent, contents, told, outbox } = await scene();
  for (const content of ["a1", "a2", "a3"]) await say("a", content);
  await say("b", "b1");
  expect(contents()).toEqual(["a1", "b1"]);
  await sent[0]!.take({ message_id: "m1" });
  expect(contents()).toEqual(["a1", "b1", "a2"]);
  expect(told).toMatchObject([
    { entry: { id: "a1", type: "message.send" }, ack: { message_id: "m1" }, stillThere: true },
  ]);
  await sent[2]!.take();
  await sent[3]!.take();
  expect(outbox.entries.map(({ id }) => id)).toEqual(["b1"]);
});

test("[LOG2] without a line it waits, and goes in order with the first that there is", async () => {
  const { say, outbox, contents, states } = await scene({ isLive: false });
  await say("a", "a1");
  await say("a", "a2");
  expect(contents()).toEqual([]);
  expect(states()).toEqual(["a1 pending", "a2 pending"]);
  outbox.resume();
  expect(contents()).toEqual(["a1"]);
});

test("[LOG2] what was under way when the line broke goes again under its key; a late answer counts once", async () => {
  const { say, outbox, sent, contents, told } = await scene();
  await say("a", "a1");
  await say("a", "a2");
  outbox.suspend();
  outbox.resume();
  expect(contents()).toEqual(["a1", "a1"]);
  await sent[0]!.take();
  expect(contents()).toEqual(["a1", "a1"]);
  expect(told).toHaveLength(1);
  await sent[1]!.take({ duplicate: true });
  expect(told).toHaveLength(1);
  expect(contents()).toEqual(["a1", "a1", "a2"]);
});

test("[LOG2] a timeout, a line that is lost, `unavailable` and `internal` say nothing: it goes again, later each time", async () => {
  const { say, sent, clock, contents } = await scene();
  await say("a", "a1");
  await say("a", "a2");
  const errors = [
    new ClientError("timeout"),
    refusal("unavailable"),
    new ClientError("connection_lost"),
    refusal("internal"),
    refusal("not_authenticated"),
  ];
  for (const [n, error] of errors.entries()) {
    await sent.at(-1)!.refuse(error);
    await clock.pass(250 * 2 ** n - 1);
    expect(contents()).toEqual(Array(n + 1).fill("a1"));
    await clock.pass(1);
    expect(contents()).toEqual(Array(n + 2).fill("a1"));
  }
  await sent.at(-1)!.take();
  expect(contents().at(-1)).toBe("a2");
});

test("[LIM] `rate_limited` holds up all that counts towards that rate for as long as it says, and then it goes on with one at a time", async () => {
  const { say, outbox, sent, clock, contents } = await scene();
  for (const conversation of "abcdef") await say(conversation, conversation);
  expect(contents()).toEqual([..."abcdef"]);
  await sent[0]!.take();
  for (const one of sent.slice(1)) await one.refuse(refusal("rate_limited", { retry_after_ms: 700 }));
  await say("g", "g");
  await outbox.add("mark.read", { conversation_id: "a", up_to_seq: 1 });
  expect(sent.slice(6).map(({ type }) => type)).toEqual(["mark.read"]);
  await sent[6]!.take();
  await clock.pass(699);
  expect(sent).toHaveLength(7);
  await clock.pass(1);
  expect(contents().slice(7)).toEqual(["b"]);
  await sent[7]!.take();
  expect(contents().slice(7)).toEqual(["b", "c", "d"]);
  // Told to wait, it waits on the next line as well: the rate is the user's.
  await sent[8]!.refuse(refusal("rate_limited", { retry_after_ms: 1000 }));
  outbox.suspend();
  await clock.pass(400);
  outbox.resume();
  expect(sent).toHaveLength(10);
  await clock.pass(600);
  expect(contents().slice(10)).toEqual(["c"]);
});

test("[LIM] a clock that is set back makes it wait no longer than it was told", async () => {
  const { say, outbox, sent, clock, set, contents } = await scene();
  await say("a", "a1");
  await sent[0]!.refuse(refusal("rate_limited", { retry_after_ms: 1000 }));
  outbox.suspend();
  set.byMs = -3_600_000;
  outbox.resume();
  await clock.pass(1_000);
  expect(contents()).toEqual(["a1", "a1"]);
});

test("[ENV4] what is refused for good is failed, says why, and holds nothing up; it can be tried again, or discarded", async () => {
  const { say, outbox, sent, contents, states, store } = await scene();
  await say("a", "a1");
  await say("a", "a2");
  await say("a", "a3");
  await sent[0]!.refuse(refusal("invalid_payload", { field: "payload.content" }));
  await sent[1]!.refuse(new ClientError("too_large", { field: "payload" }));
  expect(contents()).toEqual(["a1", "a2", "a3"]);
  expect(states()).toEqual(["a1 failed", "a2 failed", "a3 pending"]);
  expect(outbox.entries[0]!.error).toEqual({
    code: "invalid_payload",
    message: "invalid_payload",
    field: "payload.content",
  });
  expect(outbox.entries[1]!.error).toMatchObject({ code: "too_large" });
  await outbox.replace("a1", { content: "a1, better" });
  await outbox.retry("a1");
  expect(contents()).toEqual(["a1", "a2", "a3"]);
  await sent[2]!.take();
  expect(contents()).toEqual(["a1", "a2", "a3", "a1, better"]);
  await sent[3]!.take();
  await outbox.discard("a2");
  expect(outbox.entries).toEqual([]);
  expect(await store.read("")).toEqual([]);
});

test("[ENV4] an entry on which the server fails again and again is the one that fails", async () => {
  const { say, sent, clock, states, contents } = await scene();
  await say("a", "a1");
  await say("a", "a2");
  for (let n = 0; n < 5; n++) {
    expect(contents()).toEqual(Array(n + 1).fill("a1"));
    await sent.at(-1)!.refuse(refusal("internal"));
    await clock.pass(30_000);
  }
  expect(contents().at(-1)).toBe("a2");
  expect(states()).toEqual(["a1 failed", "a2 pending"]);
});

test("[REC1] marks of one conversation and kind take each other's place, wait for no message, and are not tried again once refused", async () => {
  const { outbox, say, sent } = await scene({ isLive: false });
  const read = (up_to_seq: number, more: object = {}) =>
    outbox.add("mark.read", { conversation_id: "a", up_to_seq, ...more });
  await say("a", "a1");
  await read(3);
  await outbox.add("mark.delivered", { conversation_id: "a", up_to_seq: 4 });
  await read(7);
  await read(5);
  await read(8, { private: true });
  await outbox.add("mark.read", { conversation_id: "b", up_to_seq: 1 });
  expect(outbox.entries.map(({ type, payload }) => [type, (payload as any).up_to_seq])).toEqual([
    ["message.send", undefined],
    ["mark.read", 7],
    ["mark.delivered", 4],
    ["mark.read", 8],
    ["mark.read", 1],
  ]);
  outbox.resume();
  expect(sent.map(({ type }) => type)).toEqual(["message.send", "mark.read", "mark.delivered", "mark.read"]);
  // One that is on its way is not the place of another any more.
  await read(9);
  await read(10);
  await sent[1]!.refuse(refusal("forbidden"));
  expect(sent.at(-1)!.payload).toMatchObject({ up_to_seq: 8, private: true });
  await sent.at(-1)!.take();
  expect(sent.at(-1)!.payload).toMatchObject({ up_to_seq: 10 });
  expect(outbox.entries.filter(({ state }) => state === "failed")).toEqual([]);
});

test("[LOG2] it survives a reload, in order, what has failed and what may have left included", async () => {
  const before = await scene();
  await before.say("a", "a1");
  await before.say("a", "a2");
  await before.say("b", "b1");
  await before.outbox.add("message.edit", { conversation_id: "a", message_id: "m", content: "edited" }, "e1");
  await before.sent[1]!.refuse(refusal("forbidden"));
  const after = await scene({ store: before.store });
  expect(after.outbox.entries).toEqual(before.outbox.entries);
  expect(after.contents()).toEqual(["a1"]);
  expect(await after.outbox.replace("a1", { content: "other" })).toBe(false);
  expect(await after.outbox.replace("a2", { content: "a2, better" })).toBe(true);
  await after.sent[0]!.take({ duplicate: true });
  await after.sent[1]!.take();
  expect(after.contents()).toEqual(["a1", "a2, better", "edited"]);
  await after.sent[2]!.take();
  const third = await scene({ store: before.store });
  expect(third.states()).toEqual(["b1 failed"]);
  // Numbers go on: what is new is behind what was kept.
  await third.say("c", "c1");
  expect(third.states()).toEqual(["b1 failed", "c1 pending"]);
  expect((await third.store.read("outbox/")).map(([, value]) => (value as any).entry.id)).toEqual(["b1", "c1"]);
});

test("[LOG2] what has left once is not replaced, after a reload neither", async () => {
  const { say, outbox, store } = await scene({ isLive: false });
  await say("a", "a1");
  outbox.resume();
  expect(await outbox.replace("a1", { content: "other" })).toBe(false);
  outbox.suspend();
  const after = await scene({ store, isLive: false });
  expect(await after.outbox.replace("a1", { content: "other" })).toBe(false);
});

test("[LOG2] asked twice with one id it is there once; an own event has a key, its own or that of its entry", async () => {
  const { say, outbox, sent } = await scene();
  expect(await say("a", "a1")).toEqual(await say("a", "a1"));
  expect(sent).toHaveLength(1);
  const event = { conversation_id: "b", type: "poll.vote", payload: {} };
  const { id } = await outbox.add("event.send", event);
  expect(sent[1]!.payload).toEqual({ ...event, client_event_id: id });
  await sent[1]!.take();
  await outbox.add("event.send", { ...event, client_event_id: "mine" });
  expect(sent[2]!.payload).toEqual({ ...event, client_event_id: "mine" });
});

test("[LOG2] what is discarded on its way is gone, and still told of where the server took it", async () => {
  const { say, outbox, sent, told, contents } = await scene();
  await say("a", "a1");
  await say("a", "a2");
  await outbox.discard("a1");
  expect(contents()).toEqual(["a1"]);
  await sent[0]!.take({ message_id: "m" });
  expect(told).toMatchObject([{ entry: { id: "a1" } }]);
  await outbox.discard("a2");
  await sent[1]!.refuse(refusal("forbidden"));
  expect(outbox.entries).toEqual([]);
});

test("[LOG2] it is bounded, and says so", async () => {
  const { say, outbox, states } = await scene({ isLive: false });
  for (let n = 0; n < 1000; n++) await say("a", `m${n}`);
  const full = say("a", "one more").catch((error) => error);
  expect(await full).toBeInstanceOf(ClientError);
  expect((await full).code).toBe("outbox_full");
  await outbox.discard("m0");
  await say("a", "one more");
  expect(states()).toHaveLength(1000);
});

test("[LOG2] where nothing can be kept it is sent all the same, and that is told", async () => {
  const broken: Store = {
    read: () => Promise.reject(new Error("no")),
    write: () => Promise.reject(new Error("full")),
    clear: () => Promise.resolve(),
  };
  const { say, sent, told, errors } = await scene({ store: broken });
  await say("a", "a1");
  await sent[0]!.take();
  expect(told).toHaveLength(1);
  expect(errors.map(String)).toContain("Error: full");
});

test("after `forget` nothing is told of what was under way", async () => {
  const { say, outbox, sent, told } = await scene();
  await say("a", "a1");
  outbox.forget();
  await sent[0]!.take();
  expect([outbox.entries, told]).toEqual([[], []]);
});

test("`entries` is another list whenever something has changed, and only then", async () => {
  const { say, outbox } = await scene({ isLive: false });
  let changes = 0;
  const stop = outbox.onChange(() => changes++);
  const before = outbox.entries;
  expect(outbox.entries).toBe(before);
  await say("a", "a1");
  expect(outbox.entries).not.toBe(before);
  expect(changes).toBe(1);
  stop();
  await say("a", "a2");
  expect(changes).toBe(1);
});
