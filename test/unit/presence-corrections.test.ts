/** Proves that whoever was shown what is not so is shown the truth: words were lost, or the registry, or a node died. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import pino from "pino";
import { StaleUsers } from "../../src/presence/stale-users.ts";
import type { PresenceTracker } from "../../src/presence/tracker.ts";
import { asker, device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
let tracker: PresenceTracker;
beforeEach(async () => {
  world = await openPresenceWorld();
  tracker = world.addNode("n2");
});
afterEach(() => world.close());

const byHand = (status: "busy" | "away" | "invisible") => ({ status, automatic: false });
const deaf = () => {
  world.carry = () => {};
};

test("[PRE1] [PRE3] after a gap whoever was shown here as they are not is shown as they are, and nobody else", async () => {
  for (const name of ["ann", "bob"]) await tracker.connect(device(name, "d1"));
  await world.clock.pass(3_000);
  await world.told();
  deaf();
  await tracker.disconnect({ ...device("bob", "d1"), clean: true });
  await tracker.connect(device("cleo", "d1"));
  await tracker.connect(device("nobody watches", "d1"));
  await world.clock.pass(3_000);
  expect(await world.heard()).toEqual([]);
  world.tracker.recheckAll();
  world.tracker.recheckAll();
  await world.clock.pass(2_000);
  expect((await world.heard()).toSorted()).toEqual(["others offline bob", "others online cleo online"]);
  world.tracker.recheckAll();
  await world.clock.pass(10_000);
  expect(await world.heard()).toEqual([]);
});

test("[PRE1] [PRE3] what was said late, twice or before is shown once", async () => {
  const words: Parameters<PresenceWorld["carry"]>[0][] = [];
  world.carry = (word) => void words.push(word);
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  await tracker.update(ann, byHand("busy"));
  const { registry } = world.nodes.get("n1")!;
  for (const word of [words[1]!, words[0]!, words[1]!]) registry.hear(word);
  await world.clock.pass(3_000);
  expect((await world.heard()).filter((line) => line.startsWith("others"))).toEqual(["others online ann busy"]);
});

test("[PRE1] nobody is shown as gone of whom nothing can be known yet", async () => {
  await tracker.connect(device("ann", "d1"));
  await world.clock.pass(3_000);
  await world.told();
  deaf();
  await tracker.disconnect({ ...device("ann", "d1"), clean: true });
  const { unknown } = world.nodes.get("n1")!.registry;
  unknown.add("ann");
  world.tracker.recheckAll();
  await world.clock.pass(5_000);
  expect(await world.heard()).toEqual([]);
  unknown.clear();
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others offline ann"]);
});

test("[PRE1] [PRE2] a registry that comes back empty is given back what it had, and nobody sees anything of it", async () => {
  await world.tracker.connect(device("ann", "d1"));
  await tracker.connect(device("ann", "d2"));
  await tracker.connect(device("bob", "d1"));
  await tracker.update(device("bob", "d1"), byHand("busy"));
  await tracker.disconnect({ ...device("ann", "d2"), clean: false });
  await world.clock.pass(3_000);
  await world.told();
  world.empty();
  await world.clock.pass(3_000);
  expect(await world.heard()).toEqual([]);
  const recordOf = async (userId: string) => (await world.registry.read([userId])).get(userId)!.record!;
  expect((await recordOf("ann")).devices.map(({ leaving }) => leaving === undefined)).toEqual([true, false]);
  expect((await recordOf("bob")).byHand).toMatchObject({ status: "busy" });
});

test("[PRE1] [BAK3] who has left while the registry was away is taken out of it before others are looked at", async () => {
  for (let n = 1; n <= 300; n++) await tracker.connect(device(`user${n}`, "d1"));
  await tracker.connect(device("ann", "d1"));
  const { registry } = world.nodes.get("n2")!;
  registry.isAway = true;
  await tracker.disconnect({ ...device("ann", "d1"), clean: true });
  registry.isAway = false;
  tracker.recheckAll();
  await world.clock.pass(1);
  expect((await world.registry.read(["ann"])).get("ann")!.record!.devices).toEqual([]);
});

test("[PRE2] a status that is set in the moment in which the registry is lost is what it is then", async () => {
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  await tracker.update(ann, byHand("busy"));
  world.empty(0);
  await tracker.update(ann, { status: "online", automatic: false });
  await world.clock.pass(3_000);
  const { record } = (await world.registry.read(["ann"])).get("ann")!;
  expect([record!.byHand, record!.devices.length]).toEqual([null, 1]);
});

test("[PRE2] a status that is set again where another node has taken it away unheard is set", async () => {
  const [phone, laptop] = [device("ann", "phone"), device("ann", "laptop")];
  await tracker.connect(phone);
  await world.tracker.connect(laptop);
  await tracker.update(phone, byHand("away"));
  deaf();
  await world.tracker.update(laptop, { status: "online", automatic: false });
  await tracker.update(phone, byHand("away"));
  const { record } = (await world.registry.read(["ann"])).get("ann")!;
  expect(record!.byHand).toMatchObject({ status: "away" });
});

test("[PRE1] what a dead node has left is taken out also by a node that never heard of it", async () => {
  await world.tracker.connect(device("ann", "d1"));
  deaf();
  await tracker.connect(device("ann", "d2"));
  const { registry } = world.nodes.get("n2")!;
  registry.isAway = true;
  world.dead.set(registry.run, world.clock.now());
  world.tracker.start();
  await world.clock.pass(2_000);
  const { record } = (await world.registry.read(["ann"])).get("ann")!;
  expect(record!.devices.map(({ deviceId }) => deviceId)).toEqual(["d1"]);
});

test("[PRE2] a status that is set as it was owed, where another node has set one since, is stored", async () => {
  const [phone, laptop] = [device("ann", "phone"), device("ann", "laptop")];
  const online = { status: "online" as const, automatic: false };
  const { registry } = world.nodes.get("n2")!;
  registry.isAway = true;
  await tracker.connect(phone);
  await tracker.update(phone, online);
  await world.tracker.connect(laptop);
  await world.tracker.update(laptop, byHand("away"));
  registry.unknown.add("ann");
  registry.isAway = false;
  await tracker.update(phone, online);
  const stored = (await world.storage.statuses.get(["ann"])).get("ann")!.status;
  expect([stored, (await world.registry.read(["ann"])).get("ann")!.record!.byHand]).toEqual([null, null]);
});

test("[PRE5] who is shown, within an interval, as one of whom nothing can be known is shown as they are after it", async () => {
  const { registry } = world.nodes.get("n1")!;
  registry.unknown.add("ann");
  // It is looked at again just before the interval ends.
  await world.tracker.query(asker("eve"), ["ann"], new Set(["ann"])).catch(() => {});
  await world.tracker.connect(device("ann", "d1"));
  expect(await world.heard()).toEqual(["others online ann online"]);
  world.watchersOn = () => 0;
  await world.tracker.connect(device("ann", "d1", "again"));
  await tracker.connect(device("ann", "d1", "elsewhere"));
  world.watchersOn = () => 1;
  await world.tracker.prepareSnapshots(["ann"]);
  expect(world.tracker.snapshotOf(asker("eve"), "ann")).toEqual({ user_id: "ann", status: "offline" });
  registry.unknown.clear();
  await world.clock.pass(3_000);
  expect(await world.heard()).toEqual(["others online ann online"]);
});

test("[PRE2] a status that another node has set meanwhile is no obstacle, though nothing can be read", async () => {
  const [phone, laptop] = [device("ann", "phone"), device("ann", "laptop")];
  await tracker.connect(phone);
  await world.tracker.connect(laptop);
  deaf();
  await world.tracker.update(laptop, byHand("busy"));
  world.nodes.get("n2")!.registry.unknown.add("ann");
  await tracker.update(phone, byHand("away"));
  const { record } = (await world.registry.read(["ann"])).get("ann")!;
  expect(record!.byHand).toMatchObject({ status: "away" });
});

test("[PRE1] a device under the name of a node that does not have it is taken out, and told of", async () => {
  tracker.start();
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  const { record } = (await world.registry.read(["ann"])).get("ann")!;
  await tracker.disconnect({ ...ann, clean: true });
  await world.clock.pass(3_000);
  // As with a new master that had not heard of it.
  await world.registry.transact("ann", () => ({ put: record, result: null }));
  world.tracker.recheckAll();
  await world.clock.pass(1_000);
  await world.told();
  world.nodes.get("n2")!.registry.lose();
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others offline ann"]);
});

test("[PRE1] [BAK3] such a device is taken out before anybody may be known again, as of when it went", async () => {
  tracker.start();
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  const { record } = (await world.registry.read(["ann"])).get("ann")!;
  await world.clock.pass(1_000);
  await tracker.disconnect({ ...ann, clean: true });
  const lastSeenAt = world.clock.now();
  await world.clock.pass(3_000);
  await world.registry.transact("ann", () => ({ put: record, result: null }));
  // The nodes put back what was lost: until all have, nobody knows of anybody, and whoever has missed something is not looked for.
  const { registry } = world.nodes.get("n2")!;
  registry.unknown.add("ann");
  registry.lose();
  await world.clock.pass(2_000);
  expect((await world.registry.read(["ann"])).get("ann")!.record).toMatchObject({ devices: [], lastSeenAt });
});

test("[PRE2] [DRN] what was held back when its node stopped is shown by the others", async () => {
  const dying = world.addNode("n3");
  const ann = device("ann", "d1");
  await dying.connect(ann);
  await dying.update(ann, byHand("busy"));
  await dying.update(ann, byHand("away"));
  await dying.stop();
  await world.told();
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ann away"]);
});

test("[PRE1] [PRE3] who moves to another node with a status set by hand that others know of is not told of", async () => {
  const ann = device("ann", "d1");
  for (const statuses of [["busy", "away"], ["busy", "away", "busy"], ["invisible"]] as const) {
    await world.tracker.connect(ann);
    for (const status of statuses) await world.tracker.update(ann, byHand(status));
    await world.clock.pass(1_000);
    await world.told();
    await world.tracker.disconnect({ ...ann, clean: false });
    const again = device("ann", "d1", "ann/d1 again");
    await tracker.connect(again);
    await world.clock.pass(60_000);
    expect(await world.heard()).toEqual([]);
    await tracker.disconnect({ ...again, clean: true });
  }
});

test("[PRE3] what is held back while the storage is away is told at the end of its second all the same", async () => {
  const ann = device("ann", "d1");
  await tracker.connect(ann);
  await tracker.update(ann, byHand("busy"));
  await world.told();
  world.away.add("get");
  await world.clock.pass(1_000);
  expect(await world.heard()).toEqual(["others update ann busy"]);
});

test("[PRE1] nothing is remembered of whom nobody watches any more", async () => {
  await world.tracker.connect(device("bob", "d1"));
  world.watchersOn = () => 0;
  world.tracker.forgetUnwatched();
  world.watchersOn = () => 1;
  deaf();
  await tracker.connect(device("ann", "d1"));
  await tracker.connect(device("bob", "d2"));
  await tracker.update(device("bob", "d2"), byHand("busy"));
  await world.tracker.prepareSnapshots(["ann", "bob"]);
  expect(world.tracker.snapshotOf(asker("eve"), "ann")).toMatchObject({ status: "online" });
  expect(world.tracker.snapshotOf(asker("eve"), "bob")).toMatchObject({ status: "busy" });
});

describe("users who are looked at again", () => {
  const users = (count: number) => Array.from({ length: count }, (_, at) => String(at));
  const looking = (recheck: (userIds: string[]) => Promise<string[]>, lines: string[] = []) =>
    new StaleUsers({ recheck, timers: world.clock, logger: pino({}, { write: (line) => void lines.push(line) }) });

  test("[PRE5] while nothing can be read those who wait cost next to nothing, and it is said once", async () => {
    const lines: string[] = [];
    let asked = 0;
    let isAway = true;
    const recheck = async (userIds: string[]) => {
      asked += userIds.length;
      if (isAway) throw new Error("away");
      return [];
    };
    const stale = looking(recheck, lines);
    stale.addNow(users(10_000));
    await world.clock.pass(60_000);
    expect(lines).toHaveLength(1);
    expect(asked).toBeLessThan(1_000);
    isAway = false;
    asked = 0;
    await world.clock.pass(6_000);
    expect(asked).toBe(10_000);
    expect(lines).toHaveLength(2);
  });

  test("[PRE1] after a gap the many who are watched are looked at in shares, not in one burst", async () => {
    let asked = 0;
    const stale = looking(async (userIds) => {
      asked += userIds.length;
      return [];
    });
    stale.addNow(users(10_000));
    await world.clock.pass(0);
    expect(asked).toBe(200);
    await world.clock.pass(1_000);
    expect(asked).toBe(4_200);
    await world.clock.pass(1_500);
    expect(asked).toBe(10_000);
    expect(world.clock.waiting()).toBe(0);
  });

  test("[PRE1] one user who cannot be looked at holds up nobody else", async () => {
    const looked = new Set<string>();
    const stale = looking(async (userIds) => {
      for (const userId of userIds) looked.add(userId);
      return userIds.filter((userId) => Number(userId) < 40);
    });
    stale.addNow(users(1_000));
    await world.clock.pass(1_000);
    expect(looked.size).toBe(1_000);
    stale.stop();
    expect(world.clock.waiting()).toBe(0);
  });
});
