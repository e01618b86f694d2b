/** Proves what every directory must do, whatever it is stored in [PUB3]. */
import { describe, expect, test } from "bun:test";
import type { DirectoryChange } from "../../src/storage/directory-store.ts";
import { isMemberChange, isUserChange, recordChanges } from "../support/change-recorder.ts";
import { type Open, withStorage } from "./opened.ts";

export function describeDirectoryContract(name: string, open: Open): void {
  describe(`directory contract: ${name}`, () => {
    describeUsers(open);
    describeBlocks(open);
    describeMembers(open);
    describeWatch(open);
  });
}

function describeUsers(open: Open): void {
  test(
    "[PUB3] a user is unknown, active or disabled",
    withStorage(open, async ({ directory }) => {
      expect(await directory.userState("ann")).toBe("unknown");
      await directory.upsertUsers(["ann", "bob"]);
      expect(await directory.userState("ann")).toBe("active");
      await directory.setDisabled("ann", true);
      expect(await directory.userState("ann")).toBe("disabled");
      expect(await directory.userState("bob")).toBe("active");
      await directory.setDisabled("ann", false);
      expect(await directory.userState("ann")).toBe("active");
    }),
  );

  test(
    "[PUB3] upserting a user that is disabled does not let it in again",
    withStorage(open, async ({ directory }) => {
      await directory.upsertUsers(["ann"]);
      await directory.setDisabled("ann", true);
      await directory.upsertUsers(["ann", "ann"]);
      expect(await directory.userState("ann")).toBe("disabled");
    }),
  );
}

function describeBlocks(open: Open): void {
  test("[ADM1] a block holds until it ends, known user or not, can be changed and lifted, and survives a stop", async () => {
    let time = 1_000;
    const { storage, close } = await open({ now: () => time });
    const states = async () => [await storage.directory.userState("ann"), await storage.directory.userState("bob")];
    const standings = () => Promise.all(["ann", "bob", "eve"].map((userId) => storage.directory.standingOf(userId)));
    try {
      await storage.directory.upsertUsers(["ann"]);
      for (const userId of ["ann", "bob"]) await storage.directory.block(userId, 2_000.5);
      expect(await states()).toEqual(["disabled", "disabled"]);
      expect(await standings()).toEqual([
        { state: "active", blockedUntil: 2_001 },
        { state: "unknown", blockedUntil: 2_001 },
        { state: "unknown", blockedUntil: null },
      ]);
      await storage.stop();
      await storage.start();
      expect(await states()).toEqual(["disabled", "disabled"]);
      await storage.directory.block("ann", 3_000);
      time = 2_001;
      expect(await states()).toEqual(["disabled", "unknown"]);
      await storage.directory.block("ann", time);
      expect(await states()).toEqual(["active", "unknown"]);
      await storage.directory.setDisabled("ann", true);
      await storage.directory.block("bob", 4_000);
      await storage.directory.block("bob", 0);
      expect(await standings()).toEqual([
        { state: "disabled", blockedUntil: null },
        ...Array(2).fill({ state: "unknown", blockedUntil: null }),
      ]);
    } finally {
      await close();
    }
  });

  test(
    "[ADM1] every node is told to look at a user once more",
    withStorage(open, async ({ directory }) => {
      const recorder = recordChanges(directory);
      await directory.recheck("ann");
      await recorder.told(isUserChange("ann"));
    }),
  );
}

