/** Presence after a fault of the cluster: who is told of again, when, and how. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import pino from "pino";
import type { PresenceRegistry } from "../../src/cluster/ports.ts";
import { createRetelling } from "../../src/presence/retelling.ts";
import type { PresenceTracker } from "../../src/presence/tracker.ts";
import { device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
let tracker: PresenceTracker;
/** The registry finds that it had lost devices of these. */
let restored: (userIds: string[]) => void;
let isWhole: boolean;
beforeEach(async () => {
  isWhole = true;
  world = await openPresenceWorld();
  const { registry } = world;
  const watched: PresenceRegistry = {
    add: (...entry) => registry.add(...entry),
    update: (entry) => registry.update(entry),
    remove: (entry) => registry.remove(entry),
    noteUntold: (entry) => registry.noteUntold(entry),
    devicesOf: (userIds) => registry.devicesOf(userIds),
    sweep: () => registry.sweep(),
    stats: () => registry.stats(),
    isWhole: () => isWhole,
    onRestored: (listener) => {
      restored = listener;
    },
  };
  tracker = world.addNode("n2", watched);
});
afterEach(() => world.close());

test("[PRE1] [PRE3] after a gap who was told of since is told of again, as it is by then, and nobody else", async () => {
  await tracker.connect(device("old", "d1"));
  await world.clock.pass(60_000);
  const since = world.clock.now();
  await tracker.connect(device("ann", "d1"));
  await tracker.connect(device("bob", "d1"));
  await tracker.disconnect({ ...device("bob", "d1"), clean: true });
  await world.told();
  tracker.tellAgain(since);
  tracker.tellAgain(since);
  expect(await world.heard()).toEqual([]);
  await world.clock.pass(2_000);
  expect((await world.heard()).toSorted()).toEqual(["others offline bob", "others update ann online"]);
});

test("[PRE1] who had been taken for gone is told of again, once that can be read", async () => {
  await tracker.connect(device("ann", "d1"));
  await world.told();
  world.away.add("get");
  restored(["ann"]);
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual([]);
  world.away.clear();
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann online"]);
});

test("[PRE2] an update that a node stored and died before it told is told by the one that the device comes to", async () => {
  await world.tracker.connect(device("ann", "d1"));
  await world.registry.noteUntold({ ...device("ann", "d1"), isUntold: true });
  await world.storage.statuses.set("ann", { status: "busy", text: null, emoji: null, expiresAt: null });
  await world.told();
  const again = device("ann", "d1", "ann/d1 again");
  await tracker.connect(again);
  expect(await world.heard()).toEqual([]);
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann busy"]);
});

test("[PRE1] [PRE3] who moves to another node with a status set by hand that others know of is not told of", async () => {
  await world.tracker.connect(device("ann", "d1"));
  await world.tracker.update(device("ann", "d1"), { status: "busy", automatic: false });
  // Told at the end of the second.
  await world.tracker.update(device("ann", "d1"), { status: "away", automatic: false });
  await world.clock.pass(1_000);
  await world.told();
  await world.tracker.disconnect({ ...device("ann", "d1"), clean: false });
  await tracker.connect(device("ann", "d1", "ann/d1 again"));
  await world.clock.pass(60_000);
  expect(await world.heard()).toEqual([]);
});

test("[PRE1] [PRE3] nor where what was held back came to nothing", async () => {
  const phone = device("ann", "d1");
  await world.tracker.connect(phone);
  for (const status of ["busy", "away", "busy"] as const)
    await world.tracker.update(phone, { status, automatic: false });
  await world.clock.pass(1_000);
  await world.told();
  await tracker.connect(device("ann", "d1", "ann/d1 again"));
  await world.clock.pass(60_000);
  expect(await world.heard()).toEqual([]);
});

test("[PRE2] [DRN] an update that a node held back when it stopped is told by the one that the device comes to", async () => {
  const dying = world.addNode("n3");
  await dying.connect(device("ann", "d1"));
  await dying.update(device("ann", "d1"), { status: "busy", automatic: false });
  await dying.update(device("ann", "d1"), { status: "away", automatic: false });
  await dying.stop();
  await world.told();
  await tracker.connect(device("ann", "d1", "ann/d1 again"));
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann away"]);
});

test("[PRE2] an update sent again is told where this node has said something else of the user before", async () => {
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  await world.storage.statuses.set("ann", { status: "away", text: null, emoji: null, expiresAt: null });
  await world.told();
  await tracker.update(ann, { status: "away", automatic: false });
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann away"]);
});

test("[PRE2] somebody invisible who moves to another node is not told of", async () => {
  const ann = device("ann", "d1");
  await world.tracker.connect(ann);
  await world.tracker.update(ann, { status: "invisible", automatic: false });
  await world.told();
  await tracker.connect(device("ann", "d1", "ann/d1 again"));
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual([]);
});

test("[PRE3] an update that is held back while the store goes away is told once it is back, and later ones at once", async () => {
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  await tracker.update(ann, { status: "busy", automatic: false });
  await tracker.update(ann, { status: "away", automatic: false });
  await world.told();
  world.away.add("get");
  await world.clock.pass(1_000);
  expect(await world.heard()).toEqual([]);
  world.away.clear();
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann away"]);
  await world.clock.pass(2_000);
  await tracker.update(ann, { status: "busy", automatic: false });
  expect(await world.heard()).toEqual(["others update ann busy", "own update ann busy"]);
});

test("[PRE5] what a snapshot could not know, because the cluster could not be read, is told afterwards", async () => {
  await world.tracker.connect(device("ann", "d1"));
  await world.told();
  isWhole = false;
  await tracker.snapshotOf("bob", ["ann"]);
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual([]);
  isWhole = true;
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann online"]);
});

test("[PRE2] [PRE3] after an update that failed, and may have been stored, others are told how it is", async () => {
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  await world.told();
  world.away.add("set");
  await expect(tracker.update(ann, { status: "busy", automatic: false })).rejects.toThrow("away");
  world.away.clear();
  await world.storage.statuses.set("ann", { status: "busy", text: null, emoji: null, expiresAt: null });
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann busy"]);
});

test("[PRE5] while the cluster cannot be read, those who wait to be told of cost next to nothing", async () => {
  const lines: string[] = [];
  let asked = 0;
  const retelling = createRetelling({
    tell: async () => {
      asked++;
      if (!isWhole) throw new Error("away");
    },
    now: world.clock.now,
    timers: world.clock,
    logger: pino({}, { write: (line) => void lines.push(line) }),
  });
  isWhole = false;
  retelling.add(Array.from({ length: 10_000 }, (_, at) => `u${at}`));
  await world.clock.pass(60_000);
  expect(lines).toHaveLength(1);
  expect(asked).toBeLessThan(1_000);
  isWhole = true;
  asked = 0;
  await world.clock.pass(2_000);
  expect(asked).toBe(10_000);
  retelling.stop();
  expect(world.clock.waiting()).toBe(0);
});

test("[PRE1] one user who cannot be told of holds up nobody else", async () => {
  const told: string[] = [];
  const retelling = createRetelling({
    tell: async (userId) => {
      if (Number(userId) < 40) throw new Error("away");
      told.push(userId);
    },
    now: world.clock.now,
    timers: world.clock,
    logger: pino({ level: "silent" }),
  });
  retelling.add(Array.from({ length: 100 }, (_, at) => String(at)));
  await world.clock.pass(10_000);
  expect(told).toHaveLength(60);
  retelling.stop();
});
