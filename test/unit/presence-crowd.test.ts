/** Presence of many users at once: what it asks of the status store does not grow with each of them. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
/** Calls of the status store, by method. */
let asked: Record<"get" | "setLastSeen", number>;
beforeEach(async () => {
  world = await openPresenceWorld();
  asked = { get: 0, setLastSeen: 0 };
  const { statuses } = world.storage;
  const { get, setLastSeen } = statuses;
  Object.assign(statuses, {
    get: (userIds: string[]) => {
      asked.get++;
      return get.call(statuses, userIds);
    },
    setLastSeen: (userIds: string[], at: number) => {
      asked.setLastSeen++;
      return setLastSeen.call(statuses, userIds, at);
    },
  });
});
afterEach(() => world.close());

const crowd = Array.from({ length: 1_000 }, (_, at) => device(`u${at}`, "phone"));

test("[PRE1] a thousand that come, and go, at once cost some statements, not thousands", async () => {
  const { tracker } = world;
  await world.watch(...crowd.map(({ userId }) => userId));
  await Promise.all(crowd.map((place) => tracker.connect(place)));
  expect(await world.heard()).toHaveLength(1_000);
  expect(asked.get).toBeLessThan(50);
  asked.get = 0;
  const leftAt = world.clock.now();
  for (const place of crowd) await tracker.disconnect({ ...place, clean: false });
  await world.clock.pass(9_000);
  await Promise.all(crowd.map((place) => tracker.disconnect({ ...place, clean: true })));
  const told = await world.told();
  expect(told.map(({ type }) => type)).toEqual(crowd.map(() => "presence.offline"));
  expect([asked.get < 50, asked.setLastSeen < 50]).toEqual([true, true]);
  const stored = await world.storage.statuses.get(["u0", "u999"]);
  expect([...stored.values()].map(({ lastSeenAt }) => lastSeenAt)).toEqual([leftAt, leftAt]);
});

test("[PRE1] a statement that fails is the failure of those who asked, and of nobody else", async () => {
  const { tracker } = world;
  world.away.add("get");
  const refused = await Promise.allSettled(crowd.slice(0, 20).map((place) => tracker.connect(place)));
  expect(refused.map(({ status }) => status)).toEqual(refused.map(() => "rejected"));
  world.away.clear();
  await Promise.all(crowd.slice(20, 40).map((place) => tracker.connect(place)));
  expect(await tracker.stats()).toMatchObject({ users: 20 });
});

test("[PRE1] [PRE2] a change waits for two round trips at most before it is shown, and reads nothing where the user is known", async () => {
  const { asked, tracker } = world;
  const costs = async (change: () => Promise<unknown>) => {
    asked.length = 0;
    await change();
    return [...asked];
  };
  const somebody = device("somebody", "phone");
  const busy = { status: "busy", automatic: true } as const;
  // Side by side.
  expect(await costs(async () => tracker.connect(somebody))).toEqual(["get", "read", "transact"]);
  expect(await costs(async () => tracker.connect(device("somebody", "laptop")))).toEqual(["transact"]);
  expect(await costs(() => tracker.update(somebody, busy))).toEqual(["transact"]);
  expect(await costs(() => tracker.update(somebody, { ...busy, automatic: false }))).toEqual(["set", "transact"]);
  expect(await costs(() => tracker.disconnect({ ...somebody, clean: false }))).toEqual(["transact"]);
  const last = () => tracker.disconnect({ ...device("somebody", "laptop"), clean: true });
  expect(await costs(last)).toEqual(["transact"]);
});