function describeMembers(open: Open): void {
  test(
    "[REC3] members of many conversations are counted at once, up to a number",
    withStorage(open, async ({ directory }) => {
      await directory.addMembers("c1", ["ann", "bob", "eve"]);
      await directory.addMembers("c2", ["ann"]);
      const ids = ["c1", "c2", "none", ...Array.from({ length: 600 }, (_, index) => `none-${index}`)];
      const counts = async (most: number) => {
        const found = await directory.memberCounts(ids, most);
        return ["c1", "c2", "none", "none-599"].map((id) => found.get(id) ?? 0);
      };
      expect(await counts(10)).toEqual([3, 1, 0, 0]);
      expect(await counts(2)).toEqual([2, 1, 0, 0]);
    }),
  );

  test(
    "[PUB3] members are added and removed, both idempotently, and survive a stop and a start",
    withStorage(open, async (storage) => {
      const { directory } = storage;
      expect(await directory.membersOf("c1")).toEqual([]);
      await directory.addMembers("c1", ["ann", "bob", "ann"]);
      await directory.addMembers("c1", ["bob", "eve"]);
      await directory.addMembers("c2", ["ann"]);
      await storage.stop();
      await storage.start();
      expect((await directory.membersOf("c1")).toSorted()).toEqual(["ann", "bob", "eve"]);
      expect((await directory.conversationsOf("ann")).toSorted()).toEqual(["c1", "c2"]);
      expect(new Set((await directory.membershipsAmong("bob", ["c1", "c2", "none", "c1"])).keys())).toEqual(
        new Set(["c1"]),
      );
      expect(new Set((await directory.membershipsAmong("ann", ["c2"])).keys())).toEqual(new Set(["c2"]));
      expect(new Set((await directory.membershipsAmong("ann", [])).keys())).toEqual(new Set());
      expect(new Set((await directory.membersAmong("c1", ["eve", "bob", "nobody"])).keys())).toEqual(
        new Set(["bob", "eve"]),
      );
      expect(new Set((await directory.membersAmong("c2", ["eve", "bob"])).keys())).toEqual(new Set());
      expect(await directory.membersOf("c1", 2)).toHaveLength(2);
      await directory.removeMembers("c1", ["bob", "nobody"]);
      await directory.removeMembers("c1", ["bob"]);
      expect(new Set((await directory.membershipsAmong("bob", ["c1"])).keys())).toEqual(new Set());
      expect((await directory.membersOf("c1")).toSorted()).toEqual(["ann", "eve"]);
    }),
  );

  test(
    "[MSG5] a member may write until it is kept from that, which others are not and a removal forgets",
    withStorage(open, async (storage) => {
      const { directory } = storage;
      const mayWrite = async () => [
        (await directory.membershipsAmong("ann", ["c1", "c2"])).get("c1")?.mayWrite,
        (await directory.membersAmong("c1", ["ann", "bob"])).get("ann")?.mayWrite,
        (await directory.membersAmong("c1", ["ann", "bob"])).get("bob")?.mayWrite,
      ];
      const ann = { conversationId: "c1", userId: "ann" };
      expect(await directory.setMayWrite(ann, false)).toBe(false);
      await directory.addMembers("c1", ["ann", "bob"]);
      await directory.addMemberships("ann", ["c2"]);
      expect(await mayWrite()).toEqual([true, true, true]);
      for (let times = 0; times < 2; times++) expect(await directory.setMayWrite(ann, false)).toBe(true);
      await storage.stop();
      await storage.start();
      expect(await mayWrite()).toEqual([false, false, true]);
      expect((await directory.membershipsAmong("ann", ["c2"])).get("c2")).toEqual({ mayWrite: true });
      expect(await directory.setMayWrite(ann, true)).toBe(true);
      expect(await mayWrite()).toEqual([true, true, true]);
      await directory.setMayWrite(ann, false);
      await directory.addMembers("c1", ["ann"]);
      expect(await mayWrite()).toEqual([false, false, true]);
      await directory.removeMembers("c1", ["ann"]);
      expect(await directory.setMayWrite(ann, true)).toBe(false);
      await directory.addMembers("c1", ["ann"]);
      expect(await mayWrite()).toEqual([true, true, true]);
    }),
  );

  test(
    "[MEM1] members are read page by page, each once, whoever comes and goes meanwhile",
    withStorage(open, async ({ directory }) => {
      const users = Array.from({ length: 25 }, (_, index) => `u${index}`);
      await directory.addMembers("c1", users);
      await directory.addMembers("c2", ["eve"]);
      await directory.setMayWrite({ conversationId: "c1", userId: "u7" }, false);
      const seen: string[] = [];
      let after: string | undefined;
      do {
        const page = await directory.membersPage({ conversationId: "c1", after, limit: 10 });
        seen.push(...page.map(({ userId }) => userId));
        expect(page.filter(({ mayWrite }) => !mayWrite).map(({ userId }) => userId)).toEqual(
          page.some(({ userId }) => userId === "u7") ? ["u7"] : [],
        );
        after = page.at(-1)?.userId;
        // One who was read already.
        if (after !== undefined) await directory.removeMembers("c1", [after]);
      } while (after !== undefined);
      expect(seen).toHaveLength(25);
      expect(new Set(seen)).toEqual(new Set(users));
      expect(await directory.membersPage({ conversationId: "none", limit: 10 })).toEqual([]);
      expect(await directory.membersPage({ conversationId: "c2", after: "zzz", limit: 10 })).toEqual([]);
      expect(await directory.membersPage({ conversationId: "c2", limit: 1 })).toEqual([
        { userId: "eve", mayWrite: true },
      ]);
    }),
  );

  test(
    "[PUB3] many conversations are joined and read by one question each",
    withStorage(open, async ({ directory }) => {
      await directory.addMembers("c1", ["ann", "bob", "eve"]);
      await directory.addMemberships("ann", ["c1", "c2", "c3", "c2"]);
      expect((await directory.conversationsOf("ann")).toSorted()).toEqual(["c1", "c2", "c3"]);
      const members = await directory.membersOfEach(["c1", "c2", "none"], 10);
      expect([...members.keys()].toSorted()).toEqual(["c1", "c2"]);
      expect(members.get("c1")!.toSorted()).toEqual(["ann", "bob", "eve"]);
      expect(members.get("c2")).toEqual(["ann"]);
      const few = await directory.membersOfEach(["c1", "c3"], 2);
      expect(few.get("c1")).toHaveLength(2);
      expect(few.get("c3")).toEqual(["ann"]);
    }),
  );

  test(
    "[PUB3] who has left is in no conversation",
    withStorage(open, async ({ directory }) => {
      await directory.addMembers("c1", ["ann"]);
      await directory.removeMembers("c1", ["ann"]);
      expect(await directory.conversationsOf("ann")).toEqual([]);
    }),
  );

  test(
    "[PRE5] peers are those who share a conversation, each once, without the user",
    withStorage(open, async ({ directory }) => {
      await directory.addMembers("c1", ["ann", "bob", "eve"]);
      await directory.addMembers("c2", ["ann", "bob"]);
      await directory.addMembers("c3", ["bob", "joe"]);
      expect((await directory.peersOf("ann", 10)).toSorted()).toEqual(["bob", "eve"]);
      expect((await directory.peersOf("bob", 10)).toSorted()).toEqual(["ann", "eve", "joe"]);
      expect(await directory.peersOf("bob", 2)).toHaveLength(2);
      expect(await directory.peersOf("nobody", 10)).toEqual([]);
      // However many they are, and however small the steps in which they are found.
      const crowd = Array.from({ length: 5_000 }, (_, index) => `crowd-${index}`);
      await directory.addMembers("large", [...crowd, "mia"]);
      await directory.addMembers("larger", [...crowd.slice(1_000), "mia", "zoe"]);
      expect(new Set(await directory.peersOf("mia", 10_000))).toEqual(new Set([...crowd, "zoe"]));
      expect(new Set(await directory.peersOf("mia", 4_500)).size).toBe(4_500);
      const asked = ["bob", "eve", "joe", "ann", "nobody"];
      expect(await directory.sharingWith("ann", asked)).toEqual(new Set(["bob", "eve", "ann"]));
      expect(await directory.sharingWith("nobody", ["nobody", "ann"])).toEqual(new Set(["nobody"]));
      expect(await directory.sharingWith("ann", [])).toEqual(new Set());
      // Also where the one who is asked about is in more conversations than who asks, or in as many.
      await directory.addMemberships("joe", ["c4", "c5", "c6", "c7"]);
      await directory.addMembers("c8", ["eve", "max"]);
      expect(await directory.sharingWith("eve", ["joe", "max", "bob"])).toEqual(new Set(["max", "bob"]));
      expect(await directory.sharingWith("max", ["eve", "joe"])).toEqual(new Set(["eve"]));
    }),
  );
}

