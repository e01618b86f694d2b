/** Proves that a snapshot is never older than an event that was sent before it. */
import { expect, test } from "bun:test";
import type { PresenceView, Snapshot } from "../../src/protocol/server.ts";
import { topicOf } from "../../src/protocol/topic.ts";
import type { OverviewStore } from "../../src/storage/overview-store.ts";
import { createSnapshots } from "../../src/subscription/snapshots.ts";
import type { Subscriber } from "../../src/subscription/subscriber.ts";

const anna = { userId: "anna", format: "json" } as Subscriber;

type Places = Awaited<ReturnType<OverviewStore["read"]>>["overviews"];

/** Ben is offline until `comes` is called; what `between` does happens before all that is waited for is there. */
function snapshotsOfBen(between: () => Promise<void> | void, places: Promise<Places> = Promise.resolve(new Map())) {
  const events: string[] = [];
  let status: PresenceView["status"] = "offline";
  const snapshots = createSnapshots({
    overviews: { read: async () => ({ overviews: await places, bytes: 0 }) },
    directory: { toldOfReceipts: async () => new Set(), membershipsAmong: async () => new Map() },
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
