/** Proves what every store must give that a list of conversations is drawn from, whatever it is stored in [REC3]. */
import { describe, expect, test } from "bun:test";
import type { Amendment } from "../../src/storage/amendments.ts";
import { lastMessageBytesMax, type Overview, receiptsToldMax } from "../../src/storage/overview-store.ts";
import type { EventLog, ReceiptKind, Storage } from "../../src/storage/ports.ts";
import { markOne } from "../support/marks.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { type Open, withStorage } from "./opened.ts";

const topic = "conversation:c1";
const room = 1_000_000;
const send = (log: EventLog, senderId: string, rest = {}) => log.append([newEvent(topic, { senderId, ...rest })]);

/** One conversation as one user has it, with the receipts read. */
async function shownTo({ overviews: store }: Storage, userId: string, { isTold = true, bytesMax = room } = {}) {
  const query = { userId, conversations: [{ conversationId: "c1", isTold }], bytesMax };
  const { overviews, bytes } = await store.read(query);
  return { ...parsed(overviews.get("c1")!), bytes };
}

const parsed = ({ receipts, ...overview }: Overview) => ({
  ...overview,
  receipts: receipts === undefined ? undefined : JSON.parse(receipts),
});

export function describeOverviewsContract(name: string, open: Open): void {
  describe(`overviews contract: ${name}`, () => {
    describeLastMessage(open);
    describeOthers(open);
    describeBounds(open);
  });
}

function describeLastMessage(open: Open): void {
  test(
    "[REC3] an overview has one's own place and the newest message, whole, whatever other events come after it",
    withStorage(open, async (storage) => {
      const { log, receipts } = storage;
      const nothing = { asOfSeq: 0, readSeq: 0, deliveredSeq: 0, unread: 0, lastMessage: null };
      expect(await shownTo(storage, "bob")).toEqual({ ...nothing, receipts: [], bytes: 0 });
      await log.append([newEvent(topic, { type: "poll.vote" })]);
      expect(await shownTo(storage, "bob")).toMatchObject({ ...nothing, asOfSeq: 1 });
      await send(log, "ann");
      const { appended } = await send(log, "ann", { payload: '{"content":"é \\u0000"}' });
      await send(log, "bob");
      await log.append(newEvents(topic, 5, { type: "poll.vote" }));
      const { events } = await log.page({ topic, beforeSeq: 5, limit: 1 });
      expect(events).toHaveLength(1);
      await markOne(receipts, { conversationId: "c1", userId: "bob", kind: "read", upToSeq: 2 });
      const own = { asOfSeq: 9, readSeq: 2, deliveredSeq: 2, unread: 1, lastMessage: events[0]!, receipts: [] };
      expect(await shownTo(storage, "bob")).toMatchObject(own);
      expect(await shownTo(storage, "ann")).toMatchObject({ readSeq: 0, unread: 1, lastMessage: events[0] });
      expect(appended[0]!.seq).toBe(3);
    }),
  );

  test(
    "[REC3] who joins later sees the last message of before, and has read it",
    withStorage(open, async (storage) => {
      await storage.directory.addMembers("c1", ["ann"]);
      await send(storage.log, "ann");
      await storage.directory.addMembers("c1", ["late"]);
      const joined = await shownTo(storage, "late");
      expect(joined).toMatchObject({ readSeq: 1, deliveredSeq: 1, unread: 0, lastMessage: { seq: 1 } });
    }),
  );

  test(
    "[REC3] [MSG2] [MSG3] the last message is what it is today: reacted to, edited, deleted, and unread no more then",
    withStorage(open, async (storage) => {
      const { log } = storage;
      const message = newEvent(topic, { senderId: "ann", payload: '{"sender_id":"ann","content":"one"}' });
      await log.append([message]);
      const messageId = message.id;
      const amend = (amendment: Amendment) =>
        log.append([newEvent(topic, { type: "message.edited", payload: "{}", amendment })]);
      const shown = async () => {
        const { events } = await log.pageOf({ topic, types: ["message.new"], limit: 1 });
        const { lastMessage, unread } = await shownTo(storage, "bob");
        expect(lastMessage).toEqual(events[0]);
        return [JSON.parse(lastMessage!.payload), unread];
      };
      const at = "2026-11-22T23:26:48.194Z";
      await amend({ messageId, kind: "react", userId: "bob", reaction: "👍", at: 5 });
      const reactions = [{ reaction: "👍", count: 1, user_ids: ["bob"] }];
      expect(await shown()).toEqual([{ sender_id: "ann", content: "one", reactions }, 1]);
      await amend({ messageId, kind: "edit", content: '"two"', at });
      expect(await shown()).toEqual([{ sender_id: "ann", content: "two", edited_at: at, reactions }, 1]);
      await amend({ messageId, kind: "delete", at });
      expect(await shown()).toEqual([{ sender_id: "ann", content: null, deleted_at: at }, 0]);
    }),
  );
}