function describeWatch(open: Open): void {
  test(
    "[SUB3] [AUTH4] changes are told to every watcher, in order, and no-ops are not",
    withStorage(open, async ({ directory }) => {
      const recorders = [recordChanges(directory), recordChanges(directory)];
      await directory.upsertUsers(["ann"]);
      await directory.addMembers("c1", ["ann", "bob"]);
      await directory.addMembers("c1", ["ann"]);
      await directory.upsertUsers(["ann"]);
      await directory.setDisabled("ann", true);
      await directory.removeMembers("c1", ["nobody"]);
      for (let times = 0; times < 2; times++)
        await directory.setMayWrite({ conversationId: "c1", userId: "bob" }, false);
      await directory.removeMembers("c1", ["bob"]);
      for (const { told, changes, stop } of recorders) {
        await told(isMemberChange("member_removed", "c1", "bob"));
        stop();
        expect(changes.filter(({ kind }) => kind !== "resync")).toEqual([
          { kind: "user_changed", userId: "ann" },
          { kind: "member_added", conversationId: "c1", userId: "ann" },
          { kind: "member_added", conversationId: "c1", userId: "bob" },
          { kind: "user_changed", userId: "ann" },
          { kind: "member_updated", conversationId: "c1", userId: "bob" },
          { kind: "member_removed", conversationId: "c1", userId: "bob" },
        ]);
      }
    }),
  );

  test(
    "[MEM1] a change of membership is told with when it was",
    withStorage(open, async ({ directory }) => {
      const changes: DirectoryChange[] = [];
      const stop = directory.watch((change) => void changes.push(change));
      const began = Date.now();
      await directory.addMembers("c1", ["ann"]);
      await directory.setMayWrite({ conversationId: "c1", userId: "ann" }, false);
      await directory.removeMembers("c1", ["ann"]);
      const ended = Date.now();
      stop();
      expect(changes.map(({ kind }) => kind)).toEqual(["member_added", "member_updated", "member_removed"]);
      for (const { at } of changes as { at?: number }[]) {
        expect(at).toBeGreaterThanOrEqual(began - 1);
        expect(at).toBeLessThanOrEqual(ended + 1);
      }
    }),
  );

  test(
    "[SUB3] who has stopped watching is not told any more, and who begins is not told what was",
    withStorage(open, async ({ directory }) => {
      const gone = recordChanges(directory);
      await directory.upsertUsers(["first"]);
      await gone.told(isUserChange("first"));
      gone.stop();
      gone.stop();
      await directory.upsertUsers(["second"]);
      const late = recordChanges(directory);
      await directory.upsertUsers(["third"]);
      await late.told(isUserChange("third"));
      late.stop();
      expect(gone.changes.some(isUserChange("second"))).toBe(false);
      expect(gone.changes.some(isUserChange("third"))).toBe(false);
      expect(late.changes.some(isUserChange("first"))).toBe(false);
    }),
  );
}
