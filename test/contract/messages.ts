/** Proves what every event log must do with messages that are changed afterwards [MSG2] [MSG3]. */
import { describe, expect, test } from "bun:test";
import { amending, type MessageChange } from "../../src/broadcast/message-changes.ts";
import type { ServerPayload } from "../../src/protocol/server.ts";
import { reactionLimits } from "../../src/storage/amendments.ts";
import type { AppendedEvent, EventLog, NewEvent } from "../../src/storage/ports.ts";
import { markOne } from "../support/marks.ts";
import { type Open, withStorage } from "./opened.ts";
import { trimAll } from "./trim-all.ts";

const conversation_id = "c1";
const topic = `conversation:${conversation_id}`;
const momentOf = (ms: number) => new Date(ms).toISOString();
let made = 0;

/** A message as `message.send` appends it. */
export function message(id: string, content: unknown, rest: Partial<NewEvent> & { sender?: string } = {}): NewEvent {
  const { sender = "ann", ...event } = rest;
  const createdAt = event.createdAt ?? 1_000;
  const payload = JSON.stringify({
    message_id: id,
    client_message_id: `sent-${id}`,
    conversation_id,
    sender_id: sender,
    content,
    created_at: momentOf(createdAt),
  });
  return { id, topic, type: "message.new", payload, createdAt, senderId: sender, ...event };
}

function changed(change: MessageChange, { sentBy, ...rest }: Partial<NewEvent> & { sentBy?: string }): NewEvent {
  const id = `change-${++made}`;
  const { type, payload } = change;
  return { id, topic, type, payload: JSON.stringify(payload), createdAt: 5_000, ...amending(change, sentBy), ...rest };
}

type Whose = Partial<NewEvent> & { sentBy?: string; at?: number };

export function edited(message_id: string, content: string | object, { at = 5_000, ...rest }: Whose = {}): NewEvent {
  const payload = {
    conversation_id,
    message_id,
    content: content as string,
    edited_at: momentOf(at),
    edited_by: "ann",
  };
  return changed({ type: "message.edited", payload }, rest);
}

export function deleted(message_id: string, { at = 6_000, ...rest }: Whose = {}): NewEvent {
  const payload = { conversation_id, message_id, deleted_at: momentOf(at), deleted_by: "ann" };
  return changed({ type: "message.deleted", payload }, rest);
}

export function reacted(
  message_id: string,
  [user_id, reaction, added]: [user: string, reaction: string, added: boolean],
  { at = 7_000, ...rest }: Whose = {},
): NewEvent {
  const payload = { conversation_id, message_id, user_id, reaction, added, at: momentOf(at) };
  return changed({ type: "message.reaction", payload }, rest);
}

type Shown = ServerPayload<"message.new">;

/** The message as each way of reading shows it, which must be the same. */
async function shown(log: EventLog, id: string): Promise<Shown | undefined> {
  const pages = [
    await log.page({ topic, limit: 200 }),
    await log.page({ topic, afterSeq: 0, limit: 200 }),
    await log.range({ topic, afterSeq: 0, throughSeq: 10_000, limit: 1_000 }),
    await log.replay({ topics: [topic], afterPosition: 0, limit: 1_000 }),
    await log.feed({ afterPosition: 0, limit: 1_000 }),
  ];
  const found = pages.map(({ events }) => events.find((event) => event.id === id)?.payload);
  expect(new Set(found).size).toBe(1);
  return found[0] === undefined ? undefined : JSON.parse(found[0]);
}

const append = async (log: EventLog, ...events: NewEvent[]): Promise<AppendedEvent[]> =>
  (await log.append(events)).appended;
const typesOf = async (log: EventLog) =>
  (await log.page({ topic, limit: 200 })).events.map(({ type, seq }) => `${seq} ${type}`);
const textsOf = async (log: EventLog) => JSON.stringify(await log.page({ topic, limit: 200 }));

export function describeMessagesContract(name: string, open: Open): void {
  describe(`messages contract: ${name}`, () => {
    describeEdits(open);
    describeDeletions(open);
    describeReactions(open);
    describeWithOthers(open);
  });
}

