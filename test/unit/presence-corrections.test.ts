/** Presence where words were lost, or a node died before it told: whoever was shown what is not so is shown the truth. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import pino from "pino";
import type { PresenceRegistry } from "../../src/cluster/ports.ts";
import { createCorrections } from "../../src/presence/corrections.ts";
import { createShownHere } from "../../src/presence/shown-here.ts";
import type { PresenceTracker } from "../../src/presence/tracker.ts";
import { device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
let tracker: PresenceTracker;
/** The registry finds that it had lost devices of these. */
let restored: (userIds: string[]) => void;
let isWhole: boolean;
let isSettled: boolean;
beforeEach(async () => {
  isWhole = true;
  isSettled = true;
  world = await openPresenceWorld();
  const { registry } = world;
  const watched: PresenceRegistry = {
    add: (...entry) => registry.add(...entry),
    update: (entry) => registry.update(entry),
    remove: (entry) => registry.remove(entry),
    devicesOf: (userIds) => registry.devicesOf(userIds),
    sweep: () => registry.sweep(),
    stats: () => registry.stats(),
    isWhole: () => isWhole,
    isSettled: () => isSettled,
    onRestored: (listener) => {
      restored = listener;
    },
  };
  tracker = world.addNode("n2", watched);
});
afterEach(() => world.close());

const byHand = (status: "busy" | "away") => ({ status, automatic: false });
const store = (userId: string, status: "busy" | "away") =>
  world.storage.statuses.set(userId, { status, text: null, emoji: null, expiresAt: null });
/** Somebody new on the first node is shown the user as others see it now. */
const subscribeTo = async (userId: string) => {
  const views = await world.tracker.snapshotOf("eve", [userId]);
  world.tracker.noteShown("eve", views.values());
};

test("[PRE1] [PRE3] after a gap whoever was shown here as they are not is shown as they are, and nobody else", async () => {
  for (const name of ["ann", "bob"]) await tracker.connect(device(name, "d1"));
  await subscribeTo("cleo");
  await world.clock.pass(3_000);
  await world.told();
  world.isBusAway = true;
  await tracker.disconnect({ ...device("bob", "d1"), clean: true });
  await tracker.connect(device("cleo", "d1"));
  await tracker.connect(device("nobody watches", "d1"));
  await world.clock.pass(3_000);
  expect(await world.heard()).toEqual([]);
  world.tracker.lookAgain();
  world.tracker.lookAgain();
  await world.clock.pass(2_000);
  expect((await world.heard()).toSorted()).toEqual(["others offline bob", "others update cleo online"]);
  world.tracker.lookAgain();
  await world.clock.pass(10_000);
  expect(await world.heard()).toEqual([]);
});

test("[PRE1] whom a node entered that died before it told is shown as there, though the device is known by then", async () => {
  await subscribeTo("ann");
  await world.registry.add({ ...device("ann", "d1"), nodeId: "n3", status: "online", connectedAt: 1 }, 10);
  await tracker.connect(device("ann", "d1", "ann/d1 again"));
  await world.told();
  world.tracker.lookAgain();
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann online"]);
});

test("[PRE1] whom a node took out that died before it told is shown as gone, and since when", async () => {
  await tracker.connect(device("ann", "d1"));
  await world.registry.remove(device("ann", "d1"));
  await world.storage.statuses.setLastSeen(["ann"], world.clock.now());
  await world.told();
  world.tracker.lookAgain();
  await world.clock.pass(2_000);
  const last_seen = new Date(world.clock.now() - 2_000).toISOString();
  expect(await world.told()).toEqual([
    { to: "others", type: "presence.offline", payload: { user_id: "ann", last_seen } },
  ]);
});

test("[PRE2] [PRE3] [PRE5] a snapshot that shows what is held back, and then comes to nothing, is taken back", async () => {
  const ann = device("ann", "d1");
  await world.tracker.connect(ann);
  await world.tracker.update(ann, byHand("busy"));
  await world.tracker.update(ann, byHand("away"));
  await subscribeTo("ann");
  await world.tracker.update(ann, byHand("busy"));
  await world.told();
  await world.clock.pass(1_000);
  expect(await world.heard()).toEqual(["others update ann busy"]);
});

test("[PRE2] [PRE3] [PRE5] also on another node, and where nobody but the one who was shown it watches there", async () => {
  const ann = device("ann", "d1");
  world.isBusAway = true;
  await tracker.connect(ann);
  await tracker.update(ann, byHand("busy"));
  await tracker.update(ann, byHand("away"));
  await subscribeTo("ann");
  world.isBusAway = false;
  await tracker.update(ann, byHand("busy"));
  await world.told();
  await world.clock.pass(1_000);
  expect(await world.heard()).toEqual(["others update ann busy"]);
});

test("[PRE5] whoever is shown by a snapshot as others here were not shown is shown as it is, to all", async () => {
  await world.tracker.connect(device("ann", "d1"));
  await store("ann", "busy");
  await subscribeTo("ann");
  await world.told();
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann busy"]);
});

