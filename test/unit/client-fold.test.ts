/** Proves that a conversation folds to what the service has, in whatever order the protocol lets its pieces come [REC3] [MSG2] [MSG3]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { Fold } from "../../src/client/conversations/fold.ts";
import type { OutboxEntry, OutboxType } from "../../src/client/core.ts";
import { ModelConversation, ModelLine, me } from "../support/model-conversation.ts";

const users = ["ann", "bob", "eve", me];
const steps = ["send", "send", "edit", "delete", "react", "unreact", "read", "delivered"] as const;
const devices = ["subscribe", "page", "mark", "back", "anew", "trim", "keep"] as const;

const step = fc.record({
  kind: fc.constantFrom(...steps, ...devices, "event", "event", "event", "answer", "answer"),
  user: fc.constantFrom(...users),
  /** Done on this device itself, where the user is oneself. */
  isHere: fc.boolean(),
  which: fc.nat(1_000),
  reaction: fc.constantFrom("+", "-"),
});
type Step = typeof step extends fc.Arbitrary<infer It> ? It : never;

class Played {
  readonly model = new ModelConversation();
  readonly fold = new Fold({ userId: me });
  readonly line = new ModelLine(this.model, this.fold);
  #texts = 0;

  play({ kind, user, isHere, which, reaction }: Step): void {
    const { model, line } = this;
    const message = model.said[which % Math.max(1, model.said.length)];
    const own = (type: OutboxType, payload: object) =>
      user === me && isHere ? { type, createdAt: 0, payload: { conversation_id: "c", ...payload } as never } : null;
    const content = `text ${++this.#texts}`;
    if (kind === "send") {
      const event = model.send(user, content);
      const { client_message_id } = event.payload;
      return line.tell(event, own("message.send", { client_message_id, content }));
    }
    const named = { message_id: message?.id };
    if (kind === "read" || kind === "delivered") {
      const upTo = which % (model.seq + 1);
      if (user === me && isHere) return this.#mark(kind, upTo);
      return line.tell(model.mark(`message.${kind}`, user, upTo), null);
    }
    if (message === undefined) return this.#come(kind, which);
    if (kind === "edit") line.tell(model.edit(message, user, content), own("message.edit", { ...named, content }));
    else if (kind === "delete") line.tell(model.delete(message, user), own("message.delete", named));
    else if (kind === "react" || kind === "unreact") {
      const added = kind === "react";
      const asked = own(added ? "reaction.add" : "reaction.remove", { ...named, reaction });
      line.tell(model.react(message, user, { reaction, added }), asked);
    } else this.#come(kind, which);
  }

  #mark(kind: "read" | "delivered", upTo: number): void {
    this.model.mark(`message.${kind}`, me, upTo);
    this.line.mark(`mark.${kind}`, upTo);
  }

  #come(kind: Step["kind"], which: number): void {
    const { model, line, fold } = this;
    if (kind === "event" || kind === "answer") line.come(kind);
    else if (kind === "subscribe") line.ask();
    else if (kind === "mark") this.#ask();
    else if (kind === "back") line.breakAndComeBack(which % 4);
    else if (kind === "trim") fold.trim(1 + (which % 5));
    else if (kind === "page") this.#scroll(1 + (which % 4));
    else if (kind === "anew") this.#readAnew(model.said[which % Math.max(1, model.said.length)]?.id);
  }

  #scroll(limit: number): void {
    const { fold, model, line } = this;
    const before = fold.fromSeq;
    if (before === null || before === 0) return;
    fold.expect(1);
    const page = model.page(before, limit);
    line.answer(() => {
      fold.takePage(page, before);
      fold.expect(-1);
    });
  }

  #readAnew(id: string | undefined): void {
    if (id === undefined || !this.fold.expectAnew(id)) return;
    const event = this.model.message(id);
    this.line.answer(() => this.fold.takeAnew(id, event));
  }

  /** Everything comes that is under way, and what nobody here can know is asked. */
  settle(): void {
    this.line.settle();
    for (const id of this.fold.doubtful) this.#readAnew(id);
    this.line.settle();
    if (this.fold.unread === null) this.#ask();
    this.line.settle();
  }

  #ask(): void {
    const { question } = this.fold;
    const ack = { up_to_seq: 0, unread: this.model.unread, as_of_seq: this.model.seq };
    this.line.answer(() => this.fold.takeAnswer(ack, question));
  }
}

