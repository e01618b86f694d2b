/** Tells calls of the devices that come and go: each device's changes in order, and again once calls can be reached. */
import type { CallRegistry } from "../cluster/ports.ts";
import { BoundedMap } from "../ground/bounded-map.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import { Unavailable } from "../ground/unavailable.ts";
import type { CallEvent } from "./events.ts";
import type { Device } from "./record.ts";

type Change = { device: Device; type: "connected" | "disconnected" | "left" };
/** With `callId`: that call alone is told. */
type ToTell = Change & { callId?: string };

export interface DeviceChangesDeps {
  registry: Pick<CallRegistry, "callsOf">;
  devicesOf(userId: string): Promise<string[]>;
  apply(event: CallEvent & Change): Promise<unknown>;
}

export interface DeviceChanges {
  /** @throws Unavailable; `repeat` tells it later */
  tell(change: ToTell): Promise<void>;
  /** Tells what calls could not be told, unless something newer is known of the device. Never rejects. */
  repeat(): Promise<void>;
}

/** Devices of which calls could not be told; of more, the deadlines of their calls find out. */
const untoldMax = 10_000;
const share = 64;

export function createDeviceChanges({ registry, devicesOf, apply }: DeviceChangesDeps): DeviceChanges {
  /** That a device left must not overtake that it is back. */
  const queue = new KeyedQueue();
  /** The last of what is on its way for a device. */
  const newest = new Map<string, ToTell>();
  const untold = new BoundedMap<string, Change>(untoldMax);
  const isHere = async ({ userId, deviceId }: Device) => (await devicesOf(userId)).includes(deviceId);

  async function tellCalls({ device, type, callId }: ToTell): Promise<void> {
    if (callId !== undefined) return void (await apply({ type, device, callId }));
    const calls = await registry.callsOf(device.userId);
    if (calls.length === 0) return;
    const all = async (what: Change["type"]) => {
      for (const { callId } of calls) await apply({ type: what, device, callId });
    };
    if (type === "connected") return all(type);
    // A device that has moved is here by another node, which may well have said so before this one comes to it.
    if (await isHere(device)) return;
    await all(type);
    if (await isHere(device)) await all("connected");
  }

  async function tell(change: ToTell): Promise<void> {
    const key = JSON.stringify([change.device.userId, change.device.deviceId]);
    if (change.callId === undefined) untold.delete(key);
    newest.set(key, change);
    try {
      await queue.run(key, () => tellCalls(change));
    } catch (error) {
      if (newest.get(key) === change && error instanceof Unavailable)
        untold.set(key, { device: change.device, type: change.type });
      throw error;
    } finally {
      if (newest.get(key) === change) newest.delete(key);
    }
  }

  return {
    tell,
    async repeat() {
      const all = [...untold];
      for (let start = 0; start < all.length; start += share) {
        const some = all.slice(start, start + share).filter(([key, change]) => untold.get(key) === change);
        const results = await Promise.allSettled(some.map(([, change]) => tell(change)));
        if (results.some(({ status }) => status === "rejected")) return;
      }
    },
  };
}