function describeEdits(open: Open): void {
  test(
    "[MSG2] an edited message has the content of today wherever it is read, and only its newest edit is kept",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "first"), message("m2", "other"));
      const [second] = await append(log, edited("m1", "second", { at: 5_000 }));
      expect(second).toMatchObject({ seq: 3, duplicate: false });
      await append(log, edited("m1", { text: "third" }, { at: 5_001 }));
      expect(await shown(log, "m1")).toEqual({
        message_id: "m1",
        client_message_id: "sent-m1",
        conversation_id,
        sender_id: "ann",
        content: { text: "third" },
        created_at: momentOf(1_000),
        edited_at: momentOf(5_001),
      });
      expect(await shown(log, "m2")).toMatchObject({ content: "other" });
      expect(await typesOf(log)).toEqual(["1 message.new", "2 message.new", "4 message.edited"]);
      expect(await textsOf(log)).not.toMatch(/first|second/);
    }),
  );

  test(
    "[MSG2] an edit that changes nothing is acknowledged and appends nothing, also after another one in its batch",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "one"));
      const [same] = await append(log, edited("m1", "one"));
      expect(same).toMatchObject({ seq: 0, position: 0, duplicate: true });
      expect(same!.refusal).toBeUndefined();
      const answers = await append(log, edited("m1", "two"), edited("m1", "one"), edited("m1", "one"));
      expect(answers.map(({ seq, duplicate }) => [seq, duplicate])).toEqual([
        [2, false],
        [3, false],
        [0, true],
      ]);
      expect(await shown(log, "m1")).toMatchObject({ content: "one", edited_at: momentOf(5_000) });
      const { appended, previousPosition } = await log.append([edited("m1", "one")]);
      expect(appended).toMatchObject([{ duplicate: true }]);
      expect(previousPosition).toBeGreaterThanOrEqual(0);
    }),
  );

  test(
    "[MSG2] of any number of large messages one batch makes what each of its events says in turn",
    withStorage(open, async ({ log }) => {
      const large = (text: string) => text.repeat(3 * 1024 * 1024);
      for (const id of ["m1", "m2", "m3", "m4"]) await append(log, message(id, large("x")));
      const bob = { sentBy: "bob" };
      const answers = await append(
        log,
        deleted("m1", bob),
        edited("m1", large("x")),
        deleted("none"),
        deleted("m2", bob),
        edited("m3", "y"),
        edited("m1", "z", bob),
        deleted("m4"),
        deleted("m4"),
        deleted("m2", { sentBy: "ann" }),
        edited("m1", "w"),
        edited("m3", "y"),
      );
      const said = answers.map(({ refusal, duplicate }) => refusal ?? (duplicate ? "unchanged" : "applied"));
      expect(said.join(" ")).toBe(
        "unknown unchanged unknown unknown applied unknown applied unchanged applied applied unchanged",
      );
      const contents = await Promise.all(["m1", "m2", "m3", "m4"].map((id) => shown(log, id)));
      expect(contents.map((it) => it!.content)).toEqual(["w", null, "y", null]);
    }),
  );

  test(
    "[MSG2] [LOG2] an edit that is known by its key changes nothing for what comes after it in the batch",
    withStorage(open, async ({ log }) => {
      const keyed = () => edited("m1", "two", { once: { keys: ["k1"], digest: "d1" } });
      await append(log, message("m1", "one"));
      await append(log, keyed());
      await append(log, edited("m1", "three"));
      const answers = await append(log, keyed(), edited("m1", "two"));
      expect(answers.map(({ seq, duplicate }) => [seq, duplicate])).toEqual([
        [2, true],
        [4, false],
      ]);
      expect(await shown(log, "m1")).toMatchObject({ content: "two" });
    }),
  );

  test(
    "[MSG2] what is no message, or another topic's, or not that user's, is unknown; nothing is appended",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "one"), {
        ...message("x1", "elsewhere"),
        topic: "conversation:other",
        type: "message.new",
      });
      const [, , plain] = await append(log, message("m2", "two", { sender: "bob" }), message("m3", "three"), {
        id: "plain",
        topic,
        type: "poll.closed",
        payload: "{}",
        createdAt: 1,
      });
      expect(plain).toMatchObject({ seq: 4 });
      const answers = await append(
        log,
        edited("nothing", "x"),
        edited("x1", "x"),
        edited("plain", "x"),
        edited("m2", "x", { sentBy: "ann" }),
        deleted("m2", { sentBy: "ann" }),
        { ...edited("m1", "x"), topic: "conversation:new" },
      );
      expect(answers.map(({ refusal, duplicate, seq }) => [refusal, duplicate, seq])).toEqual(
        Array.from({ length: 6 }, () => ["unknown", true, 0]),
      );
      expect(await shown(log, "m2")).toMatchObject({ content: "two", sender_id: "bob" });
      expect((await log.stats()).events).toBe(5);
      expect(await append(log, edited("m2", "mine", { sentBy: "bob" }))).toMatchObject([{ seq: 5 }]);
    }),
  );

  test(
    "[MSG2] contents of any kind are edited, and what an application has put beside them stays",
    withStorage(open, async ({ log }) => {
      const odd = {
        text: 'naïve 🙂 \u0000 \ud800 "content":"x" \\',
        content: { content: 1 },
        list: [null, true, 1.5e-7],
      };
      const payload = {
        meta: { content: "beside" },
        content: "first",
        message_id: "m1",
        conversation_id,
        sender_id: "ann",
        created_at: momentOf(1),
        "": "no name",
        last: "\u0000",
      };
      await append(log, { ...message("m1", ""), payload: JSON.stringify(payload) });
      await append(log, edited("m1", odd));
      expect(await shown(log, "m1")).toEqual({ ...payload, content: odd, edited_at: momentOf(5_000) } as never);
      await append(log, edited("m1", "", { at: 5_001 }));
      expect(await shown(log, "m1")).toEqual({ ...payload, content: "", edited_at: momentOf(5_001) } as never);
      const large = "x".repeat(300_000);
      await append(log, edited("m1", large), reacted("m1", ["bob", "👍", true]));
      expect((await shown(log, "m1"))!.content).toBe(large);
    }),
  );

  test(
    "[MSG2] of two who edit at once one is last, in the log as in the message",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "start"));
      const edits = Array.from({ length: 20 }, (_, index) => edited("m1", `edit ${index}`));
      const answers = (await Promise.all(edits.map((event) => log.append([event])))).flatMap(
        ({ appended }) => appended,
      );
      expect(answers.map(({ seq }) => seq).toSorted((a, b) => a - b)).toEqual(edits.map((_, index) => index + 2));
      const last = answers.findIndex(({ seq }) => seq === 21);
      expect(await shown(log, "m1")).toMatchObject({ content: `edit ${last}` });
      expect(await typesOf(log)).toEqual(["1 message.new", "21 message.edited"]);
    }),
  );

  test(
    "[MSG2] a message that is new in the batch is changed in it",
    withStorage(open, async ({ log }) => {
      const answers = await append(
        log,
        message("m1", "one"),
        edited("m1", "two"),
        message("m2", "other"),
        reacted("m1", ["bob", "👍", true]),
        reacted("m2", ["bob", "👍", true]),
        deleted("m2"),
        edited("m2", "again"),
      );
      expect(answers.map(({ seq, refusal }) => refusal ?? seq)).toEqual([1, 2, 3, 4, 5, 6, "deleted"]);
      expect(await shown(log, "m1")).toMatchObject({ content: "two", reactions: [{ reaction: "👍", count: 1 }] });
      expect(await shown(log, "m2")).toMatchObject({ content: null });
    }),
  );
}

