/** Proves what every store of the search for missed events must do, whatever it is stored in [BAK3]. */
import { describe, expect, test } from "bun:test";
import { conversationTopic } from "../../src/protocol/topic.ts";
import type { EventLog } from "../../src/storage/ports.ts";
import { acknowledgeOne } from "../support/acknowledgements.ts";
import { markOne } from "../support/marks.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { eventually } from "../support/until.ts";
import { type Open, withStorage } from "./opened.ts";

const [n1, n2] = [
  { holder: "n1/1", forMs: 60_000 },
  { holder: "n2/1", forMs: 60_000 },
];
const placeAt = ({ epochs }: Pick<EventLog, "epochs">, position: number) => ({ epoch: epochs.current.id, position });

export function describePushContract(name: string, open: Open): void {
  describe(`push contract: ${name}`, () => {
    describePlace(open);
    describeQuestions(open);
  });
}

function describePlace(open: Open): void {
  test(
    "[BAK3] it begins once, wherever others would, and keeps its place over a stop and a start",
    withStorage(open, async (storage) => {
      const { push, log } = storage;
      expect([await push.hasBegun(), await push.lag()]).toEqual([false, null]);
      expect(await push.take(n1)).toEqual({ kind: "not_begun" });
      await push.begin(placeAt(log, 7));
      await push.begin(placeAt(log, 9));
      expect(await push.hasBegun()).toBe(true);
      await storage.stop();
      await storage.start();
      expect(await push.take(n1)).toMatchObject({ kind: "ours", place: { position: 7 } });
      await push.forget();
      expect(await push.take(n1)).toEqual({ kind: "not_begun" });
      expect(await push.move(n1.holder, placeAt(log, 8))).toBe(false);
      await push.begin(placeAt(log, 3));
      expect(await push.take(n1)).toMatchObject({ kind: "ours", place: { position: 3 } });
    }),
  );

  test(
    "[BAK3] one at a time has the lease, and moves the place; another one does once it is given up or has run out",
    withStorage(open, async ({ push, log }) => {
      await push.begin(placeAt(log, 0));
      const turns = await Promise.all(Array.from({ length: 8 }, (_, at) => push.take({ ...n1, holder: `n${at}` })));
      expect(turns.filter(({ kind }) => kind === "ours")).toHaveLength(1);
      const holder = `n${turns.findIndex(({ kind }) => kind === "ours")}`;
      expect(await push.move("nobody", placeAt(log, 5))).toBe(false);
      expect(await push.move(holder, placeAt(log, 4))).toBe(true);
      await push.release("nobody");
      expect(await push.take(n2)).toEqual({ kind: "elsewhere" });
      await push.release(holder);
      expect(await push.take({ ...n2, forMs: 20 })).toEqual({ kind: "ours", place: placeAt(log, 4) });
      // The one that had it before has no say any more.
      expect(await push.move(holder, placeAt(log, 6))).toBe(false);
      const turn = await eventually(
        () => push.take(n1),
        ({ kind }) => kind === "ours",
      );
      expect(turn).toEqual({ kind: "ours", place: placeAt(log, 4) });
      expect(await push.move(n2.holder, placeAt(log, 9))).toBe(false);
      expect(await push.take(n1)).toEqual({ kind: "ours", place: placeAt(log, 4) });
    }),
  );

  test(
    "[BAK3] it says how far the log goes beyond the place, and since when",
    withStorage(open, async ({ push, log }) => {
      await log.append(newEvents("user:ann", 3, { createdAt: 1_000 }));
      await log.append([newEvent("user:bob", { createdAt: 2_000 })]);
      const end = await log.watermark();
      await push.begin(placeAt(log, 0));
      expect(await push.lag()).toEqual({ behind: end, oldestAt: 1_000 });
      await push.take(n1);
      await push.move(n1.holder, placeAt(log, end - 1));
      expect(await push.lag()).toEqual({ behind: 1, oldestAt: 2_000 });
      await push.move(n1.holder, placeAt(log, end));
      expect(await push.lag()).toEqual({ behind: 0, oldestAt: null });
      await push.move(n1.holder, placeAt(log, end + 5));
      expect(await push.lag()).toEqual({ behind: 0, oldestAt: null });
    }),
  );
}

function describeQuestions(open: Open): void {
  test(
    "[BAK3] events that stand are found by their positions, those that are gone are not",
    withStorage(open, async ({ push, log }) => {
      const { appended } = await log.append([
        newEvent("notifications:ann", { createdAt: 1 }),
        newEvent("notifications:ann", { createdAt: 3_000 }),
        newEvent("conversation:c1", { senderId: "ann", createdAt: 3_000 }),
      ]);
      const positions = appended.map(({ position }) => position);
      expect(await push.standing([...positions, 1e9])).toEqual(new Set(positions));
      await log.trim({ createdBefore: 2_000, eventsPerTopic: 100, batch: 100 });
      expect(await push.standing(positions)).toEqual(new Set(positions.slice(1)));
      expect(await push.standing([])).toEqual(new Set());
    }),
  );

  test(
    "[BAK3] how far somebody has received or read a conversation is the farther of all, and where they joined it counts too",
    withStorage(open, async ({ push, log, receipts, directory }) => {
      await log.append(newEvents(conversationTopic("c1"), 4, { senderId: "ann" }));
      await log.append(newEvents(conversationTopic("c2"), 2, { senderId: "ann" }));
      const mark = (userId: string, kind: "delivered" | "read" | "read_private", upToSeq: number) =>
        markOne(receipts, { conversationId: "c1", userId, kind, upToSeq });
      await mark("bob", "delivered", 3);
      await mark("bob", "read", 1);
      await mark("cleo", "read_private", 2);
      await directory.addMembers("c1", ["dan"]);
      await directory.removeMembers("c1", ["dan"]);
      await directory.addMembers("c1", ["eve"]);
      const asked = ["bob", "cleo", "eve", "nobody"].map((userId) => ({ topic: conversationTopic("c1"), userId }));
      const others = [
        { topic: conversationTopic("c2"), userId: "bob" },
        { topic: conversationTopic("none"), userId: "bob" },
      ];
      expect(await push.receivedThrough([...asked, ...others, asked[0]!])).toEqual([3, 2, 4, 0, 0, 0, 3]);
      expect(await push.receivedThrough([])).toEqual([]);
    }),
  );

  test(
    "[BAK3] of the devices of a user the farthest counts, and users are not mixed up",
    withStorage(open, async ({ push, cursors, log: { epochs } }) => {
      await acknowledgeOne(cursors, "ann", "phone", epochs.cursorOf(7));
      await acknowledgeOne(cursors, "ann", "laptop", epochs.cursorOf(9));
      await acknowledgeOne(cursors, "bob", "phone", epochs.cursorOf(3));
      await acknowledgeOne(cursors, "cleo", "phone", epochs.cursorOf(11));
      const found = await push.acknowledgedBy(["ann", "bob", "nobody"]);
      const epoch = epochs.current.id;
      expect(found.toSorted((one, other) => (one.userId < other.userId ? -1 : 1))).toEqual([
        { userId: "ann", epoch, position: 9 },
        { userId: "bob", epoch, position: 3 },
      ]);
    }),
  );
}
