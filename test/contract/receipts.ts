/** Proves what every receipt store must do, whatever it is stored in [REC1–REC3]. */
import { describe, expect, test } from "bun:test";
import type { EventLog, NewEvent, ReceiptKind, ReceiptStore, Telling } from "../../src/storage/ports.ts";
import { markOne } from "../support/marks.ts";
import { newEvent } from "../support/new-event.ts";
import { type Open, withStorage } from "./opened.ts";

const conversationId = "c1";
const far = { movedBefore: Number.MAX_SAFE_INTEGER, limit: 10 };

/** Appends one message for each sender named, in order. @returns their ids */
async function send(log: EventLog, senders: string[], conversation = conversationId): Promise<string[]> {
  const events = senders.map((senderId) => newEvent(`conversation:${conversation}`, { senderId }));
  await log.append(events);
  return events.map(({ id }) => id);
}

export function describeReceiptsContract(name: string, open: Open): void {
  describe(`receipts contract: ${name}`, () => {
    describeAdvance(open);
    describeTelling(open);
    describeStates(open);
  });
}

function describeAdvance(open: Open): void {
  test(
    "[REC1] a watermark moves to the highest seq named and never back",
    withStorage(open, async ({ log, receipts }) => {
      const ids = await send(log, ["ann", "ann", "ann", "ann"]);
      const mark = (messageIds: string[]) =>
        markOne(receipts, { conversationId, userId: "bob", kind: "delivered", messageIds });
      expect(await mark([ids[2]!, ids[0]!])).toEqual({ upToSeq: 3, advanced: true });
      expect(await mark([ids[1]!])).toEqual({ upToSeq: 3, advanced: false });
      expect(await mark([ids[2]!])).toEqual({ upToSeq: 3, advanced: false });
      expect(await mark(ids)).toEqual({ upToSeq: 4, advanced: true });
    }),
  );

  test(
    "[REC1] unknown ids, own messages, other conversations' and events that are no messages are ignored",
    withStorage(open, async ({ log, receipts }) => {
      const ids = await send(log, ["ann", "bob"]);
      const elsewhere = await send(log, ["ann", "ann", "ann"], "c2");
      const note = newEvent(`conversation:${conversationId}`);
      await log.append([note]);
      const mark = (messageIds: string[]) =>
        markOne(receipts, { conversationId, userId: "bob", kind: "read", messageIds });
      expect(await mark([ids[1]!, "nobody-knows", elsewhere[2]!, note.id])).toEqual({ upToSeq: 0, advanced: false });
      expect(await mark([ids[0]!, ids[1]!])).toEqual({ upToSeq: 1, advanced: true });
      expect(await markOne(receipts, { conversationId: "none", userId: "bob", kind: "read", messageIds: ids })).toEqual(
        {
          upToSeq: 0,
          advanced: false,
        },
      );
    }),
  );

  test(
    "[REC1] by number it is cut to the topic's head",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "ann", "ann"]);
      const mark = (upToSeq: number) => markOne(receipts, { conversationId, userId: "bob", kind: "read", upToSeq });
      expect(await mark(2)).toEqual({ upToSeq: 2, advanced: true });
      expect(await mark(1)).toEqual({ upToSeq: 2, advanced: false });
      expect(await mark(1_000)).toEqual({ upToSeq: 3, advanced: true });
      expect(await mark(1_000)).toEqual({ upToSeq: 3, advanced: false });
      const nowhere = { conversationId: "none", userId: "bob", kind: "read", upToSeq: 5 } as const;
      expect(await markOne(receipts, nowhere)).toEqual({ upToSeq: 0, advanced: false });
    }),
  );

  test(
    "[REC1] of many equal marks at once one advances; users and conversations are apart",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "ann"]);
      await send(log, ["ann", "ann"], "c2");
      const mark = (userId: string, conversation: string) =>
        markOne(receipts, { conversationId: conversation, userId, kind: "read", upToSeq: 2 });
      const marks = ["bob", "eve"].flatMap((userId) => ["c1", "c2"].map((it) => [userId, it] as const));
      for (const [userId, conversation] of marks) {
        const results = await Promise.all(Array.from({ length: 10 }, () => mark(userId, conversation)));
        expect(results.filter(({ advanced }) => advanced)).toHaveLength(1);
      }
    }),
  );

  test(
    "[REC1] watermarks are there after a stop and a start",
    withStorage(open, async (storage) => {
      await send(storage.log, ["ann", "ann"]);
      const mark = { conversationId, userId: "bob", kind: "read", upToSeq: 2 } as const;
      await markOne(storage.receipts, mark);
      await storage.stop();
      await storage.start();
      expect(await markOne(storage.receipts, mark)).toEqual({ upToSeq: 2, advanced: false });
    }),
  );

  test(
    "[REC2] read moves delivered silently, and never takes it back",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "ann", "ann", "ann"]);
      const mark = (kind: ReceiptKind, upToSeq: number) =>
        markOne(receipts, { conversationId, userId: "bob", kind, upToSeq });
      await mark("read", 2);
      expect(await mark("delivered", 2)).toEqual({ upToSeq: 2, advanced: false });
      expect(await mark("delivered", 4)).toEqual({ upToSeq: 4, advanced: true });
      await mark("read", 3);
      expect(await mark("delivered", 3)).toEqual({ upToSeq: 4, advanced: false });
      // Messages between the two are owed as delivered alone.
      expect(await unsentKinds(receipts)).toEqual([
        ["delivered", 3, 4],
        ["read", 0, 3],
      ]);
    }),
  );
}

