/** Trackers around a real registry and storage, and a clock that is turned by hand; everything they tell is written down. */
import pino from "pino";
import { LocalPresenceRegistry } from "../../src/cluster/local/presence-registry.ts";
import type { PresenceRecord, PresenceRegistry, PresenceWord } from "../../src/cluster/ports.ts";
import { type Asker, type DeviceRef, PresenceTracker } from "../../src/presence/tracker.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createCallsUnderWay } from "./calls-under-way.ts";
import { createHandClock, type HandClock } from "./hand-clock.ts";

export interface Told {
  /** `others`: on `presence:<user>`; `own`: on `user:<id>`. */
  to: "others" | "own";
  type: string;
  payload: Record<string, unknown>;
  /** The device that is not told. */
  except?: string;
}

/** One node's way to the registry, which can be cut. */
export interface NodeRegistry extends PresenceRegistry {
  /** While it is true nothing can be read or written. */
  isAway: boolean;
  /** While it is true what is written is, but the node does not hear that it was. */
  losesAnswer: boolean;
  /** Users of whom nothing can be known now. */
  unknown: Set<string>;
  /** Hears what another node has said. */
  hear(word: PresenceWord): void;
  /** Tells the node that the registry may have lost what was written. */
  lose(): void;
  /** Called before a step is run; the registry's memory is another one's meanwhile. */
  before: (() => Promise<void>) | null;
}

export interface PresenceWorld {
  storage: Storage;
  registry: LocalPresenceRegistry;
  clock: HandClock;
  tracker: PresenceTracker;
  nodes: Map<string, { tracker: PresenceTracker; registry: NodeRegistry; superseded: DeviceRef[] }>;
  /** One more node with the same stores. */
  addNode(nodeId: string): PresenceTracker;
  /** Somebody on every node is shown these, as everybody is from the beginning who is named in `watchedUsers`. */
  watch(...userIds: string[]): Promise<void>;
  /** The registry comes back empty: versions begin anew under another mark, and for so long nothing can be read. */
  empty(settlesMs?: number): void;
  /** On which node those watch of whom `told` and `heard` speak; the first one's unless it is set. */
  watchedOn: string;
  /** Tells what those who watch there were shown since the last look, and own devices anywhere; all of it. */
  told(): Promise<Told[]>;
  /** The same, as short lines: `others online u1 busy "text"`. */
  heard(): Promise<string[]>;
  settled(): Promise<void>;
  /** Asked of the registry and the storage, in order. */
  asked: string[];
  /** Names of StatusStore methods that reject as if the engine were away. */
  away: Set<string>;
  /** How many on a node watch each user: somebody does unless it is set. */
  watchersOn: (nodeId: string) => number;
  /** Called with whatever those who watch on a node are shown. */
  onShown: (nodeId: string, userId: string, payload: Told["payload"]) => void;
  /** Called with what one connection that has asked is shown. */
  onShownOne: (connectionId: string, userId: string, payload: Told["payload"]) => void;
  /** Runs of nodes that have died, with their last sign of life. */
  dead: Map<string, number>;
  /** Takes what a node says to the others; every other node hears it at once unless it is set. */
  carry: (word: PresenceWord, from: string) => void;
  close(): Promise<void>;
}

export const presenceSettings = {
  offline_grace: 10_000,
  visible_to: "shared_conversation",
  update_interval: 1_000,
  max_devices: 3,
  watch_max: 1_000,
  service_sees_invisible: false,
} as const;

const watchedUsers = ["ann", "bob", "cleo", "eve"];

