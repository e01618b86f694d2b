/** Proves that a snapshot is never older than an event that was sent before it. */
import { expect, test } from "bun:test";
import type { CallView, PresenceView, Snapshot } from "../../src/protocol/server.ts";
import { topicOf } from "../../src/protocol/topic.ts";
import { FairQueue } from "../../src/storage/fair-queue.ts";
import { emptyOverview, type OverviewQuery, type OverviewStore } from "../../src/storage/overview-store.ts";
import { createSnapshots } from "../../src/subscription/snapshots.ts";
import type { Subscriber } from "../../src/subscription/subscriber.ts";

const unknown = async () => new Map();
const anna = { userId: "anna", format: "json" } as Subscriber;

type Places = Awaited<ReturnType<OverviewStore["read"]>>["overviews"];

/** Ben is offline until `comes` is called; what `between` does happens before all that is waited for is there. */
function snapshotsOfBen(between: () => Promise<void> | void, places: Promise<Places> = Promise.resolve(new Map())) {
  const events: string[] = [];
  let status: PresenceView["status"] = "offline";
  const snapshots = createSnapshots({
    questions: new FairQueue({ perUser: 1 }),
    overviews: { read: async () => ({ overviews: await places, bytes: 0, beyond: [] }) },
    directory: { toldOfReceipts: async () => new Set(), membershipsAmong: unknown, rememberedMemberships: () => null },
    listBytesMax: { json: 1_000, protobuf: 1_000 },
    typing: { snapshot: () => [] },
    calls: { snapshotOf: async () => [] },
    presence: {
      async prepareSnapshots() {
        await between();
      },
      snapshotOf: (_, user_id) => ({ user_id, status: user_id === "ben" ? status : "offline" }),
    },
  });
  const topics = [topicOf("conversation", "c1"), ...["ben", "carl"].map((userId) => topicOf("presence", userId))];
  return {
    comes() {
      status = "online";
      events.push("online");
    },
    async read() {
      const found = (await snapshots(anna, topics)).get("presence:ben") as Snapshot | undefined;
      const shown = found?.presence?.status;
      // Nothing has come between what it was made of and this.
      return [shown, ...events.slice(-1)];
    },
  };
}

test("[PRE5] who comes online while a snapshot is read is online in it", async () => {
  const scene = snapshotsOfBen(() => scene.comes());
  expect(await scene.read()).toEqual(["online", "online"]);
});

test("[PRE5] nor does an event get lost while the rest of the snapshot is waited for", async () => {
  const places = Promise.withResolvers<Places>();
  const scene = snapshotsOfBen(() => {}, places.promise);
  const reading = scene.read();
  // All that does not wait for the places has happened by then.
  await new Promise<void>((resolve) => setImmediate(resolve));
  scene.comes();
  places.resolve(new Map());
  expect(await reading).toEqual(["online", "online"]);
});

test("[PRE5] nor where it is a consequence of the same turn of the loop", async () => {
  const scene = snapshotsOfBen(() => {
    void consequences(50).then(() => scene.comes());
  });
  expect(await scene.read()).toEqual(["online", "online"]);
});

/** Resolves after many steps, all of them in this turn. */
async function consequences(steps: number): Promise<void> {
  for (let step = 0; step < steps; step++) await null;
}

test("[PRE5] a snapshot that cannot be read is refused", async () => {
  const scene = snapshotsOfBen(() => {
    throw new Error("away");
  });
  await expect(scene.read()).rejects.toThrow("away");
});

/** A list whose last messages and receipts have so many bytes each; what is done while a piece of it is read. */
function listOf(sizes: number[], bytesMax: number, between: () => void = () => {}) {
  const questions = new FairQueue({ perUser: 1 });
  const read: { asked: number; bytes: number }[] = [];
  const snapshots = createSnapshots({
    questions,
    overviews: {
      async read({ conversations, bytesMax }: OverviewQuery) {
        between();
        let [through, bytes] = [0, 0];
        const beyond: string[] = [];
        const overviews: Places = new Map();
        for (const { conversationId } of conversations) {
          const size = sizes[Number(conversationId)]!;
          through += size;
          const fits = through <= bytesMax;
          if (fits) bytes = through;
          else beyond.push(conversationId);
          const lastMessage = fits ? eventOf(conversationId) : undefined;
          overviews.set(conversationId, {
            asOfSeq: 1,
            readSeq: 0,
            deliveredSeq: 0,
            unread: 0,
            lastMessage,
            receipts: undefined,
          });
        }
        read.push({ asked: conversations.length, bytes });
        return { overviews, bytes, beyond };
      },
    },
    directory: { toldOfReceipts: async () => new Set(), membershipsAmong: unknown, rememberedMemberships: () => null },
    listBytesMax: { json: bytesMax, protobuf: bytesMax },
    typing: { snapshot: () => [] },
    calls: { snapshotOf: async () => [] },
    presence: { prepareSnapshots: async () => {}, snapshotOf: (_, user_id) => ({ user_id, status: "offline" }) },
  });
  const topics = sizes.map((_, index) => topicOf("conversation", `${index}`));
  const shown = async () => {
    const found = await snapshots(anna, topics);
    expect(found.size).toBe(sizes.length);
    return topics.map(({ name }) => "last_message" in JSON.parse((found.get(name) as { text: string }).text));
  };
  return { questions, read, shown };
}

