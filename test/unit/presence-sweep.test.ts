/** Proves that presence ends what has begun, whatever fails or stops in between. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { LocalPresenceRegistry } from "../../src/cluster/local/presence-registry.ts";
import { Rounds } from "../../src/presence/rounds.ts";
import { device, openPresenceWorld, type PresenceWorld } from "../support/presence.ts";

let world: PresenceWorld;
beforeEach(async () => {
  world = await openPresenceWorld();
});
afterEach(() => world.close());

const ann = device("ann", "phone");

test("[PRE2] the end of a status is told later where the user could not be read by then", async () => {
  await world.tracker.connect(ann);
  await world.clock.pass(1_000);
  const expires_at = new Date(world.clock.now() + 3_000).toISOString();
  await world.tracker.update(ann, { status: "busy", automatic: false, expires_at });
  await world.heard();
  world.away.add("get");
  world.tracker.start();
  await world.clock.pass(5_000);
  expect(await world.heard()).toEqual([]);
  world.away.clear();
  await world.clock.pass(5_000);
  expect(await world.heard()).toEqual(["own update ann online", "others update ann online"]);
});

test("[PRE1] [DRN] a node that stops still tells of a device that was leaving", async () => {
  const asked = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  const node = world.addNode("n2");
  await node.connect(ann);
  await world.clock.pass(1_000);
  await world.heard();
  world.nodes.get("n2")!.registry.before = () => {
    asked.resolve();
    return go.promise;
  };
  const left = node.disconnect({ ...ann, clean: true });
  await asked.promise;
  const stopped = node.stop();
  go.resolve();
  await Promise.all([left, stopped]);
  expect(await world.heard()).toEqual(["others offline ann"]);
});

test("[PRE1] [DRN] whoever is here when a node stops may come back elsewhere within the grace, and is gone after it", async () => {
  const node = world.addNode("n2");
  await node.connect(ann);
  await node.connect(device("bob", "phone"));
  await world.clock.pass(1_000);
  await world.heard();
  const since = new Date(world.clock.now()).toISOString();
  await node.stop();
  await world.clock.pass(9_000);
  await world.tracker.connect(device("ann", "phone", "again"));
  await world.clock.pass(9_000);
  expect(await world.told()).toEqual([
    { to: "others", type: "presence.offline", payload: { user_id: "bob", last_seen: since } },
  ]);
});

test("[PRE1] who was here when the only node stopped stays for the grace, and is gone after it since the stop", async () => {
  const { clock, storage } = world;
  const nodeOf = (run: string) => new LocalPresenceRegistry({ run, now: clock.now, store: storage.statuses });
  const first = nodeOf("run a");
  world.registry = first;
  for (const userId of ["ann", "bob"]) await world.tracker.connect(device(userId, "phone"));
  const stoppedAt = clock.now();
  await world.tracker.stop();
  await first.stop();

  const restarted = world.addNode("restarted");
  const { registry } = world.nodes.get("restarted")!;
  const second = nodeOf(registry.run);
  await second.start();
  world.registry = second;
  registry.sweep = (remove) => second.sweep(remove);
  world.watchedOn = "restarted";
  await world.watch("ann", "bob");
  await world.told();
  restarted.start();
  await clock.pass(5_000);
  await restarted.connect(device("ann", "phone", "ann comes back"));
  await clock.pass(10_000);
  expect(await world.told()).toEqual([
    {
      to: "others",
      type: "presence.offline",
      payload: { user_id: "bob", last_seen: new Date(stoppedAt).toISOString() },
    },
  ]);
  expect(await second.stats()).toEqual({ users: 1, devices: 1 });
  expect((await storage.statuses.get(["bob"])).get("bob")!.lastSeenAt).toBe(stoppedAt);
  expect(await storage.statuses.takePresent(10)).toEqual([]);
});

test("[PRE1] that dead nodes are looked for again is said once they are, not where nothing could be asked", async () => {
  const lines: string[] = [];
  const told = (_: unknown, msg?: string) => void lines.push(msg!);
  const answers = [() => Promise.reject(new Error("no answer")), async () => false, async () => true];
  const rounds = new Rounds({
    registry: { now: world.clock.now, ownUsers: async () => [], sweep: () => answers.shift()!() },
    records: { noteLastSeen: async () => {}, clearExpired: async () => {} },
    endGraces() {},
    remove: async () => {},
    recheck() {},
    seenHere: () => [],
    cameHere: () => [],
    timers: world.clock,
    logger: { info: told, warn: told, error: told },
  });
  rounds.start();
  await world.clock.pass(2_500);
  expect(lines).toEqual(["presence: looking for dead nodes failed"]);
  await world.clock.pass(1_000);
  expect(lines).toEqual(["presence: looking for dead nodes failed", "presence: dead nodes are looked for again"]);
  await rounds.stop();
});