const by = (user: string, kind: Step["kind"], which = 0): Step => ({
  kind,
  user,
  isHere: user === me,
  which,
  reaction: "+",
});
const comes = (...kinds: Step["kind"][]) => kinds.map((kind) => by("ann", kind));

/** Plays in which something older than what was dropped comes after it: a message, an edit, a deletion. */
const droppedTooEarly: [Step[], number][] = [
  [
    [
      by(me, "send"),
      by("ann", "send"),
      ...comes("back"),
      by(me, "react"),
      ...comes("answer", "answer", "trim", "page"),
    ],
    0,
  ],
  [[by("ann", "send"), ...comes("back", "event"), by(me, "delete"), by("ann", "send"), ...comes("event", "trim")], 0],
  [
    [
      ...[by("ann", "send"), ...comes("back", "event"), by("ann", "send"), ...comes("event"), by(me, "delete", 1)],
      ...[by("ann", "send"), ...comes("event"), by("ann", "trim", 1)],
    ],
    0,
  ],
  [
    [
      ...[by(me, "edit"), by("ann", "send"), ...comes("answer"), by("ann", "edit")],
      ...comes("event", "event", "trim", "page"),
    ],
    2,
  ],
  [
    [
      ...[by("ann", "send"), ...comes("answer"), by("ann", "edit"), by(me, "edit"), ...comes("event", "anew", "event")],
      ...[by("ann", "send"), ...comes("event", "trim", "page")],
    ],
    0,
  ],
  [
    [...[by("ann", "send"), by("ann", "edit"), by(me, "edit")], ...comes("answer", "event", "answer", "trim", "page")],
    1,
  ],
];

/** The order in which somebody's own reaction stands among the others' is not told to its own device. */
const inOneOrder = (reactions: [reaction: string, count: number][]) => reactions.toSorted();

function expectTruth({ model, fold }: Played): void {
  const from = fold.fromSeq ?? Number.POSITIVE_INFINITY;
  const truth = model.said.filter(({ seq }) => seq >= from);
  expect(
    fold.messages().map(({ id, content, reactions }) => {
      return [id, content, inOneOrder(reactions.map(({ reaction, count }) => [reaction, count]))];
    }),
  ).toEqual(
    truth.map(({ id, content, reactions }) => {
      return [id, content, inOneOrder([...reactions].map(([reaction, by]) => [reaction, by.length]))];
    }),
  );
  for (const { id, reactions } of fold.messages())
    for (const { reaction, isMine, count, userIds } of reactions) {
      const by = model.said.find((it) => it.id === id)!.reactions.get(reaction)!;
      expect(userIds.filter((user) => by.includes(user))).toEqual([...userIds]);
      if (count <= 2) expect(userIds).toHaveLength(count);
      if (userIds.length === count) expect(isMine).toBe(by.includes(me));
    }
  expect([fold.unread, fold.guessUnread()]).toEqual([model.unread, model.unread]);
  if (fold.fromSeq !== null) expect(fold.last?.id).toBe(model.said.at(-1)?.id);
  const receipts = [...model.places].filter(([user, { delivered }]) => user !== me && delivered > 0);
  const held = fold.receipts.map(({ userId, readSeq, deliveredSeq }) => [userId, readSeq, deliveredSeq]);
  expect(held.filter(([, , delivered]) => delivered !== 0).sort()).toEqual(
    receipts.map(([user, { read, delivered }]) => [user, read, Math.max(read, delivered)]).sort(),
  );
}

