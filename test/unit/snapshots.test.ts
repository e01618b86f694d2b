/** A snapshot is never older than an event that was sent before it. */
import { expect, test } from "bun:test";
import type { PresenceView } from "../../src/protocol/server.ts";
import { topicOf } from "../../src/protocol/topic.ts";
import type { ReceiptStore } from "../../src/storage/ports.ts";
import { SnapshotFence } from "../../src/subscription/snapshot-fence.ts";
import { createSnapshots } from "../../src/subscription/snapshots.ts";
import type { Subscriber } from "../../src/subscription/subscriber.ts";

const anna = { userId: "anna" } as Subscriber;

type Places = Awaited<ReturnType<ReceiptStore["states"]>>;

/** Ben is offline in the first answer; what `between` does happens before that answer is there. */
function snapshotsOfBen(between: (read: number) => void, places: Promise<Places> = Promise.resolve(new Map())) {
  const fence = new SnapshotFence();
  const asked: string[][] = [];
  const snapshots = createSnapshots({
    receipts: { states: () => places },
    typing: { snapshot: () => [] },
    calls: { snapshotOf: async () => [] },
    presence: {
      noteShown() {},
      async snapshotOf(_, userIds) {
        asked.push(userIds);
        const status = asked.length === 1 ? "offline" : "online";
        between(asked.length);
        return new Map(userIds.map((user_id): [string, PresenceView] => [user_id, { user_id, status }]));
      },
    },
    fence,
  });
  const topics = [topicOf("conversation", "c1"), ...["ben", "carl"].map((userId) => topicOf("presence", userId))];
  return { fence, asked, read: () => snapshots(anna, topics) };
}

test("[PRE5] who comes online while a snapshot is read is online in it; the others are not asked for again", async () => {
  const scene = snapshotsOfBen((read) => read === 1 && scene.fence.note("presence:ben"));
  const snapshots = await scene.read();
  expect(snapshots.get("presence:ben")?.presence?.status).toBe("online");
  expect(snapshots.get("presence:carl")?.presence?.status).toBe("offline");
  expect(scene.asked).toEqual([["ben", "carl"], ["ben"]]);
});

test("[PRE5] nor does an event get lost while the rest of the snapshot is waited for", async () => {
  const places = Promise.withResolvers<Places>();
  const scene = snapshotsOfBen(() => {}, places.promise);
  const reading = scene.read();
  // All that does not wait for the places has happened by then.
  await new Promise<void>((resolve) => setImmediate(resolve));
  scene.fence.note("presence:ben");
  places.resolve(new Map());
  expect((await reading).get("presence:ben")?.presence?.status).toBe("online");
});

test("[PRE5] nor where it is a consequence of the same turn of the loop", async () => {
  const scene = snapshotsOfBen((read) => {
    if (read === 1) void consequences(50).then(() => scene.fence.note("presence:ben"));
  });
  expect((await scene.read()).get("presence:ben")?.presence?.status).toBe("online");
});

test("[PRE5] nor where it comes while somebody else is asked for again", async () => {
  const scene = snapshotsOfBen((read) => {
    if (read === 1) scene.fence.note("presence:ben");
    if (read === 2) scene.fence.note("presence:carl");
  });
  expect((await scene.read()).get("presence:carl")?.presence?.status).toBe("online");
});

/** Resolves after many steps, all of them in this turn. */
async function consequences(steps: number): Promise<void> {
  for (let step = 0; step < steps; step++) await null;
}

test("[PRE5] a topic whose events never pause is read so often and no more, and left to its events", async () => {
  const scene = snapshotsOfBen(() => scene.fence.note("presence:ben"));
  const snapshots = await scene.read();
  expect([...snapshots.keys()]).toEqual(["conversation:c1", "presence:carl"]);
  expect(scene.asked.length).toBe(5);
  expect(scene.fence.size).toBe(0);
});

test("[PRE5] a snapshot that cannot be read leaves nothing behind", async () => {
  const scene = snapshotsOfBen(() => {
    throw new Error("away");
  });
  await expect(scene.read()).rejects.toThrow("away");
  expect(scene.fence.size).toBe(0);
});