const eventOf = (id: string) =>
  ({ topic: `conversation:${id}`, seq: 1, position: 1, id, type: "message.new", payload: "{}", createdAt: 1 }) as const;

const piece = 1024 * 1024;

test("[REC3] [LIM] large last messages are read in bounded pieces, and what the user has asked meanwhile comes in between", async () => {
  const order: string[] = [];
  const list = listOf(Array(128).fill(64_000), 8 * piece, () => void order.push("piece"));
  const reading = list.shown();
  const other = list.questions.ask(anna, async () => void order.push("other"));
  expect(await reading).toEqual(Array(128).fill(true));
  await other;
  expect(list.read.every(({ bytes }) => bytes > 0 && bytes <= piece)).toBe(true);
  expect(list.read).toHaveLength(8);
  // Hardly anything is looked at twice.
  expect(list.read.slice(1).reduce((sum, { asked }) => sum + asked, 0)).toBeLessThan(2 * 128);
  expect(order.indexOf("other")).toBeLessThan(2);
});

test("[REC3] small ones are read a thousand at a time, also after large ones", async () => {
  const few = listOf(Array(1_200).fill(100), 8 * piece);
  expect(await few.shown()).toEqual(Array(1_200).fill(true));
  expect(few.read.map(({ asked }) => asked)).toEqual([1_000, 200]);
  const mixed = listOf([...Array(32).fill(64_000), ...Array(2_000).fill(100)], 8 * piece);
  expect(await mixed.shown()).toEqual(Array(2_032).fill(true));
  expect(mixed.read.length).toBeLessThan(14);
});

test("[REC3] [CON7] beyond the bytes of an answer all is left out, also what is small", async () => {
  const sizes = [...Array(30).fill(64_000), 10, 10];
  const list = listOf(sizes, 20 * 64_000 + 5);
  expect(await list.shown()).toEqual(sizes.map((_, index) => index < 20));
});

/** One conversation and the calls of a device; what is told while the conversation is read. */
async function readWhile(between: (now: { mayWrite: boolean; calls: CallView[] }) => void) {
  const now: { mayWrite: boolean; calls: CallView[] } = { mayWrite: true, calls: [ringing] };
  const snapshots = createSnapshots({
    questions: new FairQueue({ perUser: 1 }),
    overviews: {
      async read() {
        // All else that was asked at once has its answer by then.
        await new Promise<void>((resolve) => setImmediate(resolve));
        between(now);
        return { overviews: new Map([["c1", emptyOverview(false)]]), bytes: 0, beyond: [] };
      },
    },
    directory: {
      toldOfReceipts: async () => new Set(),
      membershipsAmong: async () => new Map([["c1", { mayWrite: now.mayWrite }]]),
      rememberedMemberships: () => null,
    },
    listBytesMax: { json: 1_000, protobuf: 1_000 },
    typing: { snapshot: () => [] },
    calls: { snapshotOf: async () => now.calls },
    presence: { prepareSnapshots: async () => {}, snapshotOf: (_, user_id) => ({ user_id, status: "offline" }) },
  });
  const found = await snapshots(anna, [topicOf("conversation", "c1"), topicOf("calls", "anna")]);
  const { text } = found.get("conversation:c1") as { text: string };
  return { ...JSON.parse(text), ...found.get("calls:anna") };
}

const ringing: CallView = { call_id: "1", state: "ringing", peer_user_id: "ben", media: "audio" };

test("[MSG5] who is told while a list is read that it may not write is told so by its snapshot as well", async () => {
  expect(await readWhile((now) => (now.mayWrite = false))).toMatchObject({ unread: 0, may_write: false });
});

test("[CALL7] a call that ends while a list is read is not in the snapshot that comes after its end", async () => {
  expect(await readWhile((now) => (now.calls = []))).toMatchObject({ calls: [] });
});
