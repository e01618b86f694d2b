/** Presence where two nodes change the same user at once: what others are told last is how it is. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { PresenceTracker, PresenceUpdate } from "../../src/presence/tracker.ts";
import { asker, device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
let one: PresenceTracker;
let other: PresenceTracker;
beforeEach(async () => {
  world = await openPresenceWorld();
  one = world.tracker;
  other = world.addNode("n2");
});
afterEach(() => world.close());

const phone = device("ann", "phone");
const laptop = device("ann", "laptop");
const tablet = device("ann", "tablet");
const automatic = (status: PresenceUpdate["status"]): PresenceUpdate => ({ status, automatic: true });
const leave = (node: PresenceTracker, place: typeof phone) => node.disconnect({ ...place, clean: true });
/** Tells what others take Ann for after all that was told, and how she is. */
async function toldAndTrue() {
  const told = (await world.told()).filter(({ to }) => to === "others");
  const [is] = await one.query(asker("bob"), ["ann"], new Set(["ann"]));
  return [told.at(-1)?.payload.status, is!.status];
}

test("[PRE2] [PRE3] two devices that become idle at the same moment make their user away", async () => {
  await one.connect(phone);
  await other.connect(laptop);
  await world.clock.pass(2_000);
  await world.told();
  await Promise.all([one.update(phone, automatic("away")), other.update(laptop, automatic("away"))]);
  await world.clock.pass(2_000);
  expect(await toldAndTrue()).toEqual(["away", "away"]);
});

test("[PRE2] [PRE3] two devices that become busy at the same moment make their user busy", async () => {
  await one.connect(phone);
  await other.connect(laptop);
  await world.clock.pass(2_000);
  await world.told();
  await Promise.all([one.update(phone, automatic("busy")), other.update(laptop, automatic("busy"))]);
  await world.clock.pass(2_000);
  expect(await toldAndTrue()).toEqual(["busy", "busy"]);
});

test("[PRE2] [PRE3] of devices that leave at once nobody remembers the status", async () => {
  await one.connect(phone);
  await other.connect(laptop);
  await one.connect(tablet);
  await one.update(phone, automatic("busy"));
  await one.update(tablet, automatic("away"));
  await world.clock.pass(2_000);
  await world.told();
  await Promise.all([leave(one, phone), leave(other, laptop)]);
  await world.clock.pass(2_000);
  expect(await toldAndTrue()).toEqual(["away", "away"]);
});

test("[PRE2] [PRE3] a device that comes while the one that was busy leaves", async () => {
  await one.connect(phone);
  await one.update(phone, automatic("away"));
  await other.connect(laptop);
  await other.update(laptop, automatic("busy"));
  await world.clock.pass(2_000);
  await world.told();
  await Promise.all([leave(other, laptop), one.connect(tablet)]);
  await world.clock.pass(2_000);
  expect(await toldAndTrue()).toEqual(["online", "online"]);
});

test("[PRE2] [PRE3] what one node holds back it tells where another has said something else meanwhile", async () => {
  const byHand = (status: PresenceUpdate["status"]): PresenceUpdate => ({ status, automatic: false });
  await one.connect(phone);
  await other.connect(laptop);
  await one.update(phone, byHand("busy"));
  await other.update(laptop, byHand("away"));
  await one.update(phone, byHand("busy"));
  await world.clock.pass(3_000);
  expect(await toldAndTrue()).toEqual(["busy", "busy"]);
});

test("[PRE1] who comes to another node while this one takes out their last device is never shown as gone", async () => {
  const late = world.addNode("n3");
  await late.connect(phone);
  await world.clock.pass(2_000);
  await world.heard();
  let meanwhile: (() => Promise<unknown>) | null = async () => other.connect(laptop);
  world.nodes.get("n3")!.registry.before = async () => {
    const run = meanwhile;
    meanwhile = null;
    await run?.();
  };
  await leave(late, phone);
  await world.clock.pass(3_000);
  expect(await world.heard()).toEqual([]);
  expect((await one.devicesOf("ann")).map(({ deviceId }) => deviceId)).toEqual(["laptop"]);
});

test("[CON3] a device that moves to another node is let go of by the old one, which hears of it or finds it", async () => {
  const again = device("ann", "phone", "again");
  for (const hears of [true, false]) {
    await one.connect(phone);
    if (!hears) world.carry = () => {};
    await other.connect(again);
    if (!hears) one.recheckAll();
    await world.clock.pass(100);
    expect(world.nodes.get("n1")!.superseded.splice(0)).toEqual([phone]);
    await leave(other, again);
  }
});

test("[LIM] a device in its grace makes room for one on another node, and is not put back", async () => {
  await one.connect(phone);
  await one.connect(laptop);
  await one.connect(tablet);
  await one.disconnect({ ...tablet, clean: false });
  expect(await other.connect(device("ann", "watch"))).toMatchObject({ accepted: true });
  await world.clock.pass(3_000);
  const ids = (await one.devicesOf("ann")).map(({ deviceId }) => deviceId);
  expect(ids.sort()).toEqual(["laptop", "phone", "watch"]);
});

test("[CON3] a connection that ended before its device was entered does not take the place of one that came since", async () => {
  const newer = device("zoe", "phone", "newer");
  let isGone = false;
  // Not known here: while the store is asked her client has given it up and come to another node.
  const late = one.connect(device("zoe", "phone", "older"), () => isGone);
  isGone = true;
  expect(await other.connect(newer)).toMatchObject({ accepted: true });
  expect(await late).toBeNull();
  const devices = await other.devicesOf("zoe");
  expect(devices.map(({ connectionId }) => connectionId)).toEqual(["newer"]);
});

test("[PRE2] a status that one node owes to the record does not come back over a newer one that is as the record has it", async () => {
  await one.connect(phone);
  await other.connect(laptop);
  await world.clock.pass(2_000);
  const { registry } = world.nodes.get("n1")!;
  registry.isAway = true;
  await one.update(phone, { status: "away", status_text: "on a train", automatic: false });
  await other.update(laptop, { status: "online", status_text: null, automatic: false });
  registry.isAway = false;
  await world.clock.pass(5_000);
  expect(await toldAndTrue()).toEqual(["online", "online"]);
});

test("[PRE2] nor where the newer one is stored between the look at the storage and the write", async () => {
  await one.connect(phone);
  await other.connect(laptop);
  await world.clock.pass(2_000);
  const { registry } = world.nodes.get("n1")!;
  registry.isAway = true;
  await one.update(phone, { status: "away", status_text: "on a train", automatic: false });
  registry.before = async () => {
    registry.before = null;
    await other.update(laptop, { status: "online", status_text: null, automatic: false });
  };
  registry.isAway = false;
  await world.clock.pass(5_000);
  expect(registry.before).toBeNull();
  expect(await toldAndTrue()).toEqual(["online", "online"]);
});
