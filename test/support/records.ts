/** Makes changes of presence records as nodes do: a device comes, a device goes, a status is set. */
import type { DevicePresence, PresenceRecord, PresenceRegistry, VersionedRecord } from "../../src/cluster/ports.ts";
import { contribute, emptyRecord } from "../../src/presence/record.ts";

type Registry = Pick<PresenceRegistry, "run" | "now" | "transact" | "read">;

/** A device of the registry's node; its connection is named after it unless it is another one. */
export const deviceAt = ({ run }: Pick<Registry, "run">, deviceId: string, connectionId = `c-${deviceId}`) => ({
  deviceId,
  connectionId,
  run,
  status: "online" as const,
  connectedAt: 1_767_323_045_000,
});

/** Adds a device to those that the registry's node has of the user already. */
export const add = (
  registry: Registry,
  userId: string,
  { device, devicesMax = 10 }: { device: string | DevicePresence; devicesMax?: number },
) =>
  registry.transact(userId, (record) => {
    const added = typeof device === "string" ? deviceAt(registry, device) : device;
    const before = record ?? emptyRecord;
    const own = before.devices.filter((it) => it.run === registry.run && it.deviceId !== added.deviceId);
    const { put, ...result } = contribute(before, {
      run: registry.run,
      devices: [...own, added],
      newcomer: { deviceId: added.deviceId, devicesMax },
      now: registry.now(),
    });
    return { put, result };
  });

export const remove = (registry: Registry, userId: string, deviceId: string) =>
  registry.transact(userId, (record) => {
    const devices = record?.devices.filter((it) => it.deviceId !== deviceId) ?? [];
    const isThere = record !== null && devices.length < record.devices.length;
    return { put: isThere ? { ...record, devices } : null, result: isThere };
  });

/** A record that says nothing but this. */
export const saying = (text: string): PresenceRecord => ({
  ...emptyRecord,
  byHand: { status: "busy", text, emoji: null, expiresAt: null },
});
export const say = (registry: Registry, userId: string, text: string, causeDevice?: string) =>
  registry.transact(userId, () => ({ put: saying(text), result: text }), { causeDevice });

/** Undefined: nothing can be known of the user now. */
export const readOne = async (registry: Registry, userId: string): Promise<VersionedRecord | undefined> =>
  (await registry.read([userId])).get(userId);

/** Ids of the user's devices, in order; null: nothing can be known of the user now. */
export async function idsOf(registry: Registry, userId: string): Promise<string[] | null> {
  const found = await readOne(registry, userId);
  return found === undefined ? null : (found.record?.devices ?? []).map(({ deviceId }) => deviceId).sort();
}