test("[PRE1] nobody is shown as gone who may be on a node that has not put back yet what was lost", async () => {
  world.watchedOn = "n2";
  await world.tracker.connect(device("ann", "d1"));
  await world.clock.pass(3_000);
  await world.told();
  await world.registry.remove(device("ann", "d1"));
  isSettled = false;
  tracker.lookAgain();
  await world.clock.pass(5_000);
  expect(await world.heard()).toEqual([]);
  isSettled = true;
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others offline ann"]);
});

test("[PRE5] it is shown as soon, however many are shown the user meanwhile", async () => {
  await world.tracker.connect(device("ann", "d1"));
  await world.clock.pass(3_000);
  await store("ann", "busy");
  await world.told();
  for (let at = 0; at < 4; at++) {
    await subscribeTo("ann");
    await world.clock.pass(500);
  }
  expect(await world.heard()).toEqual(["others update ann busy"]);
});

test("[PRE1] [PRE3] what another node says again is not shown again", async () => {
  await tracker.connect(device("ann", "d1"));
  await world.told();
  restored(["ann"]);
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual([]);
});

test("[PRE1] who had been taken for gone is told of again everywhere, once that can be read", async () => {
  world.isBusAway = true;
  await subscribeTo("ann");
  await tracker.connect(device("ann", "d1"));
  await world.clock.pass(3_000);
  world.isBusAway = false;
  world.away.add("get");
  restored(["ann"]);
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual([]);
  world.away.clear();
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann online"]);
});

test("[PRE2] an update that a node stored and died before it told is shown by the others once it has gone", async () => {
  await world.tracker.connect(device("ann", "d1"));
  await store("ann", "busy");
  await world.told();
  world.tracker.lookAgain();
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

test("[PRE2] [DRN] an update that a node held back when it stopped is shown by the others once it has gone", async () => {
  const dying = world.addNode("n3");
  await dying.connect(device("ann", "d1"));
  await dying.update(device("ann", "d1"), byHand("busy"));
  await dying.update(device("ann", "d1"), byHand("away"));
  await dying.stop();
  await world.told();
  world.tracker.lookAgain();
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

test("[PRE2] [PRE3] after an update that failed, and may have been stored, others are told how it is", async () => {
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  await world.told();
  world.away.add("set");
  await expect(tracker.update(ann, { status: "busy", automatic: false })).rejects.toThrow("away");
  world.away.clear();
  await store("ann", "busy");
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann busy"]);
});

test("[PRE5] while the cluster cannot be read, those who wait to be looked at cost next to nothing", async () => {
  const lines: string[] = [];
  let asked = 0;
  const corrections = createCorrections({
    correct: async () => {
      asked++;
      if (!isWhole) throw new Error("away");
    },
    now: world.clock.now,
    timers: world.clock,
    logger: pino({}, { write: (line) => void lines.push(line) }),
  });
  isWhole = false;
  corrections.add(Array.from({ length: 10_000 }, (_, at) => `u${at}`));
  await world.clock.pass(60_000);
  expect(lines).toHaveLength(1);
  expect(asked).toBeLessThan(1_000);
  isWhole = true;
  asked = 0;
  await world.clock.pass(6_000);
  expect(asked).toBe(10_000);
  corrections.stop();
  expect(world.clock.waiting()).toBe(0);
});

test("[PRE1] after a gap the many who are watched are looked at in shares, not in one burst", async () => {
  let asked = 0;
  const corrections = createCorrections({
    correct: async () => void asked++,
    now: world.clock.now,
    timers: world.clock,
    logger: pino({ level: "silent" }),
  });
  corrections.add(Array.from({ length: 10_000 }, (_, at) => `u${at}`));
  await world.clock.pass(1_500);
  expect(asked).toBe(200);
  await world.clock.pass(1_000);
  expect(asked).toBe(4_200);
  await world.clock.pass(1_500);
  expect(asked).toBe(10_000);
  expect(world.clock.waiting()).toBe(0);
});

test("[PRE1] one user who cannot be looked at holds up nobody else", async () => {
  const told: string[] = [];
  const corrections = createCorrections({
    correct: async (userId) => {
      if (Number(userId) < 40) throw new Error("away");
      told.push(userId);
    },
    now: world.clock.now,
    timers: world.clock,
    logger: pino({ level: "silent" }),
  });
  corrections.add(Array.from({ length: 100 }, (_, at) => String(at)));
  await world.clock.pass(10_000);
  expect(told).toHaveLength(60);
  corrections.stop();
});

test("[PRE1] [PRE5] a snapshot that was quicker than an event keeps it from nobody", () => {
  const shown = createShownHere(() => 1);
  shown.note("ann", "online");
  expect(shown.noteSnapshot("ann", "offline")).toBe(true);
  expect([shown.note("ann", "offline"), shown.note("ann", "offline")]).toEqual([true, false]);
});

test("[PRE1] nothing is remembered of whom nobody watches any more", () => {
  const watched = new Set(["ann", "bob"]);
  const shown = createShownHere((userId) => Number(watched.has(userId)));
  for (const userId of ["ann", "bob", "cleo"]) shown.note(userId, "online");
  watched.delete("bob");
  shown.sweep();
  expect(shown.users()).toEqual(["ann"]);
});