test("[REC3] [MSG2] [MSG3] in whatever order its pieces come, a conversation folds to what the service has", () => {
  // A failure prints the seed and the path; TEST_SEED runs the same again.
  const seed = Number(Bun.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), fc.nat(6), (all, before) => {
      const played = new Played();
      // Some of it was there before the device came.
      for (const it of all.slice(0, before))
        if ((steps as readonly string[]).includes(it.kind)) played.play({ ...it, isHere: false });
      played.line.clear();
      played.line.ask();
      for (const it of all) played.play(it);
      played.settle();
      expectTruth(played);
      const restored = new Fold({ userId: me });
      restored.restore(JSON.parse(JSON.stringify(played.fold.keep(3))));
      expect([restored.unread, restored.readSeq, restored.heardSeq]).toEqual([
        played.fold.unread,
        played.fold.readSeq,
        played.fold.heardSeq,
      ]);
      expect(restored.messages()).toEqual(played.fold.messages().slice(-3));
    }),
    { seed, numRuns: 2_000, includeErrorInReport: true, examples: droppedTooEarly },
  );
});

test("[LOG2] [MSG2] [MSG3] what was so already has the message read anew: it may have been this device, whose answer was lost with a line", () => {
  const fold = new Fold({ userId: me });
  const payload = { conversation_id: "c1", message_id: "m1", sender_id: me, content: "a", created_at: "" };
  fold.take({ type: "message.new", seq: 1, payload });
  const entry = { id: "e1", createdAt: 0, state: "pending" } as const;
  for (const [type, rest] of [
    ["message.edit", { content: "b" }],
    ["message.delete", {}],
    ["reaction.add", { reaction: "👍" }],
  ] as const) {
    const asked = { ...entry, type, payload: { conversation_id: "c1", message_id: "m1", ...rest } } as OutboxEntry;
    fold.takeOwn(asked, { message_id: "m1", topic: "conversation:c1", duplicate: true });
    expect(fold.doubtful).toEqual(["m1"]);
    fold.expectAnew("m1");
    fold.takeAnew("m1", { type: "message.new", seq: 1, payload: { ...payload, content: type } });
    expect(fold.get("m1")?.content).toBe(type);
    expect(fold.doubtful).toEqual([]);
  }
});

test("[MSG3] what was dropped is not brought back by an answer from before it as it was then", () => {
  const fold = new Fold({ userId: me });
  const said = (id: string, rest: object = {}) => {
    return { message_id: id, conversation_id: "c", sender_id: "ann", content: id, created_at: "then", ...rest };
  };
  const first = { type: "message.new", seq: 1, payload: said("m1") };
  fold.stand({ as_of_seq: 0, unread: 0, last_message: null });
  fold.take(first);
  const reacted = { message_id: "m1", conversation_id: "c", user_id: "ann", reaction: "+", added: true, at: "then" };
  fold.take({ type: "message.reaction", seq: 2, payload: reacted });
  fold.take({ type: "message.new", seq: 3, payload: said("m3") });
  fold.trim(1);
  fold.stand({ as_of_seq: 1, unread: 1, last_message: first as never });
  expect(fold.get("m1")).toBeNull();
  const reactions = [{ reaction: "+", count: 1, user_ids: ["ann"] }];
  fold.takePage({ events: [{ ...first, payload: said("m1", { reactions }) }] as never, has_more: false }, 3);
  expect(fold.messages().map((it) => [it.id, it.reactions.length])).toEqual([
    ["m1", 1],
    ["m3", 0],
  ]);
});

