/** What every presence registry must do, whichever way it keeps its devices [PRE1]. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { DevicePresence, PresenceRegistry } from "../../src/cluster/ports.ts";

export interface OpenedPresenceRegistry {
  /** The same registry as two nodes see it; a node that is alone gives itself twice. */
  nodes: { one: PresenceRegistry; other: PresenceRegistry };
  close(): Promise<void>;
}

export function describePresenceRegistryContract(name: string, open: () => Promise<OpenedPresenceRegistry>): void {
  describe(`presence registry: ${name}`, () => {
    let opened: OpenedPresenceRegistry;
    let one: PresenceRegistry;
    let other: PresenceRegistry;
    beforeEach(async () => {
      opened = await open();
      one = opened.nodes.one;
      other = opened.nodes.other;
    });
    afterEach(() => opened.close());

    const entry = (userId: string, deviceId: string, connectionId = `c-${userId}-${deviceId}`): DevicePresence => ({
      userId,
      deviceId,
      connectionId,
      nodeId: "n1",
      status: "online",
      connectedAt: 1_767_323_045_000,
    });
    const idsOf = async (userId: string) =>
      ((await other.devicesOf([userId])).get(userId) ?? []).map((device) => device.deviceId).sort();

    test("[PRE1] the first device is told apart from the next, on any node", async () => {
      expect(await one.add(entry("u1", "a"), 10)).toEqual({ added: true, first: true, replaced: null });
      expect(await other.add(entry("u1", "b"), 10)).toEqual({ added: true, first: false, replaced: null });
      expect(await one.add(entry("u2", "a"), 10)).toEqual({ added: true, first: true, replaced: null });
      expect(await idsOf("u1")).toEqual(["a", "b"]);
    });

    test("[PRE1] the last device is told apart from those before, on any node", async () => {
      await one.add(entry("u1", "a"), 10);
      await one.add(entry("u1", "b"), 10);
      expect(await other.remove(entry("u1", "a"))).toEqual({ removed: true, last: false });
      expect(await one.remove(entry("u1", "b"))).toEqual({ removed: true, last: true });
      expect(await one.remove(entry("u1", "b"))).toEqual({ removed: false, last: false });
      expect(await idsOf("u1")).toEqual([]);
      expect(await one.add(entry("u1", "a"), 10)).toMatchObject({ added: true, first: true });
    });

    test("[PRE1] of devices that come at once one is first, and of devices that go at once one is last", async () => {
      const devices = ["a", "b", "c", "d", "e", "f"].map((deviceId) => entry("u1", deviceId));
      const added = await Promise.all(devices.map((device, at) => (at % 2 ? one : other).add(device, 10)));
      expect(added.filter(({ first }) => first)).toHaveLength(1);
      const removed = await Promise.all(devices.map((device, at) => (at % 2 ? other : one).remove(device)));
      expect(removed.filter(({ last }) => last)).toHaveLength(1);
    });

    test("[CON3] the newest connection of a device owns its entry, and the older one is named", async () => {
      const old = entry("u1", "a", "old");
      await one.add(old, 10);
      expect(await other.add(entry("u1", "a", "new"), 10)).toEqual({ added: true, first: false, replaced: old });
      expect(await one.update({ ...old, status: "busy" })).toBe(false);
      expect(await one.remove(old)).toEqual({ removed: false, last: false });
      expect(await other.remove(entry("u1", "a", "new"))).toEqual({ removed: true, last: true });
    });

    test("[PRE2] a device's status is seen by every node, and all of its entry is kept", async () => {
      await one.add(entry("u1", "a"), 10);
      expect(await one.update({ ...entry("u1", "a"), status: "away" })).toBe(true);
      expect(await one.update({ ...entry("u1", "b"), status: "away" })).toBe(false);
      expect(await other.devicesOf(["u1"])).toEqual(new Map([["u1", [{ ...entry("u1", "a"), status: "away" }]]]));
    });

    test("[LIM] one device too many is refused, over all nodes, but not one that comes back", async () => {
      await one.add(entry("u1", "a"), 2);
      await other.add(entry("u1", "b"), 2);
      expect(await one.add(entry("u1", "c"), 2)).toEqual({ added: false, first: false, replaced: null });
      expect(await idsOf("u1")).toEqual(["a", "b"]);
      expect(await one.add(entry("u1", "b", "again"), 2)).toMatchObject({ added: true, first: false });
      await one.remove(entry("u1", "a"));
      expect(await other.add(entry("u1", "c"), 2)).toMatchObject({ added: true });
    });

    test("[LIM] of devices that come at once no more than the limit get in", async () => {
      const devices = Array.from({ length: 8 }, (_, at) => entry("u1", `d${at}`));
      const added = await Promise.all(devices.map((device, at) => (at % 2 ? one : other).add(device, 3)));
      expect(added.filter((answer) => answer.added)).toHaveLength(3);
      expect(await idsOf("u1")).toHaveLength(3);
    });

    test("[PRE4] many users are looked up at once; who has no device is left out", async () => {
      await one.add(entry("u1", "a"), 10);
      await one.add(entry("u2", "a"), 10);
      expect([...(await other.devicesOf(["u1", "u2", "u3"])).keys()].sort()).toEqual(["u1", "u2"]);
      expect(await other.devicesOf([])).toEqual(new Map());
    });

    test("[PRE1] the devices of nodes that live are left alone by a sweep", async () => {
      await one.add(entry("u1", "a"), 10);
      expect(await one.sweep()).toEqual([]);
      expect(await idsOf("u1")).toEqual(["a"]);
    });

    test("[ADM1] users and devices are counted", async () => {
      await one.add(entry("u1", "a"), 10);
      await other.add(entry("u1", "b"), 10);
      await one.add(entry("u1", "b", "again"), 10);
      await one.add(entry("u2", "a"), 10);
      expect(await one.stats()).toEqual({ users: 2, devices: 3 });
      await one.remove(entry("u2", "a"));
      expect(await one.stats()).toEqual({ users: 1, devices: 2 });
    });

    test("[SUB5] nothing is left of devices that have gone", async () => {
      for (let round = 0; round < 100; round++) {
        await one.add(entry(`u${round % 7}`, "a", `c${round}`), 10);
        await one.remove(entry(`u${round % 7}`, "a", `c${round}`));
      }
      expect(await one.stats()).toEqual({ users: 0, devices: 0 });
    });
  });
}