const bobs = { of: [{ conversationId, userId: "bob" }] };

async function unsentKinds(receipts: ReceiptStore): Promise<[ReceiptKind, number, number][]> {
  const found = await receipts.unsent(bobs, 10);
  expect(found.every((it) => it.conversationId === conversationId && it.userId === "bob")).toBe(true);
  return found
    .map(({ kind, sentSeq, upToSeq }): [ReceiptKind, number, number] => [kind, sentSeq, upToSeq])
    .toSorted((a, b) => a[0].localeCompare(b[0]));
}

const telling = (tells: Telling): NewEvent => newEvent(`conversation:${tells.conversationId}`, { tells });

function describeTelling(open: Open): void {
  test(
    "[REC1] marks of many users and conversations are moved at once, each answered for itself",
    withStorage(open, async ({ log, receipts }) => {
      const ids = await send(log, ["ann", "ann", "bob"]);
      await send(log, ["ann"], "c2");
      await markOne(receipts, { conversationId, userId: "eve", kind: "delivered", upToSeq: 3 });
      const marked = await receipts.advance([
        { conversationId, userId: "bob", kind: "delivered", messageIds: [ids[1]!] },
        { conversationId: "c2", userId: "bob", kind: "read", upToSeq: 9 },
        { conversationId: "none", userId: "bob", kind: "read", upToSeq: 9 },
        { conversationId, userId: "eve", kind: "delivered", messageIds: [ids[0]!] },
        { conversationId, userId: "cle", kind: "read_private", messageIds: [ids[0]!, "nobody-knows"] },
      ]);
      expect(marked).toEqual([
        { upToSeq: 2, advanced: true, unread: 2, asOfSeq: 3 },
        { upToSeq: 1, advanced: true, unread: 0, asOfSeq: 1 },
        { upToSeq: 0, advanced: false, unread: 0, asOfSeq: 0 },
        { upToSeq: 3, advanced: false, unread: 3, asOfSeq: 3 },
        { upToSeq: 1, advanced: true, unread: 2, asOfSeq: 3 },
      ]);
    }),
  );

  test(
    "[REC2] several moves are owed as one, and told by one event, whoever else tells of the same",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "ann", "ann"]);
      const receipt = { conversationId, userId: "bob", kind: "delivered" } as const;
      await markOne(receipts, { ...receipt, upToSeq: 1 });
      await markOne(receipts, { ...receipt, upToSeq: 2 });
      expect(await unsentKinds(receipts)).toEqual([["delivered", 0, 2]]);
      const tells = { ...receipt, sentSeq: 0, upToSeq: 2 };
      const tellers = await Promise.all(Array.from({ length: 5 }, () => log.append([telling(tells), telling(tells)])));
      const appended = tellers.flatMap((it) => it.appended);
      expect(appended.filter(({ duplicate }) => !duplicate)).toMatchObject([{ seq: 4 }]);
      expect(appended.filter(({ duplicate }) => duplicate)).toHaveLength(9);
      expect(appended.filter(({ conflict, refusal }) => conflict || refusal)).toEqual([]);
      expect((await log.heads([`conversation:${conversationId}`])).get(`conversation:${conversationId}`)!.seq).toBe(4);
      expect(await unsentKinds(receipts)).toEqual([]);
      expect(await receipts.unsent(far, 10)).toEqual([]);
    }),
  );

  test(
    "[REC1] [REC2] what moves while somebody tells of it is owed from there; nobody tells of less, or of more than there is",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "ann", "ann"]);
      const receipt = { conversationId, userId: "bob", kind: "read" } as const;
      await markOne(receipts, { ...receipt, upToSeq: 2 });
      const isTold = async (sentSeq: number, upToSeq: number) =>
        !(await log.append([telling({ ...receipt, sentSeq, upToSeq })])).appended[0]!.duplicate;
      expect(await isTold(0, 3)).toBe(false);
      await markOne(receipts, { ...receipt, upToSeq: 3 });
      expect(await isTold(0, 2)).toBe(true);
      expect(await isTold(0, 3)).toBe(false);
      expect(await unsentKinds(receipts)).toEqual([["read", 2, 3]]);
      expect(await isTold(2, 3)).toBe(true);
      expect(await isTold(3, 3)).toBe(true);
      expect(await isTold(2, 2)).toBe(false);
      const nowhere = { ...receipt, conversationId: "none", sentSeq: 0, upToSeq: 0 };
      expect((await log.append([telling(nowhere)])).appended[0]!.duplicate).toBe(true);
    }),
  );

  test(
    "[REC2] [LOG1] of a batch the events that are not to tell are left out, and the others appended, in their order",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "ann"]);
      await markOne(receipts, { conversationId, userId: "bob", kind: "read", upToSeq: 2 });
      await markOne(receipts, { conversationId, userId: "eve", kind: "delivered", upToSeq: 1 });
      const { appended } = await log.append([
        newEvent(`conversation:${conversationId}`, { senderId: "ann" }),
        telling({ conversationId, userId: "bob", kind: "read", sentSeq: 1, upToSeq: 2 }),
        telling({ conversationId, userId: "eve", kind: "delivered", sentSeq: 0, upToSeq: 1 }),
        telling({ conversationId, userId: "bob", kind: "read", sentSeq: 0, upToSeq: 2 }),
      ]);
      expect(appended.map(({ seq, duplicate }) => [seq, duplicate])).toEqual([
        [3, false],
        [0, true],
        [4, false],
        [5, false],
      ]);
    }),
  );

  test(
    "[REC2] what a mark has found to be owed, where the engine finds that, is what is looked up afterwards",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "bob", "eve", "ann"]);
      const marking = async (kind: ReceiptKind, upToSeq: number, userId = "bob") => {
        const [{ owed } = { owed: undefined }] = await receipts.advance([{ conversationId, userId, kind, upToSeq }], 2);
        const found = await receipts.unsent({ of: [{ conversationId, userId }] }, 2);
        const it = found.find((one) => one.kind === kind)!;
        expect(owed ?? it).toMatchObject({ sentSeq: it.sentSeq, messageIds: it.messageIds });
        return it;
      };
      expect(await marking("delivered", 1)).toMatchObject({ sentSeq: 0, upToSeq: 1 });
      const { sentSeq, upToSeq } = await marking("delivered", 3);
      await log.append([telling({ conversationId, userId: "bob", kind: "delivered", sentSeq, upToSeq })]);
      expect(await marking("delivered", 4)).toMatchObject({ sentSeq: 3, upToSeq: 4 });
      expect(await marking("read", 4)).toMatchObject({ sentSeq: 0, upToSeq: 4 });
      expect(await marking("read", 4, "eve")).toMatchObject({ sentSeq: 0, upToSeq: 4 });
      // Nothing is looked up of what has not moved, or where nobody asks.
      const again = { conversationId, userId: "bob", kind: "read", upToSeq: 4 } as const;
      expect((await receipts.advance([again], 2))[0]!.owed).toBeUndefined();
      expect((await receipts.advance([{ ...again, userId: "cle" }]))[0]!.owed).toBeUndefined();
    }),
  );

  test(
    "[REC2] what no event is to tell of is passed over, where nobody has told it",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "ann"]);
      const receipt = { conversationId, userId: "bob", kind: "delivered" } as const;
      await markOne(receipts, { ...receipt, upToSeq: 1 });
      await receipts.passOver([{ ...receipt, sentSeq: 0, upToSeq: 1 }]);
      await markOne(receipts, { ...receipt, upToSeq: 2 });
      await receipts.passOver([{ ...receipt, sentSeq: 0, upToSeq: 2 }]);
      expect(await unsentKinds(receipts)).toEqual([["delivered", 1, 2]]);
    }),
  );

  test(
    "[REC2] what a crash left between the move and its event is found by its age, the oldest first",
    withStorage(open, async (storage) => {
      const { log, receipts } = storage;
      const [first] = await send(log, ["ann"]);
      const others = await send(log, ["ann", "ann"], "c2");
      await markOne(receipts, { conversationId: "c1", userId: "bob", kind: "read", upToSeq: 1 });
      await markOne(receipts, { conversationId: "c2", userId: "eve", kind: "read_private", upToSeq: 2 });
      await markOne(receipts, { conversationId: "c2", userId: "bob", kind: "delivered", upToSeq: 1 });
      await log.append([telling({ conversationId: "c2", userId: "bob", kind: "delivered", sentSeq: 0, upToSeq: 1 })]);
      await storage.stop();
      await storage.start();
      expect(await receipts.unsent({ movedBefore: 1, limit: 10 }, 10)).toEqual([]);
      expect(await receipts.unsent({ ...far, limit: 1 }, 10)).toHaveLength(1);
      const left = await receipts.unsent(far, 1);
      expect(left.toSorted((a, b) => a.userId.localeCompare(b.userId))).toEqual([
        { conversationId: "c1", userId: "bob", kind: "read", sentSeq: 0, upToSeq: 1, messageIds: [first!] },
        { conversationId: "c2", userId: "eve", kind: "read_private", sentSeq: 0, upToSeq: 2, messageIds: [others[1]!] },
      ]);
    }),
  );

  test(
    "[REC2] a receipt names others' messages between two seqs: the newest ones, oldest first",
    withStorage(open, async ({ log, receipts }) => {
      const ids = await send(log, ["ann", "bob", "ann", "eve", "ann"]);
      await log.append([newEvent(`conversation:${conversationId}`)]);
      const receipt = { conversationId, userId: "bob", kind: "delivered" } as const;
      const named = async (limit: number) => (await receipts.unsent(bobs, limit))[0]!.messageIds;
      await markOne(receipts, { ...receipt, upToSeq: 6 });
      expect(await named(10)).toEqual([ids[0]!, ids[2]!, ids[3]!, ids[4]!]);
      expect(await named(2)).toEqual([ids[3]!, ids[4]!]);
      await receipts.passOver([{ ...receipt, sentSeq: 0, upToSeq: 3 }]);
      expect(await named(10)).toEqual([ids[3]!, ids[4]!]);
      await receipts.passOver([{ ...receipt, sentSeq: 3, upToSeq: 5 }]);
      expect(await named(10)).toEqual([]);
    }),
  );
}