function describeDeletions(open: Open): void {
  test(
    "[MSG2] a deleted message has nothing that was said: not in its event, not in its edits, not beside it",
    withStorage(open, async ({ log }) => {
      const payload = { ...JSON.parse(message("m1", "the text").payload), title: "the title" };
      await append(log, { ...message("m1", ""), payload: JSON.stringify(payload) });
      await append(log, edited("m1", "the edit"), reacted("m1", ["bob", "👍", true]));
      expect(await append(log, deleted("m1"))).toMatchObject([{ seq: 4, duplicate: false }]);
      expect(await shown(log, "m1")).toEqual({
        message_id: "m1",
        client_message_id: "sent-m1",
        conversation_id,
        sender_id: "ann",
        content: null,
        created_at: momentOf(1_000),
        deleted_at: momentOf(6_000),
      });
      expect(await textsOf(log)).not.toMatch(/the text|the title|the edit/);
      expect(await typesOf(log)).toEqual(["1 message.new", "3 message.reaction", "4 message.deleted"]);
    }),
  );

  test(
    "[MSG2] deleting again changes nothing, and a deleted message is neither edited nor reacted to",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "text"), reacted("m1", ["bob", "👍", true]), deleted("m1", { sentBy: "ann" }));
      const answers = await append(
        log,
        deleted("m1"),
        deleted("m1", { sentBy: "ann" }),
        deleted("m1", { sentBy: "bob" }),
        edited("m1", "again"),
        edited("m1", "again"),
        edited("m1", "again", { sentBy: "bob" }),
        reacted("m1", ["bob", "👎", true]),
        reacted("m1", ["bob", "👍", false]),
      );
      expect(answers.map(({ refusal }) => refusal)).toEqual([
        undefined,
        undefined,
        "unknown",
        "deleted",
        "deleted",
        "unknown",
        "deleted",
        undefined,
      ]);
      expect(answers.every(({ duplicate, seq }) => duplicate && seq === 0)).toBe(true);
      expect((await shown(log, "m1"))!.deleted_at).toBe(momentOf(6_000));
      expect((await log.stats()).events).toBe(3);
    }),
  );

  test(
    "[MSG2] of many who edit and delete at once the message ends deleted, and nothing of its texts is left",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "secret"));
      const changes = Array.from({ length: 20 }, (_, index) =>
        index === 10 ? deleted("m1") : edited("m1", `secret ${index}`),
      );
      const answers = (await Promise.all(changes.map((event) => log.append([event])))).flatMap((it) => it.appended);
      expect(answers[10]!.refusal).toBeUndefined();
      for (const { refusal } of answers) if (refusal !== undefined) expect(refusal).toBe("deleted");
      expect(await shown(log, "m1")).toMatchObject({ content: null });
      expect(await textsOf(log)).not.toContain("secret");
    }),
  );

  test(
    "[MSG2] [REC3] a deleted message is not unread and no receipt names it; marking it still counts",
    withStorage(open, async ({ log, receipts }) => {
      await append(log, message("m1", "one"), message("m2", "two"), message("m3", "three"), deleted("m2"));
      const place = async () => (await receipts.states("bob", ["c1"])).get("c1");
      expect(await place()).toMatchObject({ readSeq: 0, unread: 2 });
      const mark = (userId: string) =>
        markOne(receipts, { conversationId: "c1", userId, kind: "read", messageIds: ["m2"] });
      expect(await mark("bob")).toEqual({ upToSeq: 2, advanced: true });
      expect(await place()).toMatchObject({ readSeq: 2, unread: 1 });
      await markOne(receipts, { conversationId: "c1", userId: "bob", kind: "read", upToSeq: 3 });
      expect(await receipts.unsent({ of: [{ conversationId: "c1", userId: "bob" }] }, 9)).toMatchObject([
        { kind: "read", messageIds: ["m1", "m3"] },
      ]);
      // Her own, deleted or not, is nothing that she has read.
      expect(await mark("ann")).toEqual({ upToSeq: 0, advanced: false });
    }),
  );

  test(
    "[MSG2] [LOG2] what was sent is the same when it is sent again, edited or deleted meanwhile",
    withStorage(open, async ({ log }) => {
      const sent = (digest: string) => message("m1", "text", { once: { keys: ["k"], digest } });
      const [first] = await append(log, sent("d"));
      await append(log, edited("m1", "other"));
      expect(await append(log, sent("d"), sent("other"))).toEqual([
        { ...first!, duplicate: true },
        { ...first!, duplicate: true, conflict: true },
      ]);
      await append(log, deleted("m1"));
      // Nothing is known any more of what was said, not even its digest.
      expect(await append(log, sent("d"), sent("other"))).toEqual([
        { ...first!, duplicate: true },
        { ...first!, duplicate: true },
      ]);
      expect(await shown(log, "m1")).toMatchObject({ content: null });
    }),
  );

  test(
    "[MSG2] [LOG2] an edit under a key is made once; the digest of what it said goes with it",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "text"));
      const edit = (digest: string) => edited("m1", "edit", { once: { keys: ["e"], digest } });
      const [first] = await append(log, edit("d"));
      expect(await append(log, edit("d"), edit("other"))).toEqual([
        { ...first!, duplicate: true },
        { ...first!, duplicate: true, conflict: true },
      ]);
      await append(log, edited("m1", "newer"));
      expect(await append(log, edit("other"))).toEqual([{ ...first!, duplicate: true }]);
      expect(await shown(log, "m1")).toMatchObject({ content: "newer" });
      await append(log, edited("m1", "last", { once: { keys: ["l"], digest: "d" } }), deleted("m1"));
      expect(await append(log, edited("m1", "", { once: { keys: ["l"], digest: "other" } }))).toMatchObject([
        { duplicate: true, seq: 4 },
      ]);
    }),
  );
}

