/** Proves what a node says of users while it cannot ask about the others: nothing that may be untrue. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { PresenceTracker } from "../../src/presence/tracker.ts";
import { asker, device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
/** It has Ann here; of Ben, who is on the other node, it knows only while it can ask. */
let tracker: PresenceTracker;
const ben = device("ben", "phone");
beforeEach(async () => {
  world = await openPresenceWorld();
  tracker = world.addNode("n2");
  await tracker.connect(device("ann", "phone"));
  await world.tracker.connect(ben);
  // Once seen, so that there is a moment of it to be told.
  await world.tracker.disconnect({ ...ben, clean: true });
  await world.tracker.connect(ben);
  cut(true);
});
afterEach(() => world.close());

const cut = (isAway: boolean) => {
  world.nodes.get("n2")!.registry.isAway = isAway;
};
const refusalOf = (asked: Promise<unknown>) => asked.then(String, (error) => error);
const ask = (viewer: string, ...userIds: string[]) => tracker.query(asker(viewer), userIds, new Set(userIds));

test("[PRE4] who is asked about and may be on a node that cannot be asked makes the answer unavailable", async () => {
  expect(await refusalOf(ask("eve", "ann", "ben"))).toMatchObject({ part: "cluster", retryAfterMs: 1_000 });
  expect(await refusalOf(ask("eve", "nobody"))).toBeInstanceOf(Unavailable);
  cut(false);
  expect(await ask("eve", "ben", "nobody")).toEqual([
    { user_id: "ben", status: "online" },
    { user_id: "nobody", status: "offline" },
  ]);
});

test("[PRE4] who has a device here is told of, and who may not be seen reads as ever", async () => {
  expect(await ask("eve", "ann")).toEqual([{ user_id: "ann", status: "online" }]);
  expect(await tracker.query(asker("eve"), ["ann", "ben"], new Set(["ann"]))).toEqual([
    { user_id: "ann", status: "online" },
    { user_id: "ben", status: "offline" },
  ]);
  expect(await tracker.query(asker("eve"), ["ben"], new Set())).toEqual([{ user_id: "ben", status: "offline" }]);
});

test("[PRE4] one is told of oneself, without the number of devices that other nodes have a part in", async () => {
  expect(await ask("ann", "ann")).toEqual([{ user_id: "ann", status: "online" }]);
  cut(false);
  expect(await ask("ann", "ann")).toEqual([{ user_id: "ann", status: "online", devices: 1 }]);
});

test("[PRE2] [PRE4] somebody invisible who is here cannot be told from somebody who is not", async () => {
  await tracker.update(device("ann", "phone"), { status: "invisible", automatic: false });
  expect(await refusalOf(ask("eve", "ann"))).toBeInstanceOf(Unavailable);
  expect(await ask("ann", "ann")).toEqual([{ user_id: "ann", status: "invisible" }]);
});

test("[PRE5] a snapshot says of nobody since when they are gone, and the truth is told once it is known", async () => {
  world.watchedOn = "n2";
  await tracker.prepareSnapshots(["ann", "ben", "cleo"]);
  expect(["ann", "ben", "cleo"].map((userId) => tracker.snapshotOf(asker("eve"), userId))).toEqual([
    { user_id: "ann", status: "online" },
    { user_id: "ben", status: "offline" },
    { user_id: "cleo", status: "offline" },
  ]);
  await world.told();
  await world.clock.pass(10_000);
  expect(await world.heard()).toEqual([]);
  cut(false);
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others online ben online"]);
});

test("[PRE1] [PRE4] who is told by an answer what others are not shown is alone told at the end of the interval what is so", async () => {
  cut(false);
  world.watchedOn = "n2";
  await world.clock.pass(2_000);
  await tracker.prepareSnapshots(["ben"]);
  expect(tracker.snapshotOf(asker("eve"), "ben")).toEqual({ user_id: "ben", status: "online" });
  const phone = device("ben", "phone");
  const one: unknown[] = [];
  world.onShownOne = (connectionId, userId, { status }) => void one.push([connectionId, userId, status]);
  const others = async () => (await world.heard()).filter((it) => it.startsWith("others"));
  const say = (status: "online" | "busy") => world.tracker.update(phone, { status, automatic: true });
  await say("busy");
  await world.told();
  // While an interval is open the answer alone says what comes now.
  await world.tracker.disconnect({ ...phone, clean: true });
  expect(await others()).toEqual([]);
  expect(await ask("eve", "ben")).toMatchObject([{ user_id: "ben", status: "offline" }]);
  // A snapshot says again what the others hold.
  expect(await ask("zoe", "ben")).toMatchObject([{ user_id: "ben", status: "offline" }]);
  expect(tracker.snapshotOf(asker("zoe"), "ben")).toMatchObject({ status: "busy" });
  // Refused as a whole, it has told nothing.
  world.nodes.get("n2")!.registry.unknown.add("nobody");
  expect(await refusalOf(ask("yves", "ben", "nobody"))).toBeInstanceOf(Unavailable);
  await world.tracker.connect(phone);
  await say("busy");
  await world.clock.pass(1_000);
  expect(await others()).toEqual([]);
  expect(one).toEqual([["eve/asker", "ben", "busy"]]);
});