test("[MSG2] of what was deleted already, by this device in vain or by another, no text stays", () => {
  const fold = new Fold({ userId: me });
  const said = { message_id: "m", conversation_id: "c", sender_id: me, content: "secret", created_at: "then" };
  fold.stand({ as_of_seq: 1, unread: 0, last_message: { seq: 1, type: "message.new", payload: said } as never });
  const payload = { conversation_id: "c", message_id: "m" };
  fold.takeOwn(
    { id: "d", type: "message.delete", payload, createdAt: 0, state: "pending" },
    { message_id: "m", duplicate: true },
  );
  expect(fold.last).toMatchObject({ content: null, deletedAt: new Date(0).toISOString() });
  expect(fold.doubtful).toEqual(["m"]);
});

test("[MSG3] of what happens to a message that is not loaded only the last word of each kind is held", async () => {
  const fold = new Fold({ userId: me });
  fold.begin(0);
  const told: WeakRef<object>[] = [];
  for (let seq = 1; seq <= 1_000; seq++) {
    const at = "2026-01-02T03:04:05.000Z";
    const payload = {
      conversation_id: "c",
      message_id: "old",
      user_id: "ann",
      reaction: "+",
      added: seq % 2 === 1,
      at,
    };
    told.push(new WeakRef(payload));
    fold.take({ type: "message.reaction", seq, payload });
  }
  // Until then a reference holds what it was made for.
  await new Promise<void>((resolve) => setImmediate(resolve));
  Bun.gc(true);
  // The machine's stack may hold a few for a while.
  expect(told.filter((it) => it.deref() !== undefined).length).toBeLessThan(100);
  expect(fold.last).toBeNull();
});

test("[MSG2] [REC3] a deletion that was answered as done already is not unread again", () => {
  const fold = new Fold({ userId: me });
  const said = (seq: number) => ({
    type: "message.new",
    seq,
    payload: { message_id: `m${seq}`, conversation_id: "c", sender_id: "ann", content: "a", created_at: "then" },
  });
  fold.stand({ as_of_seq: 1, unread: 1, last_message: said(1) as never });
  const payload = { conversation_id: "c", message_id: "m1" };
  fold.take({ type: "message.deleted", seq: 2, payload: { ...payload, deleted_at: "then", deleted_by: "ann" } });
  expect(fold.unread).toBe(0);
  const entry = { id: "d", type: "message.delete", payload, createdAt: 0, state: "pending" } as const;
  fold.takeOwn(entry, { message_id: "m1", duplicate: true });
  expect(fold.unread).toBe(0);
});

test("[MSG2] what is read anew is not changed by what was older when it was asked for", () => {
  const fold = new Fold({ userId: me });
  const payload = { message_id: "m", conversation_id: "c", sender_id: me, content: "first", created_at: "then" };
  const message = { type: "message.new", seq: 1, payload };
  fold.begin(0);
  fold.take(message);
  const edited = { conversation_id: "c", message_id: "m", edited_at: "then" };
  fold.take({ type: "message.edited", seq: 3, payload: { ...edited, content: "third" } });
  fold.expectAnew("m");
  const entry = { id: "e", type: "message.edit", createdAt: 0, state: "pending" } as const;
  const asked = { ...entry, payload: { conversation_id: "c", message_id: "m", content: "second" } };
  fold.takeOwn(asked, { message_id: "m", seq: 2, at: "then" });
  fold.takeAnew("m", { ...message, payload: { ...payload, content: "third" } });
  expect(fold.last?.content).toBe("third");
});

test("[REC3] a count from before what was dropped takes nothing away from what is unread", () => {
  const fold = new Fold({ userId: me });
  fold.stand({ as_of_seq: 0, unread: 0, last_message: null });
  for (const seq of [1, 2]) {
    const payload = { message_id: `m${seq}`, conversation_id: "c", sender_id: "ann", content: "a", created_at: "then" };
    fold.take({ type: "message.new", seq, payload });
  }
  fold.trim(1);
  fold.stand({ as_of_seq: 0, unread: 0, last_message: null });
  expect(fold.unread).toBe(2);
});
