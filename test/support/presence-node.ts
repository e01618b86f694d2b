/** Puts a presence tracker on a node of a cluster, with a storage that all of them share; writes down what it shows. */
import type { Bus, Cluster, PresenceRegistry } from "../../src/cluster/ports.ts";
import { type DeviceRef, PresenceTracker } from "../../src/presence/tracker.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { silent } from "./cluster.ts";

export interface PresenceNode {
  tracker: PresenceTracker;
  registry: PresenceRegistry;
  /** Shown to those who watch here: `online ann`. */
  shown: string[];
  /** Devices of this node that have a newer connection elsewhere. */
  superseded: DeviceRef[];
  /** Somebody watches the user here. */
  watch(userId: string): Promise<void>;
  connect(userId: string, deviceId: string, connectionId?: string): Promise<{ accepted: boolean }>;
  disconnect(userId: string, deviceId: string, connectionId?: string): Promise<void>;
}

const usual = {
  offline_grace: 10_000,
  visible_to: "shared_conversation",
  update_interval: 100,
  max_devices: 3,
  watch_max: 1_000,
  service_sees_invisible: false,
} as const;

export async function openSharedStorage(): Promise<Storage> {
  const storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  return storage;
}

/** The trackers are to be stopped before the nodes. */
export function startPresence(
  { nodeId, presence: registry, bus }: Pick<Cluster, "nodeId" | "presence"> & { bus: Pick<Bus, "onGap" | "watch"> },
  { storage }: { storage: Storage },
): PresenceNode {
  const watched = new Set<string>();
  const [shown, superseded]: [string[], DeviceRef[]] = [[], []];
  const tracker = new PresenceTracker({
    registry,
    statuses: storage.statuses,
    show: (userId, { type }) => void shown.push(`${type.replace("presence.", "")} ${userId}`),
    showOne: () => {},
    tellOwnDevices: () => {},
    watchersOf: (userId) => (watched.has(userId) ? 1 : 0),
    onSuperseded: (device) => void superseded.push(device),
    settings: usual,
    logger: silent,
  });
  bus.onGap(() => tracker.recheckAll());
  tracker.start();
  const ref = (userId: string, deviceId: string, connectionId = `${userId}/${deviceId}/${nodeId}`) => ({
    userId,
    deviceId,
    connectionId,
  });
  return {
    tracker,
    registry,
    shown,
    superseded,
    async watch(userId) {
      await bus.watch(`presence:${userId}`);
      watched.add(userId);
      await tracker.prepareSnapshots([userId]);
      tracker.snapshotOf({ userId: "watcher", connectionId: "watcher" }, userId);
    },
    async connect(userId, deviceId, connectionId) {
      // As its device hears its own topic.
      await bus.watch(`user:${userId}`);
      return (await tracker.connect(ref(userId, deviceId, connectionId)))!;
    },
    disconnect: (userId, deviceId, connectionId) =>
      tracker.disconnect({ ...ref(userId, deviceId, connectionId), clean: true }),
  };
}
