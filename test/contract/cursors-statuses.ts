/** What every store of device cursors [LOG6] and of statuses [PRE2] must do, whatever it is stored in. */
import { describe, expect, test } from "bun:test";
import type { UserStatus } from "../../src/storage/ports.ts";
import { type Open, withStorage } from "./opened.ts";

const busy: UserStatus = { status: "busy", text: "in a meeting 🗓", emoji: ":calendar:", expiresAt: null };

export function describeCursorsStatusesContract(name: string, open: Open): void {
  describe(`cursors contract: ${name}`, () => describeCursors(open));
  describe(`statuses contract: ${name}`, () => describeStatuses(open));
}

function describeCursors(open: Open): void {
  test(
    "[LOG6] an acknowledgement is cumulative and never goes back",
    withStorage(open, async ({ cursors }) => {
      expect(await cursors.acknowledged("ann", "phone")).toBeNull();
      expect(await cursors.acknowledge("ann", "phone", 7)).toBe(7);
      expect(await cursors.acknowledge("ann", "phone", 3)).toBe(7);
      expect(await cursors.acknowledge("ann", "phone", 9)).toBe(9);
      expect(await cursors.acknowledged("ann", "phone")).toBe(9);
    }),
  );

  test(
    "[LOG6] acknowledgements are kept per user and device and survive a stop and a start",
    withStorage(open, async (storage) => {
      const { cursors } = storage;
      await Promise.all([
        cursors.acknowledge("ann", "phone", 1),
        cursors.acknowledge("ann", "laptop", 2),
        cursors.acknowledge("bob", "phone", 0),
      ]);
      await storage.stop();
      await storage.start();
      expect(await cursors.acknowledged("ann", "phone")).toBe(1);
      expect(await cursors.acknowledged("ann", "laptop")).toBe(2);
      expect(await cursors.acknowledged("bob", "phone")).toBe(0);
      expect(await cursors.acknowledged("bob", "laptop")).toBeNull();
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
    "[PRE2] each expiry is returned once with what it said, however many ask at once",
    withStorage(open, async ({ statuses }) => {
      const expiring = Array.from({ length: 30 }, (_, index) => `user-${index}`);
      const status = (expiresAt: number | null): UserStatus => ({ ...busy, expiresAt });
      await Promise.all(expiring.map((userId, index) => statuses.set(userId, status(100 + index))));
      await statuses.set("later", status(500));
      await statuses.set("never", status(null));
      expect(await statuses.takeExpired(99, 100)).toEqual([]);
      const taken = await Promise.all(Array.from({ length: 8 }, () => statuses.takeExpired(200, 5)));
      expect(taken.every((part) => part.length <= 5)).toBe(true);
      const byUser = taken.flat().toSorted((a, b) => a.status.expiresAt! - b.status.expiresAt!);
      expect(byUser).toEqual(expiring.map((userId, index) => ({ userId, status: status(100 + index) })));
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
      expect(await statuses.takeExpired(200, 10)).toEqual([]);
      expect(await statuses.takeExpired(300, 10)).toEqual([{ userId: "ann", status: { ...busy, expiresAt: 300 } }]);
    }),
  );
}
