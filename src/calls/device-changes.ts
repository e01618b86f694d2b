/** Tells calls of the devices that come and go: each device's changes in order, and again once calls can be reached. */

import type { Call } from "../cluster/call.ts";
import type { CallRegistry } from "../cluster/ports.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
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
const repeatedAtOnce = 64;

/** An identifier holds no space, so that it stands for one device only. */
const keyOf = ({ userId, deviceId }: Device) => `${userId} ${deviceId}`;

export class DeviceChanges {
  /** One after the other for a device: that it left must not overtake that it is back. */
  readonly #queue = new KeyedQueue();
  /** The last of what is on its way for a device. */
  readonly #newest = new Map<string, ToTell>();
  readonly #untold = new BoundedMap<string, Change>(untoldMax);

  constructor(private readonly deps: DeviceChangesDeps) {}

  /** In this turn where calls can be asked here and there are none, as is nearly always so. @throws Unavailable; `repeat` tells it later */
  tell(change: ToTell): AtOnce<void> {
    return atOnce(this.#tell(change));
  }

  *#tell(change: ToTell): Steps<void> {
    const key = keyOf(change.device);
    if (change.callId === undefined) this.#untold.delete(key);
    this.#newest.set(key, change);
    try {
      const telling = this.#queue.run(key, () => atOnce(this.#tellCalls(change)));
      if (telling instanceof Promise) yield telling;
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
    for (const page of pages([...this.#untold], repeatedAtOnce)) {
      const some = page.filter(([key, change]) => this.#untold.get(key) === change);
      const results = await Promise.allSettled(some.map(([, change]) => this.tell(change)));
      if (results.some(({ status }) => status === "rejected")) return;
    }
  }

  *#tellCalls(change: ToTell): Steps<void> {
    const { registry, apply } = this.deps;
    const { device, type, callId } = change;
    if (callId !== undefined) return void (yield apply({ type, device, callId }));
    const reading = registry.callsOf(device.userId);
    const calls = reading instanceof Promise ? yield reading : reading;
    if (calls.length > 0) yield this.#tellEach(calls, change);
  }

  async #tellEach(calls: Call[], { device, type, once }: ToTell): Promise<void> {
    const { apply } = this.deps;
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
