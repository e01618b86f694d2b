/** Proves what every store of device cursors [LOG6] and of statuses [PRE2] must do, whatever it is stored in. */
import { describe, expect, test } from "bun:test";
import type { Storage, UserStatus } from "../../src/storage/ports.ts";
import { acknowledgeOne } from "../support/acknowledgements.ts";
import { type Open, withStorage } from "./opened.ts";

const busy: UserStatus = { status: "busy", text: "in a meeting 🗓", emoji: ":calendar:", expiresAt: null };

export function describeCursorsStatusesContract(name: string, open: Open): void {
  describe(`cursors contract: ${name}`, () => {
    describeCursors(open);
    describeTogether(open);
    describeForgetting(open);
  });
  describe(`statuses contract: ${name}`, () => describeStatuses(open));
}

function describeCursors(open: Open): void {
  test(
    "[LOG6] an acknowledgement is cumulative and never goes back",
    withStorage(open, async ({ cursors, log: { epochs } }) => {
      const acknowledge = (position: number) => acknowledgeOne(cursors, "ann", "phone", epochs.cursorOf(position));
      expect(await cursors.acknowledged("ann", "phone")).toBeNull();
      expect(await acknowledge(7)).toBe(epochs.cursorOf(7));
      expect(await acknowledge(3)).toBe(epochs.cursorOf(7));
      expect(await acknowledge(9)).toBe(epochs.cursorOf(9));
      expect(await acknowledge(Number.MAX_SAFE_INTEGER)).toBe(epochs.cursorOf(Number.MAX_SAFE_INTEGER));
      expect(await cursors.acknowledged("ann", "phone")).toBe(epochs.cursorOf(Number.MAX_SAFE_INTEGER));
    }),
  );

  test(
    "[LOG6] acknowledgements are kept per user and device and survive a stop and a start",
    withStorage(open, async (storage) => {
      const { cursors, log } = storage;
      const [zero, one, two] = [0, 1, 2].map((position) => log.epochs.cursorOf(position));
      await Promise.all([
        acknowledgeOne(cursors, "ann", "phone", one!),
        acknowledgeOne(cursors, "ann", "laptop", two!),
        acknowledgeOne(cursors, "bob", "phone", zero!),
      ]);
      await storage.stop();
      await storage.start();
      expect(await cursors.acknowledged("ann", "phone")).toBe(one!);
      expect(await cursors.acknowledged("ann", "laptop")).toBe(two!);
      expect(await cursors.acknowledged("bob", "phone")).toBe(zero!);
      expect(await cursors.acknowledged("bob", "laptop")).toBeNull();
    }),
  );
}

function describeTogether(open: Open): void {
  test(
    "[LOG6] of many users at once each goes on from its own, and each answer is its own",
    withStorage(open, async ({ cursors, log: { epochs } }) => {
      const users = Array.from({ length: 60 }, (_, index) => `user${index}`);
      const at = (place: (index: number) => number) =>
        users.map((userId, index) => ({ userId, deviceId: "phone", cursor: epochs.cursorOf(place(index)) }));
      const first = at((index) => index);
      expect(await cursors.acknowledge(first)).toEqual(first.map(({ cursor }) => cursor));
      const farther = (index: number) => Math.max(index, 30);
      expect(await cursors.acknowledge(at(() => 30).toReversed())).toEqual(
        at(farther)
          .toReversed()
          .map(({ cursor }) => cursor),
      );
      const kept = await Promise.all(users.map((userId) => cursors.acknowledged(userId, "phone")));
      expect(kept).toEqual(at(farther).map(({ cursor }) => cursor));
    }),
  );
}

function describeForgetting(open: Open): void {
  let now = 1_000;
  const withClock = (body: (storage: Storage) => Promise<void>) => async () => {
    now = 1_000;
    const { storage, close } = await open({ now: () => now });
    await body(storage).finally(close);
  };

  test(
    "[LOG6] devices that were last here before a moment are forgotten, a batch at a time, and those that came again are not",
    withClock(async ({ cursors, log: { epochs } }) => {
      const five = epochs.cursorOf(5);
      for (const deviceId of ["d1", "d2", "d3", "d4"]) await acknowledgeOne(cursors, "ann", deviceId, five);
      now = 2_000;
      await acknowledgeOne(cursors, "ann", "d1", epochs.cursorOf(1));
      // The second one was noted long enough ago, a stranger leaves nothing behind.
      const ann = (deviceId: string) => ({ userId: "ann", deviceId });
      await cursors.seen([ann("d2"), ann("d2"), ann("stranger"), { userId: "bob", deviceId: "d3" }], 500);
      await cursors.seen([ann("d3")], 1_500);
      expect(await cursors.forget(1_000, 10)).toBe(0);
      expect(await cursors.forget(2_000, 1)).toBe(1);
      expect(await cursors.forget(2_000, 10)).toBe(1);
      const left = await Promise.all(["d1", "d2", "d3", "d4"].map((it) => cursors.acknowledged("ann", it)));
      expect(left).toEqual([five, five, null, null]);
      expect(await cursors.acknowledged("ann", "stranger")).toBeNull();
    }),
  );

  test(
    "[LOG6] of a user's devices the newest 50 are remembered, of whoever has fewer all",
    withClock(async ({ cursors, log: { epochs } }) => {
      const first = epochs.cursorOf(1);
      await acknowledgeOne(cursors, "bob", "phone", first);
      for (; now < 1_060; now++) await acknowledgeOne(cursors, "ann", `d${now}`, epochs.cursorOf(now));
      const known = async (device: number) => (await cursors.acknowledged("ann", `d${device}`)) !== null;
      const remembered = await Promise.all(Array.from({ length: 60 }, (_, index) => known(1_000 + index)));
      expect(remembered).toEqual([...Array(10).fill(false), ...Array(50).fill(true)]);
      // The oldest of them acknowledges again, and the next one goes in its place.
      await acknowledgeOne(cursors, "ann", "d1010", first);
      await acknowledgeOne(cursors, "ann", "new", first);
      expect([await known(1_010), await known(1_011), await cursors.acknowledged("bob", "phone")]).toEqual([
        true,
        false,
        first,
      ]);
    }),
  );
}

