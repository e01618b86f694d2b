/** Tells calls of the devices that come and go: each device's changes in order, and again once calls can be reached. */

import type { CallRegistry } from "../cluster/ports.ts";
import { BoundedMap } from "../ground/bounded-map.ts";
import { KeyedQueue } from "../ground/keyed-queue.ts";
import { pages } from "../ground/pages.ts";
import { Unavailable } from "../ground/unavailable.ts";
import type { CallEvent } from "./events.ts";
import type { Device } from "./record.ts";

type Change = { device: Device; type: "connected" | "disconnected" | "left" };
/** With `callId`: that call alone is told. With `once`: those that are on by now are told once what it gives resolves. */
type ToTell = Change & { callId?: string; once?: (() => Promise<void>) | undefined };

export interface DeviceChangesDeps {
  registry: Pick<CallRegistry, "callsOf">;
  devicesOf(userId: string): Promise<string[]>;
  apply(event: CallEvent & Change): Promise<unknown>;
}

/** Devices of which calls could not be told; of more, the deadlines of their calls find out. */
const untoldMax = 10_000;
const atOnce = 64;

export class DeviceChanges {
  /** One after the other for a device: that it left must not overtake that it is back. */
  readonly #queue = new KeyedQueue();
  /** The last of what is on its way for a device. */
  readonly #newest = new Map<string, ToTell>();
  readonly #untold = new BoundedMap<string, Change>(untoldMax);

  constructor(private readonly deps: DeviceChangesDeps) {}

  /** @throws Unavailable; `repeat` tells it later */
  async tell(change: ToTell): Promise<void> {
    const key = JSON.stringify([change.device.userId, change.device.deviceId]);
    if (change.callId === undefined) this.#untold.delete(key);
    this.#newest.set(key, change);
    try {
      await this.#queue.run(key, () => this.#tellCalls(change));
    } catch (error) {
      if (this.#newest.get(key) === change && error instanceof Unavailable)
        this.#untold.set(key, { device: change.device, type: change.type });
      throw error;
    } finally {
      if (this.#newest.get(key) === change) this.#newest.delete(key);
    }
  }

  /** Tells what calls could not be told, unless something newer is known of the device. Never rejects. */
  async repeat(): Promise<void> {
    for (const page of pages([...this.#untold], atOnce)) {
      const some = page.filter(([key, change]) => this.#untold.get(key) === change);
      const results = await Promise.allSettled(some.map(([, change]) => this.tell(change)));
      if (results.some(({ status }) => status === "rejected")) return;
    }
  }

  async #tellCalls({ device, type, callId, once }: ToTell): Promise<void> {
    const { registry, apply } = this.deps;
    if (callId !== undefined) return void (await apply({ type, device, callId }));
    const calls = await registry.callsOf(device.userId);
    if (calls.length === 0) return;
    await once?.();
    const all = async (what: Change["type"]) => {
      for (const { callId } of calls) await apply({ type: what, device, callId });
    };
    if (type === "connected") return all(type);
    // A device that has moved is here by another node, which may well have said so before this one comes to it.
    if (await this.#isHere(device)) return;
    await all(type);
    if (await this.#isHere(device)) await all("connected");
  }

  async #isHere({ userId, deviceId }: Device): Promise<boolean> {
    return (await this.deps.devicesOf(userId)).includes(deviceId);
  }
}