function describeReactions(open: Open): void {
  const reactionsOf = async (log: EventLog, id = "m1") => (await shown(log, id))!.reactions;

  test(
    "[MSG3] reactions are shown with who has reacted first, in the order in which they came",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "text"), message("m2", "other"));
      await append(log, reacted("m1", ["ann", "👍", true], { at: 1 }));
      await append(log, reacted("m1", ["bob", '"\\', true], { at: 2 }), reacted("m1", ["bob", "👍", true], { at: 3 }));
      expect(await reactionsOf(log)).toEqual([
        { reaction: "👍", count: 2, user_ids: ["ann", "bob"] },
        { reaction: '"\\', count: 1, user_ids: ["bob"] },
      ]);
      expect(await reactionsOf(log, "m2")).toBeUndefined();
      await append(log, reacted("m1", ["ann", "👍", false]));
      expect(await reactionsOf(log)).toEqual([
        { reaction: "👍", count: 1, user_ids: ["bob"] },
        { reaction: '"\\', count: 1, user_ids: ["bob"] },
      ]);
      await append(log, reacted("m1", ["bob", "👍", false]), reacted("m1", ["bob", '"\\', false]));
      expect(await reactionsOf(log)).toBeUndefined();
      expect(await shown(log, "m1")).toMatchObject({ content: "text" });
    }),
  );

  test(
    "[MSG3] the same reaction again, or taking back what is not there, changes nothing; the newest event of each is kept",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "text"));
      const answers = await append(
        log,
        reacted("m1", ["ann", "👍", false]),
        reacted("m1", ["ann", "👍", true]),
        reacted("m1", ["ann", "👍", true]),
        reacted("m1", ["bob", "👍", true]),
        reacted("m1", ["ann", "👍", false]),
        reacted("m1", ["ann", "👍", false]),
        reacted("nothing", ["ann", "👍", true]),
        reacted("nothing", ["ann", "👍", false]),
      );
      expect(answers.map(({ seq, duplicate, refusal }) => [seq, duplicate, refusal])).toEqual([
        [0, true, undefined],
        [2, false, undefined],
        [0, true, undefined],
        [3, false, undefined],
        [4, false, undefined],
        [0, true, undefined],
        [0, true, "unknown"],
        [0, true, "unknown"],
      ]);
      expect(await typesOf(log)).toEqual(["1 message.new", "3 message.reaction", "4 message.reaction"]);
    }),
  );

  test(
    "[MSG3] all who react are counted and the first twenty are named, also once some have taken it back",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "text"));
      const users = Array.from({ length: 25 }, (_, index) => `u${index + 10}`);
      await append(log, ...users.map((user, index) => reacted("m1", [user, "👍", true], { at: index })));
      expect(await reactionsOf(log)).toEqual([
        { reaction: "👍", count: 25, user_ids: users.slice(0, reactionLimits.usersShown) },
      ]);
      await append(log, reacted("m1", ["u10", "👍", false]), reacted("m1", ["u34", "👍", false]));
      expect(await reactionsOf(log)).toEqual([{ reaction: "👍", count: 23, user_ids: users.slice(1, 21) }]);
    }),
  );

  test(
    "[MSG3] a user has at most twenty different reactions on a message, and a message at most a hundred",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "text"), message("m2", "text"));
      const several = (user: string, from: number, count: number) =>
        Array.from({ length: count }, (_, index) => reacted("m1", [user, `r${from + index}`, true]));
      const { ofUser, ofMessage } = reactionLimits;
      const own = await append(log, ...several("ann", 0, ofUser + 1));
      expect(own.map(({ refusal }) => refusal).filter(Boolean)).toEqual(["too_many"]);
      expect(own.at(-1)!.refusal).toBe("too_many");
      expect(await append(log, reacted("m2", ["ann", "r", true]))).toMatchObject([{ duplicate: false }]);
      for (let from = ofUser; from < ofMessage; from += ofUser) await append(log, ...several(`u${from}`, from, ofUser));
      expect(await append(log, reacted("m1", ["bob", "new", true]), reacted("m1", ["bob", "r5", true]))).toMatchObject([
        { refusal: "too_many" },
        { duplicate: false },
      ]);
      await append(log, reacted("m1", ["ann", "r0", false]));
      expect(await append(log, reacted("m1", ["bob", "new", true]))).toMatchObject([{ duplicate: false }]);
    }),
  );

  test(
    "[MSG3] of many who react at once all are counted, each once",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "text"));
      const users = Array.from({ length: 10 }, (_, index) => `u${index}`);
      await Promise.all([...users, ...users].map((user) => log.append([reacted("m1", [user, "👍", true])])));
      expect(await reactionsOf(log)).toMatchObject([{ count: 10 }]);
      expect((await log.stats()).events).toBe(11);
    }),
  );
}