function describeStatuses(open: Open): void {
  test(
    "[PRE2] a status is set, replaced and cleared; when one was last seen stays",
    withStorage(open, async ({ statuses }) => {
      const ofAnn = async () => {
        const entry = (await statuses.get(["ann", "bob"])).get("ann");
        return { status: entry?.status ?? null, lastSeenAt: entry?.lastSeenAt ?? null };
      };
      expect(await ofAnn()).toEqual({ status: null, lastSeenAt: null });
      await statuses.set("ann", busy);
      expect(await ofAnn()).toEqual({ status: busy, lastSeenAt: null });
      await statuses.setLastSeen(["ann", "bob"], 1_760_000_000_000);
      const away: UserStatus = { status: "away", text: null, emoji: null, expiresAt: 1_760_000_000_500 };
      await statuses.set("ann", away);
      expect(await ofAnn()).toEqual({ status: away, lastSeenAt: 1_760_000_000_000 });
      await statuses.set("ann", null);
      expect(await ofAnn()).toEqual({ status: null, lastSeenAt: 1_760_000_000_000 });
      expect((await statuses.get(["bob"])).get("bob")).toEqual({ status: null, lastSeenAt: 1_760_000_000_000 });
    }),
  );

  test(
    "[PRE2] each status that has expired is cleared once, however many ask at once",
    withStorage(open, async ({ statuses }) => {
      const expiring = Array.from({ length: 30 }, (_, index) => `user-${index}`);
      const status = (expiresAt: number | null): UserStatus => ({ ...busy, expiresAt });
      await Promise.all(expiring.map((userId, index) => statuses.set(userId, status(100 + index))));
      await statuses.set("later", status(500));
      await statuses.set("never", status(null));
      expect(await statuses.clearExpired(99, 100)).toBe(0);
      const cleared = await Promise.all(Array.from({ length: 8 }, () => statuses.clearExpired(200, 5)));
      expect(cleared.every((count) => count <= 5)).toBe(true);
      expect(cleared.reduce((all, count) => all + count, 0)).toBe(expiring.length);
      const left = await statuses.get([...expiring, "later", "never"]);
      for (const userId of expiring) expect(left.get(userId)?.status ?? null).toBeNull();
      expect(left.get("later")!.status).toEqual(status(500));
      expect(left.get("never")!.status).toEqual(status(null));
    }),
  );

  test(
    "[PRE2] a status that was renewed does not expire at its old moment",
    withStorage(open, async ({ statuses }) => {
      await statuses.set("ann", { ...busy, expiresAt: 100 });
      await statuses.set("ann", { ...busy, expiresAt: 300 });
      expect(await statuses.clearExpired(200, 10)).toBe(0);
      expect((await statuses.get(["ann"])).get("ann")!.status).toEqual({ ...busy, expiresAt: 300 });
      expect(await statuses.clearExpired(300, 10)).toBe(1);
    }),
  );

  test(
    "[PRE1] who was here when the only node stopped is given back once, as it was kept last",
    withStorage(open, async ({ statuses }) => {
      await statuses.set("ann", busy);
      const kept = ["ann", "bob", "cleo"].map((userId) => ({ userId, record: JSON.stringify({ of: userId }) }));
      await statuses.keepPresent([{ userId: "ann", record: "older" }]);
      await statuses.keepPresent(kept);
      const parts = [await statuses.takePresent(2), await statuses.takePresent(2), await statuses.takePresent(2)];
      expect(parts.map(({ length }) => length)).toEqual([2, 1, 0]);
      expect(parts.flat().toSorted((one, other) => (one.userId < other.userId ? -1 : 1))).toEqual(kept);
      expect((await statuses.get(["ann"])).get("ann")).toEqual({ status: busy, lastSeenAt: null });
    }),
  );
}
