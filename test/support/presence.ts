/** Trackers around real stores and a clock that is turned by hand; everything they tell is written down. */
import pino from "pino";
import { createLocalPresenceRegistry } from "../../src/cluster/local/presence.ts";
import type { PresenceRegistry } from "../../src/cluster/ports.ts";
import { createPresenceTracker, type DeviceRef, type PresenceTracker } from "../../src/presence/tracker.ts";
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

export interface PresenceWorld {
  storage: Storage;
  registry: PresenceRegistry;
  clock: HandClock;
  tracker: PresenceTracker;
  /** One more node with the same stores. */
  addNode(nodeId: string, registry?: PresenceRegistry): PresenceTracker;
  /** On which node those watch of whom `told` and `heard` speak; the first one's unless it is set. */
  watchedOn: string;
  /** What those who watch there were shown since the last look, and own devices anywhere; all of it. */
  told(): Promise<Told[]>;
  /** The same, as short lines: `others online u1 busy "text"`. */
  heard(): Promise<string[]>;
  settled(): Promise<void>;
  /** Names of StatusStore methods that reject as if the engine were away. */
  away: Set<string>;
  /** While it is true nodes do not hear each other. */
  isBusAway: boolean;
  close(): Promise<void>;
}

export const presenceSettings = {
  offline_grace: 10_000,
  visible_to: "shared_conversation",
  update_interval: 1_000,
  max_devices: 3,
  watch_max: 1_000,
} as const;

export async function openPresenceWorld(): Promise<PresenceWorld> {
  const storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  const calls = createCallsUnderWay();
  const clock = createHandClock({ settled: calls.settled });
  const away = new Set<string>();
  const statuses = calls.counted(storage.statuses, async (method) => {
    if (away.has(method)) throw new Error("away");
  });
  const registry = createLocalPresenceRegistry();
  const written: Told[] = [];
  const nodes = new Map<string, PresenceTracker>();

  function addNode(nodeId: string, ownRegistry: PresenceRegistry = registry): PresenceTracker {
    const tracker = createPresenceTracker({
      nodeId,
      registry: ownRegistry,
      statuses,
      publish(topic, { type, payload }, { reach, cause }) {
        if (topic !== `presence:${"user_id" in payload ? payload.user_id : ""}`) throw new Error(`told on ${topic}`);
        const show = (on: string) => {
          if (on !== world.watchedOn) return;
          written.push({ to: "others", type, payload, ...(cause ? { except: cause.deviceId } : {}) });
        };
        if (reach !== "elsewhere") show(nodeId);
        if (reach === "here" || world.isBusAway) return;
        for (const [name, node] of nodes)
          if (node !== tracker && node.hear({ topic, type, payload: JSON.stringify(payload) })) show(name);
      },
      // Somebody on each node watches everybody.
      watchersOf: () => 2,
      tellOwnDevices(userId, { type, payload }, cause) {
        if (!("user_id" in payload) || payload.user_id !== userId) throw new Error(`told to ${userId}`);
        written.push({ to: "own", type, payload, ...(cause ? { except: cause.deviceId } : {}) });
      },
      settings: presenceSettings,
      now: clock.now,
      timers: clock,
      logger: pino({ level: "silent" }),
    });
    nodes.set(nodeId, tracker);
    return tracker;
  }

  async function told(): Promise<Told[]> {
    await calls.settled();
    return written.splice(0);
  }

  const world: PresenceWorld = {
    storage,
    registry,
    clock,
    tracker: addNode("n1"),
    addNode,
    told,
    heard: async () => (await told()).map(shorten),
    settled: calls.settled,
    away,
    isBusAway: false,
    watchedOn: "n1",
    async close() {
      away.clear();
      await Promise.all([...nodes.values()].map((node) => node.stop()));
      await storage.stop();
    },
  };
  return world;
}

function shorten({ to, type, payload }: Told): string {
  const { user_id, status, status_text } = payload;
  return [to, type.replace("presence.", ""), user_id, status, status_text && JSON.stringify(status_text)]
    .filter(Boolean)
    .join(" ");
}

/** A device of a user; its connection is named after it unless it is another one. */
export function device(userId: string, deviceId: string, connectionId = `${userId}/${deviceId}`): DeviceRef {
  return { userId, deviceId, connectionId };
}