function describeOthers(open: Open): void {
  const mark = ({ receipts }: Storage, userId: string, kind: ReceiptKind, upToSeq: number) =>
    markOne(receipts, { conversationId: "c1", userId, kind, upToSeq });

  test("[REC3] receipts are the others', who moved last first; private reads and joining are nobody else's", async () => {
    let at = 1_767_323_045_000;
    await withStorage(
      () => open({ now: () => ++at }),
      async (storage) => {
        const { directory, log } = storage;
        for (let count = 0; count < 5; count++) await send(log, "ann");
        await directory.addMembers("c1", ["ann", "bob", "eve", "late", "shy"]);
        await log.append(newEvents(topic, 5, { senderId: "ann" }));
        await mark(storage, "bob", "read", 6);
        await mark(storage, "eve", "delivered", 8);
        await mark(storage, "shy", "read_private", 9);
        const eve = { user_id: "eve", read_seq: 0, delivered_seq: 8 };
        const bob = { user_id: "bob", read_seq: 6, delivered_seq: 6 };
        expect((await shownTo(storage, "ann")).receipts).toEqual([eve, bob]);
        expect((await shownTo(storage, "bob")).receipts).toEqual([eve]);
        expect((await shownTo(storage, "shy")).readSeq).toBe(9);
        expect((await shownTo(storage, "ann", { isTold: false })).receipts).toBeUndefined();
        // Bob has read on privately: the others still know what they knew.
        await mark(storage, "bob", "read_private", 10);
        expect((await shownTo(storage, "ann")).receipts).toEqual([eve, bob]);
        await directory.removeMembers("c1", ["eve"]);
        expect((await shownTo(storage, "ann")).receipts).toEqual([bob]);
        await directory.addMembers("c1", ["eve"]);
        expect((await shownTo(storage, "ann")).receipts).toEqual([eve, bob]);
      },
    )();
  });

  test(
    "[REC3] who is added again, or comes back, is told of as before, whatever was said meanwhile",
    withStorage(open, async (storage) => {
      const { directory, log } = storage;
      await directory.addMembers("c1", ["ann", "bob"]);
      await send(log, "ann");
      await send(log, "ann");
      await mark(storage, "bob", "read", 1);
      const bob = { user_id: "bob", read_seq: 1, delivered_seq: 1 };
      const receipts = async () => (await shownTo(storage, "ann")).receipts;
      await directory.addMembers("c1", ["ann", "bob"]);
      expect(await receipts()).toEqual([bob]);
      await directory.removeMembers("c1", ["bob"]);
      expect(await receipts()).toEqual([]);
      await directory.addMembers("c1", ["bob"]);
      expect(await receipts()).toEqual([bob]);
      // Nothing was said meanwhile: what was unread is so still.
      expect(await shownTo(storage, "bob")).toMatchObject({ readSeq: 1, unread: 1 });
      await directory.removeMembers("c1", ["bob"]);
      await send(log, "ann");
      await directory.addMembers("c1", ["bob"]);
      expect(await receipts()).toEqual([bob]);
      expect(await shownTo(storage, "bob")).toMatchObject({ asOfSeq: 3, readSeq: 3, unread: 0 });
      await send(log, "ann");
      await mark(storage, "bob", "read", 4);
      expect(await receipts()).toEqual([{ user_id: "bob", read_seq: 4, delivered_seq: 4 }]);
    }),
  );

  test("[REC3] of many only those are told of who moved last", async () => {
    let at = 1_767_323_045_000;
    await withStorage(
      () => open({ now: () => ++at }),
      async (storage) => {
        await send(storage.log, "ann");
        const users = Array.from({ length: receiptsToldMax + 5 }, (_, index) => `user-${index}`);
        for (const userId of users) await mark(storage, userId, "read", 1);
        const { receipts } = await shownTo(storage, "ann");
        const newest = users.slice(5).reverse();
        expect(receipts.map(({ user_id }: { user_id: string }) => user_id)).toEqual(newest);
      },
    )();
  });
}

