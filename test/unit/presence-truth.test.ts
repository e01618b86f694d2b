/** Presence, whatever happens in whatever order: in the end all hold the truth, and nobody is ever told what is no news. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import fc from "fast-check";
import type { PresenceWord } from "../../src/cluster/ports.ts";
import { unlessOver } from "../../src/presence/view.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { asker, device, openPresenceWorld, presenceSettings } from "../support/presence.ts";

let storage: Storage;
beforeAll(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
});
afterAll(() => storage.stop());

const node = fc.constantFrom("n1", "n2", "n3");
const place = { node, device: fc.constantFrom("phone", "laptop") };
const action = fc.oneof(
  { weight: 5, arbitrary: fc.record({ is: fc.constant("connect" as const), ...place }) },
  { weight: 4, arbitrary: fc.record({ is: fc.constant("disconnect" as const), ...place, clean: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({
      is: fc.constant("update" as const),
      ...place,
      status: fc.constantFrom("online" as const, "away" as const, "busy" as const, "invisible" as const),
      automatic: fc.boolean(),
      lastsMs: fc.constantFrom(null, 700, 3_000),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ is: fc.constant("pass" as const), ms: fc.constantFrom(1, 300, 1_000, 4_000, 11_000) }),
  },
  { weight: 4, arbitrary: fc.record({ is: fc.constant("watch" as const), node }) },
  { weight: 3, arbitrary: fc.record({ is: fc.constant("query" as const), node }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant("leave" as const), node }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant("forget" as const), node }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant("gap" as const), node }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant("empty" as const), settlesMs: fc.constantFrom(0, 2_000) }) },
  { weight: 2, arbitrary: fc.record({ is: fc.constant("cut" as const), node, isAway: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ is: fc.constant("unknown" as const), node, isUnknown: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ is: fc.constant("die" as const), node: fc.constantFrom("n1", "n2") }) },
  {
    weight: 3,
    arbitrary: fc.record({
      is: fc.constant("words" as const),
      fate: fc.constantFrom("go" as const, "lost" as const, "late" as const, "twice" as const),
    }),
  },
);
const together = fc.array(action, { minLength: 1, maxLength: 3, size: "max" });
const steps = fc.array(together, { maxLength: 30, size: "max" });
type Action = typeof action extends fc.Arbitrary<infer Of> ? Of : never;

const lookOf = ({
  status = "offline",
  status_text: text = null,
  status_emoji: emoji = null,
}: Record<string, unknown>) => (status === "offline" ? "offline" : JSON.stringify([status, text, emoji]));

let runs = 0;

async function run(steps: Action[][]): Promise<void> {
  const userId = `u${++runs}`;
  const world = await openPresenceWorld(storage);
  for (const nodeId of ["n2", "n3"]) world.addNode(nodeId);
  for (const { tracker } of world.nodes.values()) tracker.start();
  /** Held by those who watch on a node. */
  const held = new Map<string, string>();
  /** By connection, what was answered to those who watch as well, until they are told something. */
  const answered = new Map<string, { nodeId: string; look: string }>();
  let askers = 0;
  const forgetAskers = (nodeId: string) => {
    for (const [connectionId, it] of answered) if (it.nodeId === nodeId) answered.delete(connectionId);
  };
  /** Nodes that hear words, with the sweeps of the bus since somebody has watched there. */
  const hearing = new Map<string, number>();
  const toldAt = new Map<string, number>();
  /** Open connections, the newest of a device last. */
  const open = new Map<string, { nodeId: string; deviceId: string }>();
  const newestOf = (deviceId: string) => [...open].findLast(([, it]) => it.deviceId === deviceId)?.[0];
  const killed = new Set<string>();
  const late: (() => void)[] = [];
  let fate: "go" | "lost" | "late" | "twice" = "go";
  let connections = 0;
  /** Counts who is about to be shown a snapshot. */
  let coming = 0;

  world.watchersOn = (nodeId) => (held.has(nodeId) ? 2 : 0);
  world.onShown = (nodeId, shownUser, payload) => {
    if (shownUser !== userId || killed.has(nodeId)) return;
    const look = lookOf(payload);
    expect(held.get(nodeId)).not.toBe(look);
    expect(world.clock.now() - (toldAt.get(nodeId) ?? 0)).toBeGreaterThanOrEqual(presenceSettings.update_interval);
    held.set(nodeId, look);
    forgetAskers(nodeId);
    toldAt.set(nodeId, world.clock.now());
  };
  world.onShownOne = (connectionId, _, payload) => {
    const there = answered.get(connectionId);
    if (there === undefined || killed.has(there.nodeId)) return;
    const { nodeId } = there;
    const look = lookOf(payload);
    expect(there.look).not.toBe(look);
    expect(held.get(nodeId)).toBe(look);
    expect(world.clock.now() - (toldAt.get(nodeId) ?? 0)).toBeGreaterThanOrEqual(presenceSettings.update_interval);
    answered.delete(connectionId);
    // A change shown to all is as far off from it.
    if (!answered.values().some((it) => it.nodeId === nodeId)) toldAt.set(nodeId, world.clock.now());
  };
  world.carry = (word: PresenceWord, from) => {
    for (const [nodeId, { registry }] of world.nodes) {
      // By the user's own topic where devices are connected.
      const hears = hearing.has(nodeId) || open.values().some((it) => it.nodeId === nodeId);
      if (nodeId === from || !hears || killed.has(nodeId)) continue;
      const hear = () => registry.hear(word);
      if (fate === "go" || fate === "twice") hear();
      if (fate === "late" || fate === "twice") late.push(hear);
      // That something was lost is noticed by and by.
      if (fate === "lost") late.push(() => world.nodes.get(nodeId)!.tracker.recheckAll());
    }
  };

  const trackerOf = (nodeId: string) => world.nodes.get(nodeId)!.tracker;
  async function watch(nodeId: string): Promise<void> {
    if (killed.has(nodeId)) return;
    hearing.set(nodeId, 0);
    if (!held.has(nodeId)) held.set(nodeId, "nothing yet");
    coming++;
    await trackerOf(nodeId).prepareSnapshots([userId]);
    coming--;
    if (killed.has(nodeId)) return;
    const look = lookOf({ ...trackerOf(nodeId).snapshotOf(asker("a watcher"), userId) });
    if (held.get(nodeId) !== "nothing yet") expect(look).toBe(held.get(nodeId)!);
    held.set(nodeId, look);
  }

  /** Asks as one of those who watch there, where somebody does. */
  async function query(nodeId: string): Promise<void> {
    const connectionId = `a${++askers}`;
    const views = await trackerOf(nodeId)
      .query(asker("a watcher", connectionId), [userId], new Set([userId]))
      .catch(() => null);
    if (views === null || (held.get(nodeId) ?? "nothing yet") === "nothing yet") return;
    const look = lookOf({ ...views[0] });
    if (look !== held.get(nodeId)) answered.set(connectionId, { nodeId, look });
  }

  async function close(connectionId: string, clean: boolean): Promise<void> {
    const there = open.get(connectionId);
    if (there === undefined || !open.delete(connectionId)) return;
    await trackerOf(there.nodeId).disconnect({ ...device(userId, there.deviceId, connectionId), clean });
  }

  async function act(action: Action): Promise<void> {
    if ("node" in action && killed.has(action.node)) return;
    switch (action.is) {
      case "connect": {
        const connectionId = `k${++connections}`;
        const { node: nodeId, device: deviceId } = action;
        const olderHere = [...open].filter(([, it]) => it.nodeId === nodeId && it.deviceId === deviceId);
        open.set(connectionId, { nodeId, deviceId });
        const entered = await trackerOf(nodeId).connect(device(userId, deviceId, connectionId));
        expect(entered!.accepted).toBe(true);
        for (const [older] of olderHere) void close(older, false);
        if (entered!.replaced !== null) void close(entered!.replaced.connectionId, false);
        return;
      }
      case "disconnect": {
        const connectionId = newestOf(action.device);
        return connectionId === undefined ? undefined : close(connectionId, action.clean);
      }
      case "update": {
        const connectionId = newestOf(action.device);
        const { status, automatic, lastsMs } = action;
        if (connectionId === undefined || (automatic && status === "invisible")) return;
        const { nodeId, deviceId } = open.get(connectionId)!;
        const expires_at = lastsMs === null ? null : new Date(world.clock.now() + lastsMs).toISOString();
        await trackerOf(nodeId).update(device(userId, deviceId, connectionId), {
          status,
          automatic,
          status_text: status === "busy" ? "!" : null,
          ...(automatic ? {} : { expires_at }),
        });
        return;
      }
      case "pass":
        return world.clock.pass(action.ms);
      case "watch":
        return watch(action.node);
      case "query":
        return query(action.node);
      case "leave":
        if (coming > 0) return;
        forgetAskers(action.node);
        toldAt.delete(action.node);
        return void held.delete(action.node);
      case "forget": {
        const sweeps = held.has(action.node) ? 0 : (hearing.get(action.node) ?? 0) + 1;
        hearing.set(action.node, sweeps);
        if (sweeps > 1) hearing.delete(action.node);
        return trackerOf(action.node).forgetUnwatched();
      }
      case "gap":
        return trackerOf(action.node).recheckAll();
      case "empty":
        return world.empty(action.settlesMs);
      case "cut": {
        const { registry } = world.nodes.get(action.node)!;
        const isBack = registry.isAway && !action.isAway;
        registry.isAway = action.isAway;
        if (isBack) registry.lose();
        return;
      }
      case "unknown": {
        const { unknown } = world.nodes.get(action.node)!.registry;
        return void (action.isUnknown ? unknown.add(userId) : unknown.delete(userId));
      }
      case "die": {
        if (killed.size > 0) return;
        const { registry } = world.nodes.get(action.node)!;
        killed.add(action.node);
        held.delete(action.node);
        forgetAskers(action.node);
        registry.isAway = true;
        world.dead.set(registry.run, world.clock.now());
        for (const [connectionId, { nodeId }] of open) if (nodeId === action.node) open.delete(connectionId);
        return;
      }
      case "words":
        fate = action.fate;
        if (fate === "go") for (const hear of late.splice(0)) hear();
        return;
    }
  }

  try {
    for (const actions of steps) {
      // Actions that are done at once meet in the middle.
      await Promise.all(actions.map(act));
      await world.settled();
    }
    // All is whole again, and time goes by.
    for (const [nodeId, { registry }] of world.nodes) {
      if (killed.has(nodeId)) continue;
      registry.unknown.clear();
      await act({ is: "cut", node: nodeId as "n1", isAway: false });
    }
    await act({ is: "words", fate: "go" });
    for (const nodeId of world.nodes.keys()) await watch(nodeId);
    for (let second = 0; second < 40; second++) await world.clock.pass(1_000);
    for (const { superseded } of world.nodes.values())
      for (const { connectionId } of superseded) open.delete(connectionId);
    const { record } = (await world.registry.read([userId])).get(userId)!;
    const stored = (await storage.statuses.get([userId])).get(userId)!.status;
    const byHand = unlessOver(record === null ? stored : record.byHand, world.clock.now());
    const isHere = open.size > 0 && byHand?.status !== "invisible";
    // A node that dies in between has stored it, and told nobody: nor was its user told that it is done.
    if (killed.size === 0) expect(unlessOver(stored, world.clock.now())).toEqual(byHand);
    const [is] = await trackerOf("n3").query(asker("a watcher"), [userId], new Set([userId]));
    expect(is!.status !== "offline").toBe(isHere);
    const all = [...held, ...answered.values().map(({ nodeId, look }) => [nodeId, look] as const)];
    for (const [nodeId, look] of all) expect([nodeId, look]).toEqual([nodeId, lookOf({ ...is })]);
  } finally {
    await world.close();
  }
}

/** More of them find more: `RUNS=5000 bun test test/unit/presence-truth.test.ts`. */
const numRuns = Number(process.env.RUNS ?? 100);

test("[PRE1] [PRE3] [PRE5] whatever changes, is lost, late, doubled, emptied or dies: all hold the truth in the end, and are told nothing twice", async () => {
  await fc.assert(fc.asyncProperty(steps, run), { numRuns });
}, 120_000);
