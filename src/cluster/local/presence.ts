/** Who is connected, where this node is the only one. */
import type { DevicePresence, PresenceRegistry } from "../ports.ts";

/** A presence registry in this process's memory; it holds only who is connected, so it needs no bound of its own. */
export function createLocalPresenceRegistry(): PresenceRegistry {
  const users = new Map<string, Map<string, DevicePresence>>();
  let devicesCount = 0;

  /** The device's entry where the connection still owns it. */
  const owned = (key: { userId: string; deviceId: string; connectionId: string }) => {
    const entry = users.get(key.userId)?.get(key.deviceId);
    return entry?.connectionId === key.connectionId ? entry : undefined;
  };

  return {
    async add(entry, devicesMax) {
      const devices = users.get(entry.userId) ?? new Map<string, DevicePresence>();
      const replaced = devices.get(entry.deviceId) ?? null;
      if (replaced === null && devices.size >= devicesMax) return { added: false, first: false, replaced: null };
      const first = devices.size === 0;
      devices.set(entry.deviceId, { ...entry });
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
      if (devices === undefined || owned(key) === undefined) return { removed: false, last: false };
      devices.delete(key.deviceId);
      devicesCount--;
      const last = devices.size === 0;
      if (last) users.delete(key.userId);
      return { removed: true, last };
    },

    async devicesOf(userIds) {
      const found = new Map<string, DevicePresence[]>();
      for (const userId of userIds) {
        const devices = users.get(userId);
        if (devices !== undefined) {
          found.set(
            userId,
            Array.from(devices.values(), (entry) => ({ ...entry })),
          );
        }
      }
      return found;
    },

    // The only node is this one, and it is alive.
    sweep: async () => [],
    stats: async () => ({ users: users.size, devices: devicesCount }),
  };
}