function describeWithOthers(open: Open): void {
  test(
    "[MSG2] [LOG1] other events of the batch are appended whatever comes of an amendment, in order and without holes",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "text"));
      const events = [
        edited("nothing", "x"),
        message("m2", "two"),
        edited("m1", "edit"),
        deleted("nothing"),
        message("m3", "three"),
      ];
      const answers = await append(log, ...events);
      expect(answers.map(({ seq, id }) => [seq, id])).toEqual(
        events.map(({ id }, index) => [[0, 2, 3, 0, 4][index]!, id]),
      );
      expect(await log.heads([topic])).toMatchObject(new Map([[topic, { seq: 4 }]]));
    }),
  );

  test(
    "[MSG2] [LOG7] what retention has removed is unknown, and its reactions are gone with it",
    withStorage(open, async ({ log }) => {
      await append(log, message("m1", "old", { createdAt: 10 }), message("m2", "new", { createdAt: 2_000 }));
      await append(log, reacted("m1", ["ann", "👍", true], { createdAt: 2_000 }));
      await append(log, edited("m1", "edit", { createdAt: 2_000 }));
      await trimAll(log, { createdBefore: 1_500, eventsPerTopic: 100 });
      const answers = await append(log, edited("m1", "x"), deleted("none"), reacted("m1", ["ann", "👎", true]));
      expect(answers.map(({ refusal }) => refusal)).toEqual(["unknown", "unknown", "unknown"]);
      expect(await typesOf(log)).toEqual(["2 message.new", "3 message.reaction", "4 message.edited"]);
      expect((await log.stats()).events).toBe(3);
      // Its last edit says what it said.
      const deletions = await append(
        log,
        deleted("m1", { sentBy: "bob" }),
        deleted("m1", { sentBy: "ann" }),
        deleted("m1", { sentBy: "ann" }),
      );
      expect(deletions.map(({ refusal, seq }) => refusal ?? seq)).toEqual(["unknown", 5, "unknown"]);
      expect(await typesOf(log)).toEqual(["2 message.new", "3 message.reaction", "5 message.deleted"]);
      expect((await log.stats()).events).toBe(3);
    }),
  );

  test(
    "[MSG2] an amendment is there after a stop and a start",
    withStorage(open, async (storage) => {
      const { log } = storage;
      await append(log, message("m1", "one"), message("m2", "two"));
      await append(log, edited("m1", "edit"), reacted("m1", ["bob", "👍", true]), deleted("m2"));
      await storage.stop();
      await storage.start();
      expect(await shown(log, "m1")).toMatchObject({ content: "edit", reactions: [{ count: 1 }] });
      expect(await shown(log, "m2")).toMatchObject({ content: null });
      expect(await append(log, deleted("m2"))).toMatchObject([{ duplicate: true }]);
    }),
  );
}
