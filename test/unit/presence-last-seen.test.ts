/** `last_seen` is the break, whatever the registry has lost or has not heard, and is at most a minute old after a crash [PRE1]. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { PresenceTracker } from "../../src/presence/tracker.ts";
import { asker, device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
let tracker: PresenceTracker;
beforeEach(async () => {
  world = await openPresenceWorld();
  ({ tracker } = world);
  tracker.start();
});
afterEach(() => world.close());

const ann = device("ann", "phone");
const registryOf = (nodeId: string) => world.nodes.get(nodeId)!.registry;
const iso = (at: number) => new Date(at).toISOString();

/** Finds `last_seen` as all are told it: in the event, the answer and the storage. */
async function lastSeen(userId: string): Promise<unknown[]> {
  const told = (await world.told()).filter(({ type }) => type === "presence.offline");
  const [view] = await tracker.query(asker("bob"), [userId], new Set([userId]));
  const stored = (await world.storage.statuses.get([userId])).get(userId)?.lastSeenAt ?? null;
  return [...told.map(({ payload }) => payload.last_seen), view!.last_seen, stored && iso(stored)];
}

describe.each([true, false])("a device goes (clean: %p)", (clean) => {
  test("[PRE1] while the registry is deaf: last_seen is the break, not the return", async () => {
    await tracker.connect(ann);
    await world.clock.pass(5_000);
    await world.told();
    registryOf("n1").isAway = true;
    await world.clock.pass(3_000);
    const at = iso(world.clock.now());
    await tracker.disconnect({ ...ann, clean });
    await world.clock.pass(25_000);
    registryOf("n1").isAway = false;
    await world.clock.pass(5_000);
    expect(await lastSeen("ann")).toEqual([at, at, at]);
  });

  test("[PRE1] and the registry comes back empty: last_seen is the break, not the stay before", async () => {
    await tracker.connect(ann);
    await world.clock.pass(40_000);
    await world.told();
    registryOf("n1").isAway = true;
    const at = iso(world.clock.now());
    await tracker.disconnect({ ...ann, clean });
    await world.clock.pass(3_000);
    world.empty();
    registryOf("n1").isAway = false;
    await world.clock.pass(20_000);
    expect(await lastSeen("ann")).toEqual([at, at, at]);
  });

  test("[PRE1] and the registry is emptied in the same moment", async () => {
    await tracker.connect(ann);
    await world.clock.pass(40_000);
    await world.told();
    const at = iso(world.clock.now());
    world.empty();
    await tracker.disconnect({ ...ann, clean });
    await world.clock.pass(20_000);
    expect(await lastSeen("ann")).toEqual([at, at, at]);
  });

  test("[PRE1] and the registry is emptied a while later", async () => {
    await tracker.connect(ann);
    await world.clock.pass(40_000);
    await world.told();
    const at = iso(world.clock.now());
    await tracker.disconnect({ ...ann, clean });
    await world.clock.pass(4_000);
    world.empty();
    await world.clock.pass(20_000);
    expect(await lastSeen("ann")).toEqual([at, at, at]);
  });
});

test("[PRE1] somebody who turned invisible while the registry was away was last seen then", async () => {
  await tracker.connect(ann);
  await world.clock.pass(5_000);
  await world.told();
  registryOf("n1").isAway = true;
  const at = iso(world.clock.now());
  await tracker.update(ann, { status: "invisible", automatic: false });
  await world.clock.pass(5_000);
  await tracker.disconnect({ ...ann, clean: true });
  await world.clock.pass(5_000);
  registryOf("n1").isAway = false;
  await world.clock.pass(5_000);
  expect((await lastSeen("ann")).slice(-2)).toEqual([at, at]);
});

describe("a crash", () => {
  const ageOf = async (userId: string) =>
    world.clock.now() - ((await world.storage.statuses.get([userId])).get(userId)?.lastSeenAt ?? 0);

  test("[PRE1] last_seen is at most a minute old however short the stay was, also of who has never been here before", async () => {
    await world.clock.pass(30_000);
    for (let stay = 0; stay < 3; stay++) {
      await tracker.connect(ann);
      await world.clock.pass(20_000);
      expect(await ageOf("ann")).toBeLessThanOrEqual(60_000);
      await tracker.disconnect({ ...ann, clean: true });
      await world.clock.pass(300_000);
    }
    await tracker.connect(ann);
    await world.clock.pass(2_000);
    expect(await ageOf("ann")).toBeLessThanOrEqual(2_000);
  });

  test("[PRE1] last_seen is at most a minute old over reconnects, and after an invisible status has run out", async () => {
    await tracker.connect(ann);
    const eve = device("eve", "phone");
    await tracker.connect(eve);
    await tracker.update(eve, {
      status: "invisible",
      automatic: false,
      expires_at: iso(world.clock.now() + 123_000),
    });
    const begin = world.clock.now();
    await world.clock.pass(2_000);
    expect(begin - world.clock.now() + (await ageOf("eve"))).toBe(0);
    await world.clock.pass(56_000);
    await tracker.disconnect({ ...ann, clean: false });
    await world.clock.pass(5_000);
    await tracker.connect(device("ann", "phone", "again"));
    for (let second = 0; second < 120; second++) {
      await world.clock.pass(1_000);
      expect(await ageOf("ann")).toBeLessThanOrEqual(61_000);
    }
    expect(await ageOf("eve")).toBeLessThanOrEqual(60_000);
  });

  test("[PRE1] a thousand who come within a second are noted by two statements, and by no more until the next minute", async () => {
    const crowd = Array.from({ length: 1_000 }, (_, at) => device(`u${at}`, "phone"));
    await Promise.all(crowd.map((place) => tracker.connect(place)));
    await world.clock.pass(50_000);
    expect(world.asked.filter((method) => method === "setLastSeen")).toHaveLength(2);
    expect(await ageOf("u999")).toBeLessThanOrEqual(60_000);
  });
});

test("[PRE2] an automatic status does not come to life again where its device comes back after the grace", async () => {
  const node = world.addNode("n2");
  await tracker.connect(ann);
  await tracker.update(ann, { status: "away", automatic: true });
  await world.clock.pass(2_000);
  // A node that stops leaves its devices in their grace, and nobody ends it as long as there is no other one.
  await tracker.stop();
  await world.clock.pass(10_001);
  await node.connect(device("ann", "phone", "again"));
  expect(await node.query(asker("bob"), ["ann"], new Set(["ann"]))).toMatchObject([{ status: "online" }]);
});