function describeStates(open: Open): void {
  test(
    "[REC3] unread counts others' messages above what was read, privately or not",
    withStorage(open, async ({ log, receipts }) => {
      await send(log, ["ann", "bob", "ann", "ann"]);
      await log.append([newEvent(`conversation:${conversationId}`)]);
      const state = async () => (await receipts.states("bob", [conversationId])).get(conversationId);
      const mark = (kind: ReceiptKind, upToSeq: number) =>
        markOne(receipts, { conversationId, userId: "bob", kind, upToSeq });
      expect(await state()).toMatchObject({ readSeq: 0, deliveredSeq: 0, unread: 3 });
      await mark("delivered", 4);
      expect(await state()).toMatchObject({ readSeq: 0, deliveredSeq: 4, unread: 3 });
      await mark("read", 1);
      expect(await state()).toMatchObject({ readSeq: 1, deliveredSeq: 4, unread: 2 });
      await mark("read_private", 3);
      expect(await state()).toMatchObject({ readSeq: 3, deliveredSeq: 4, unread: 1 });
      await markOne(receipts, { conversationId, userId: "cle", kind: "read_private", upToSeq: 2 });
      // To whoever reads privately it has been delivered as well.
      const place = { readSeq: 2, deliveredSeq: 2, unread: 2 };
      expect((await receipts.states("cle", [conversationId])).get(conversationId)).toMatchObject(place);
      await mark("read", 4);
      expect(await state()).toMatchObject({ readSeq: 4, deliveredSeq: 4, unread: 0 });
    }),
  );

  test(
    "[REC3] who joins later has read what was there before, again after having left, and also after a restart",
    withStorage(open, async (storage) => {
      const { directory, log, receipts } = storage;
      const state = async (userId: string) => (await receipts.states(userId, [conversationId])).get(conversationId);
      await directory.addMembers(conversationId, ["ann", "early"]);
      await send(log, ["ann", "ann"]);
      await directory.addMembers(conversationId, ["bob"]);
      await send(log, ["ann", "bob"]);
      // Adding a member again changes nothing.
      await directory.addMembers(conversationId, ["bob", "early"]);
      await storage.stop();
      await storage.start();
      expect(await state("early")).toMatchObject({ readSeq: 0, deliveredSeq: 0, unread: 4 });
      expect(await state("bob")).toMatchObject({ readSeq: 2, deliveredSeq: 2, unread: 1 });
      // Told to nobody, and reading on begins there.
      expect(await receipts.unsent(far, 10)).toEqual([]);
      await markOne(receipts, { conversationId, userId: "bob", kind: "read", upToSeq: 3 });
      expect(await state("bob")).toMatchObject({ readSeq: 3, unread: 0 });
      await directory.removeMembers(conversationId, ["bob"]);
      await send(log, ["ann", "ann"]);
      await directory.addMembers(conversationId, ["bob"]);
      expect(await state("bob")).toMatchObject({ readSeq: 6, deliveredSeq: 6, unread: 0 });
      await send(log, ["ann"]);
      expect(await state("bob")).toMatchObject({ unread: 1 });
    }),
  );

  test(
    "[REC3] members that are only replaced keep their place, whatever is unread",
    withStorage(open, async ({ directory, log, receipts }) => {
      const state = async () => (await receipts.states("bob", [conversationId])).get(conversationId);
      await directory.addMembers(conversationId, ["ann", "bob"]);
      await send(log, ["ann", "ann", "ann"]);
      await markOne(receipts, { conversationId, userId: "bob", kind: "read", upToSeq: 1 });
      const before = await state();
      expect(before).toMatchObject({ readSeq: 1, unread: 2 });
      for (let round = 0; round < 2; round++) {
        await directory.removeMembers(conversationId, ["ann", "bob"]);
        await directory.addMembers(conversationId, ["ann", "bob"]);
        expect(await state()).toEqual(before);
      }
      await send(log, ["ann"]);
      expect(await state()).toMatchObject({ readSeq: 1, unread: 3 });
    }),
  );

  test(
    "[REC1] [REC3] who joined later and marks what was there before moves nothing, and tells nobody of it",
    withStorage(open, async ({ directory, log, receipts }) => {
      await send(log, ["ann", "ann", "ann", "ann", "ann"]);
      await directory.addMembers(conversationId, ["bob"]);
      for (const kind of ["delivered", "read", "read_private"] as const) {
        const moved = await markOne(receipts, { conversationId, userId: "bob", kind, upToSeq: 3 });
        expect(moved).toEqual({ upToSeq: 5, advanced: false });
      }
      expect(await receipts.unsent(far, 10)).toEqual([]);
      await send(log, ["ann"]);
      await markOne(receipts, { conversationId, userId: "bob", kind: "read", upToSeq: 6 });
      expect(await receipts.unsent(far, 10)).toMatchObject([{ kind: "read", sentSeq: 5, upToSeq: 6 }]);
    }),
  );

  test(
    "[REC3] many conversations are answered at once, each with its own state",
    withStorage(open, async ({ log, receipts }) => {
      const ids = Array.from({ length: 1_200 }, (_, index) => `many-${index}`);
      await log.append(ids.slice(0, 1_100).map((id) => newEvent(`conversation:${id}`, { senderId: "ann" })));
      await markOne(receipts, { conversationId: ids[1_000]!, userId: "bob", kind: "read", upToSeq: 1 });
      const states = await receipts.states("bob", ids);
      expect(states.get(ids[0]!)).toMatchObject({ readSeq: 0, deliveredSeq: 0, unread: 1 });
      expect(states.get(ids[1_000]!)).toEqual({ asOfSeq: 1, readSeq: 1, deliveredSeq: 1, unread: 0 });
      expect(states.get(ids[1_150]!)?.unread ?? 0).toBe(0);
      const unread = [...states.values()].reduce((sum, state) => sum + state.unread, 0);
      expect(unread).toBe(1_099);
    }),
  );
}
