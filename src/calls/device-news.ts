/** Tells calls of the devices that come and go: each device's news in turn, and again once they can be reached. */
import type { CallRegistry } from "../cluster/ports.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { CallEvent } from "./events.ts";
import type { Device } from "./record.ts";

type News = { device: Device; type: "connected" | "disconnected" | "left" };
/** With `callId`: that call alone is told. */
type ToTell = News & { callId?: string };

export interface DeviceNewsDeps {
  registry: Pick<CallRegistry, "callsOf">;
  devicesOf(userId: string): Promise<string[]>;
  apply(event: CallEvent & News): Promise<unknown>;
}

export interface DeviceNews {
  /** @throws ProtocolError `unavailable`; `repeat` tells it later */
  tell(news: ToTell): Promise<void>;
  /** Tells what calls could not be told, unless something newer is known of the device. Never rejects. */
  repeat(): Promise<void>;
}

/** Devices of which calls could not be told; of more, the deadlines of their calls find out. */
const untoldMax = 10_000;
const share = 64;

export function createDeviceNews({ registry, devicesOf, apply }: DeviceNewsDeps): DeviceNews {
  /** The last of what is on its way for a device: that it left must not overtake that it is back. */
  const turns = new Map<string, Promise<void>>();
  const untold = new Map<string, News>();
  const isHere = async ({ userId, deviceId }: Device) => (await devicesOf(userId)).includes(deviceId);

  async function tellCalls({ device, type, callId }: ToTell): Promise<void> {
    if (callId !== undefined) return void (await apply({ type, device, callId }));
    const calls = await registry.callsOf(device.userId);
    if (calls.length === 0) return;
    const all = async (what: News["type"]) => {
      for (const { callId } of calls) await apply({ type: what, device, callId });
    };
    if (type === "connected") return all(type);
    // A device that has moved is here by another node, which may well have said so before this one comes to it.
    if (await isHere(device)) return;
    await all(type);
    if (await isHere(device)) await all("connected");
  }

  function tell(news: ToTell): Promise<void> {
    const key = JSON.stringify([news.device.userId, news.device.deviceId]);
    if (news.callId === undefined) untold.delete(key);
    const turn = (turns.get(key) ?? Promise.resolve()).then(() => tellCalls(news));
    const settled = turn.catch((error: unknown) => {
      const isNewest = turns.get(key) === settled;
      if (!isNewest || !(error instanceof ProtocolError && error.code === "unavailable")) return;
      const { device, type } = news;
      untold.set(key, { device, type });
      if (untold.size > untoldMax) untold.delete(untold.keys().next().value!);
    });
    turns.set(key, settled);
    void settled.then(() => turns.get(key) === settled && turns.delete(key));
    return turn;
  }

  return {
    tell,
    async repeat() {
      const all = [...untold];
      for (let start = 0; start < all.length; start += share) {
        const some = all.slice(start, start + share).filter(([key, news]) => untold.get(key) === news);
        const results = await Promise.allSettled(some.map(([, news]) => tell(news)));
        if (results.some(({ status }) => status === "rejected")) return;
      }
    },
  };
}
