/** Who is connected, where this node is the only one. */
import type { DevicePresence, PresenceRegistry } from "../ports.ts";

/** A presence registry in this process's memory; it holds only who is connected, so it needs no bound of its own. */
export function createLocalPresenceRegistry(): PresenceRegistry {
  // Users have one device or a few: a list of them is a quarter of the size of a map.
  const users = new Map<string, DevicePresence[]>();
  let devicesCount = 0;

  /** The device's entry where the connection still owns it. */
  const owned = (key: { userId: string; deviceId: string; connectionId: string }) =>
    users.get(key.userId)?.find((it) => it.deviceId === key.deviceId && it.connectionId === key.connectionId);

  return {
    async add(entry, devicesMax) {
      const devices = users.get(entry.userId) ?? [];
      const index = devices.findIndex((it) => it.deviceId === entry.deviceId);
      if (index < 0 && devices.length >= devicesMax) return { added: false, first: false, replaced: null };
      const first = devices.length === 0;
      const [replaced = null] = devices.splice(index < 0 ? devices.length : index, 1, { ...entry });
      users.set(entry.userId, devices);
      if (replaced === null) devicesCount++;
      return { added: true, first, replaced };
    },

    async update({ status, ...key }) {
      const entry = owned(key);
      if (entry === undefined) return false;
      entry.status = status;
      return true;
    },

    async remove(key) {
      const devices = users.get(key.userId);
      const entry = owned(key);
      if (devices === undefined || entry === undefined) return { removed: false, last: false };
      devices.splice(devices.indexOf(entry), 1);
      devicesCount--;
      const last = devices.length === 0;
      if (last) users.delete(key.userId);
      return { removed: true, last };
    },

    async devicesOf(userIds) {
      const found = new Map<string, DevicePresence[]>();
      for (const userId of userIds) {
        const devices = users.get(userId)?.map((entry) => ({ ...entry }));
        if (devices !== undefined) found.set(userId, devices);
      }
      return found;
    },

    // The only node is this one, and it is alive.
    sweep: async () => [],
    stats: async () => ({ users: users.size, devices: devicesCount }),
  };
}
