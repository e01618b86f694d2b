/** What a node says of users while it cannot ask about the others: nothing that may be untrue. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import type { PresenceTracker } from "../../src/presence/tracker.ts";
import { device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
/** It has Ann here; of Ben, who is on the other node, it knows only while it can ask. */
let tracker: PresenceTracker;
let isWhole: boolean;
const ben = device("ben", "phone");
beforeEach(async () => {
  isWhole = true;
  world = await openPresenceWorld();
  tracker = world.addNode("n2", {
    ...world.registry,
    isWhole: () => isWhole,
    async devicesOf(userIds) {
      const found = await world.registry.devicesOf(userIds);
      if (!isWhole) found.delete("ben");
      return found;
    },
  });
  await tracker.connect(device("ann", "phone"));
  await world.tracker.connect(ben);
  // Once seen, so that there is a moment of it to be told.
  await world.tracker.disconnect({ ...ben, clean: true });
  await world.tracker.connect(ben);
  isWhole = false;
});
afterEach(() => world.close());

const refusalOf = (asked: Promise<unknown>) => asked.then(String, (error) => error);
const ask = (viewer: string, ...userIds: string[]) => tracker.query(viewer, userIds, new Set(userIds));

test("[PRE4] who is asked about and may be on a node that cannot be asked makes the answer unavailable", async () => {
  expect(await refusalOf(ask("eve", "ann", "ben"))).toMatchObject({
    code: "unavailable",
    details: { retryAfterMs: 1_000 },
  });
  expect(await refusalOf(ask("eve", "nobody"))).toMatchObject({ code: "unavailable" });
  isWhole = true;
  expect(await ask("eve", "ben", "nobody")).toEqual([
    { user_id: "ben", status: "online" },
    { user_id: "nobody", status: "offline" },
  ]);
});

test("[PRE4] who has a device here is told of, and who may not be seen reads as ever", async () => {
  expect(await ask("eve", "ann")).toEqual([{ user_id: "ann", status: "online" }]);
  expect(await tracker.query("eve", ["ann", "ben"], new Set(["ann"]))).toEqual([
    { user_id: "ann", status: "online" },
    { user_id: "ben", status: "offline" },
  ]);
  expect(await tracker.query("eve", ["ben"], new Set())).toEqual([{ user_id: "ben", status: "offline" }]);
});

test("[PRE4] one is told of oneself, without the number of devices that other nodes have a part in", async () => {
  expect(await ask("ann", "ann")).toEqual([{ user_id: "ann", status: "online" }]);
  isWhole = true;
  expect(await ask("ann", "ann")).toEqual([{ user_id: "ann", status: "online", devices: 1 }]);
});

test("[PRE2] [PRE4] somebody invisible who is here cannot be told from somebody who is not", async () => {
  await tracker.update(device("ann", "phone"), { status: "invisible", automatic: false });
  expect(await refusalOf(ask("eve", "ann"))).toMatchObject({ code: "unavailable" });
  expect(await ask("ann", "ann")).toEqual([{ user_id: "ann", status: "invisible" }]);
});

test("[PRE5] a snapshot says of nobody since when they are gone, and the truth is told once it is known", async () => {
  world.watchedOn = "n2";
  const views = await tracker.snapshotOf("eve", ["ann", "ben", "cleo"]);
  tracker.noteShown("eve", views.values());
  expect(views).toEqual(
    new Map([
      ["ann", { user_id: "ann", status: "online" }],
      ["ben", { user_id: "ben", status: "offline" }],
      ["cleo", { user_id: "cleo", status: "offline" }],
    ]),
  );
  await world.told();
  await world.clock.pass(10_000);
  expect(await world.heard()).toEqual([]);
  isWhole = true;
  await world.clock.pass(2_000);
  expect(await world.heard()).toEqual(["others update ben online"]);
});