function describeBounds(open: Open): void {
  test(
    "[REC3] [CON7] a message that is too large is left out, and what is beyond the bytes of an answer",
    withStorage(open, async (storage) => {
      const payload = (bytes: number) => ({ payload: `{"t":"${"é".repeat((bytes - 8) / 2)}"}` });
      await send(storage.log, "ann", payload(lastMessageBytesMax));
      expect((await shownTo(storage, "bob")).lastMessage).toMatchObject({ seq: 1 });
      await send(storage.log, "ann", payload(lastMessageBytesMax + 2));
      expect(await shownTo(storage, "bob")).toMatchObject({
        unread: 2,
        lastMessage: undefined,
        receipts: [],
        bytes: 2,
      });
      await send(storage.log, "ann", payload(1_000));
      await markOne(storage.receipts, { conversationId: "c1", userId: "eve", kind: "read", upToSeq: 1 });
      const { bytes, receipts } = await shownTo(storage, "bob");
      const receiptBytes = JSON.stringify(receipts).length;
      expect(bytes).toBe(1_000 + receiptBytes);
      const all = { lastMessage: { seq: 3 }, receipts: [{ user_id: "eve" }] };
      expect(await shownTo(storage, "bob", { bytesMax: bytes })).toMatchObject(all);
      const noReceipts = { lastMessage: { seq: 3 }, receipts: undefined, unread: 3 };
      expect(await shownTo(storage, "bob", { bytesMax: bytes - 1 })).toMatchObject(noReceipts);
      const neither = { lastMessage: undefined, receipts: undefined, unread: 3 };
      expect(await shownTo(storage, "bob", { bytesMax: 999 })).toMatchObject(neither);
      expect(await shownTo(storage, "bob", { bytesMax: -5 })).toMatchObject(neither);
    }),
  );

  test(
    "[REC3] a page of conversations is answered in its order as far as the bytes go, each with its own",
    withStorage(open, async ({ overviews: store, log, receipts }) => {
      const ids = Array.from({ length: 500 }, (_, index) => `many-${499 - index}`);
      const payload = JSON.stringify({ text: "x".repeat(89) });
      await log.append(
        ids.slice(0, 400).map((id) => newEvent(`conversation:${id}`, { senderId: "ann", payload, createdAt: 5 })),
      );
      await markOne(receipts, { conversationId: ids[7]!, userId: "bob", kind: "read", upToSeq: 1 });
      const asked = ids.map((conversationId) => ({ conversationId, isTold: false }));
      const read = (conversations: typeof asked, bytesMax: number) =>
        store.read({ userId: "bob", conversations, bytesMax });
      const { overviews, bytes, beyond } = await read(asked, 350 * payload.length + 50);
      expect([bytes, beyond]).toEqual([350 * payload.length, ids.slice(350, 400)]);
      const all = await read(asked, 400 * payload.length);
      expect([all.bytes, all.beyond]).toEqual([400 * payload.length, []]);
      // With receipts, of which those of the first that is not whole are beyond.
      const told = asked.map((it) => ({ ...it, isTold: true }));
      const pair = await read(told, payload.length + 1);
      expect([pair.bytes, pair.beyond.slice(0, 2)]).toEqual([0, ids.slice(0, 2)]);
      expect(pair.overviews.get(ids[0]!)).toMatchObject({ lastMessage: { seq: 1 }, receipts: undefined });
      const found = ids.map((id) => overviews.get(id)!);
      expect(found.map(({ unread }) => unread)).toEqual(ids.map((_, index) => (index < 400 && index !== 7 ? 1 : 0)));
      const topics = found.map(({ lastMessage }) => (lastMessage === null ? null : lastMessage?.topic));
      const expected = ids.map((id, index) => (index < 350 ? `conversation:${id}` : index < 400 ? undefined : null));
      expect(topics).toEqual(expected);
    }),
  );
}