/** @param given a storage that is open already, and stays open */
export async function openPresenceWorld(given?: Storage): Promise<PresenceWorld> {
  const storage = given ?? createSqliteStorage({ path: ":memory:" });
  if (given === undefined) await storage.start();
  const calls = createCallsUnderWay();
  const clock = createHandClock({ settled: calls.settled });
  const away = new Set<string>();
  const statuses = calls.counted(storage.statuses, async (method) => {
    world.asked.push(method);
    if (away.has(method)) throw new Error("away");
  });
  const written: Told[] = [];
  const nodes: PresenceWorld["nodes"] = new Map();
  let runs = 0;
  let settledAt = 0;
  const freshRegistry = () => new LocalPresenceRegistry({ run: `run ${++runs}`, now: clock.now });

  function registryOf(nodeId: string): NodeRegistry {
    let onWord: (word: PresenceWord) => void = () => {};
    let onLoss = () => {};
    const run = `${nodeId}/${++runs}`;
    const refuse = () => {
      if (registry.isAway) throw new Error("the registry is away");
    };
    const registry: NodeRegistry = {
      run,
      isAway: false,
      losesAnswer: false,
      unknown: new Set(),
      before: null,
      now: clock.now,
      async transact(userId, step, options = {}) {
        world.asked.push("transact");
        refuse();
        await registry.before?.();
        // As on Redis: what is known is believed where nothing is to be written.
        const { known } = options;
        const believed = known === undefined ? null : step(known.record);
        if (believed?.put === null) return { now: known!, result: believed.result };
        const { version } = (await world.registry.read([userId])).get(userId)!;
        const answer = await world.registry.transact(userId, step, options);
        const { mark, version: newVersion, record } = answer.now;
        const { causeDevice } = options;
        if (newVersion !== version && record !== null)
          world.carry({ userId, mark, version: newVersion, record, ...(causeDevice ? { causeDevice } : {}) }, nodeId);
        if (registry.losesAnswer) throw new Error("the answer is lost");
        return answer;
      },
      async read(userIds) {
        world.asked.push("read");
        if (registry.isAway || clock.now() < settledAt) return new Map();
        const found = await world.registry.read(userIds);
        for (const userId of registry.unknown) found.delete(userId);
        return found;
      },
      onWord: (listener) => void (onWord = listener),
      onLoss: (listener) => void (onLoss = listener),
      async ownUsers() {
        refuse();
        const isOwn = ([, { devices }]: [string, PresenceRecord]) => devices.some((it) => it.run === run);
        return world.registry
          .present()
          .filter(isOwn)
          .map(([userId]) => userId);
      },
      async sweep(remove) {
        refuse();
        for (const [dead, seenAt] of world.dead)
          for (const [userId, { devices }] of world.registry.present())
            if (devices.some((it) => it.run === dead)) await remove({ userId, run: dead, seenAt });
        return true;
      },
      stats: () => world.registry.stats(),
      hear: (word) => onWord(word),
      lose: () => onLoss(),
    };
    return registry;
  }

  function addNode(nodeId: string): PresenceTracker {
    const registry = registryOf(nodeId);
    const superseded: DeviceRef[] = [];
    const tracker = new PresenceTracker({
      registry: {
        ...registry,
        ...pick(calls.counted(registry), ["transact", "read", "ownUsers", "stats"]),
        sweep: (remove) => registry.sweep(remove),
      },
      statuses,
      show(userId, { type, payload }, cause) {
        if (!("user_id" in payload) || payload.user_id !== userId) throw new Error(`told to ${userId}`);
        world.onShown(nodeId, userId, payload);
        if (nodeId !== world.watchedOn) return;
        written.push({ to: "others", type, payload, ...(cause ? { except: cause.deviceId } : {}) });
      },
      showOne(asker, userId, { payload }) {
        world.onShownOne(asker.connectionId, userId, payload);
      },
      tellOwnDevices(userId, { type, payload }, cause) {
        if (!("user_id" in payload) || payload.user_id !== userId) throw new Error(`told to ${userId}`);
        written.push({ to: "own", type, payload, ...(cause ? { except: cause.deviceId } : {}) });
      },
      watchersOf: () => world.watchersOn(nodeId),
      onSuperseded: (device) => void superseded.push(device),
      settings: presenceSettings,
      timers: clock,
      logger: pino({ level: "silent" }),
    });
    nodes.set(nodeId, { tracker, registry, superseded });
    return tracker;
  }

  async function told(): Promise<Told[]> {
    await calls.settled();
    return written.splice(0);
  }

  const world: PresenceWorld = {
    storage,
    registry: freshRegistry(),
    clock,
    tracker: null as never,
    nodes,
    addNode,
    async watch(...userIds) {
      for (const { tracker } of nodes.values()) {
        await tracker.prepareSnapshots(userIds);
        for (const userId of userIds) tracker.snapshotOf(asker("a watcher"), userId);
      }
    },
    empty(settlesMs = 2_000) {
      world.registry = freshRegistry();
      settledAt = clock.now() + settlesMs;
      for (const { registry } of nodes.values()) registry.lose();
    },
    told,
    heard: async () => (await told()).map(shorten),
    settled: calls.settled,
    away,
    asked: [],
    carry(word, from) {
      for (const [nodeId, { registry }] of nodes) if (nodeId !== from) registry.hear(word);
    },
    watchedOn: "n1",
    watchersOn: () => 2,
    onShown() {},
    onShownOne() {},
    dead: new Map(),
    async close() {
      away.clear();
      await Promise.all([...nodes.values()].map(({ tracker }) => tracker.stop()));
      if (given === undefined) await storage.stop();
    },
  };
  world.tracker = addNode("n1");
  await world.watch(...watchedUsers);
  return world;
}

const pick = <Of extends object, Name extends keyof Of>(from: Of, names: Name[]) =>
  Object.fromEntries(names.map((name) => [name, from[name]])) as Pick<Of, Name>;

function shorten({ to, type, payload }: Told): string {
  const { user_id, status, status_text } = payload;
  return [to, type.replace("presence.", ""), user_id, status, status_text && JSON.stringify(status_text)]
    .filter(Boolean)
    .join(" ");
}

/** A connection that asks how others are. */
export const asker = (userId: string, connectionId = `${userId}/asker`): Asker => ({ userId, connectionId });

/** A device of a user; its connection is named after it unless it is another one. */
export function device(userId: string, deviceId: string, connectionId = `${userId}/${deviceId}`): DeviceRef {
  return { userId, deviceId, connectionId };
}
