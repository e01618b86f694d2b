/** The directory as the rest of the service asks it, on a real store. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createDirectoryView, type DirectoryView, type DirectoryViewOptions } from "../../src/directory/directory.ts";
import type { Directory, DirectoryChange } from "../../src/storage/directory-store.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";

let storage: Storage;
let time: number;
/** Questions about membership that reached the store. */
let asked: number;
/** Awaited by the store's answers about membership. */
let gate: () => Promise<void>;
let views: DirectoryView[];

beforeEach(async () => {
  storage = createSqliteStorage({ path: ":memory:" });
  await storage.start();
  time = 1_000_000;
  asked = 0;
  gate = async () => {};
  views = [];
});
afterEach(async () => {
  for (const view of views) view.stop();
  await storage.stop();
});

function open(options: Partial<DirectoryViewOptions> = {}): DirectoryView {
  const watched: Directory = {
    ...storage.directory,
    async membershipsAmong(userId, conversationIds) {
      asked++;
      const members = await storage.directory.membershipsAmong(userId, conversationIds);
      await gate();
      return members;
    },
  };
  const view = createDirectoryView({
    directory: watched,
    mode: "managed",
    cacheTtlMs: 30_000,
    cacheSize: 100,
    receiptsMembersMax: 3,
    now: () => time,
    ...options,
  });
  views.push(view);
  return view;
}

/** Makes a change and resolves once the view has told of it. */
async function change(view: DirectoryView, make: () => Promise<void>): Promise<DirectoryChange> {
  const { promise, resolve } = Promise.withResolvers<DirectoryChange>();
  const stop = view.onChange(resolve);
  await make();
  const told = await promise;
  stop();
  return told;
}

describe("open mode", () => {
  test("[CON1] unknown users come into being, disabled ones do not come in", async () => {
    const view = open({ mode: "open" });
    expect(await view.admit("ann")).toBe("active");
    expect(await storage.directory.userState("ann")).toBe("active");
    await storage.directory.setDisabled("ann", true);
    expect(await view.admit("ann")).toBe("disabled");
  });

  test("[SUB1] [PUB3] many conversations are joined by few statements, each once", async () => {
    const statements: number[] = [];
    const directory: Directory = {
      ...storage.directory,
      addMembers: () => Promise.reject(new Error("one by one")),
      addMemberships(userId, conversationIds) {
        statements.push(conversationIds.length);
        return storage.directory.addMemberships(userId, conversationIds);
      },
    };
    const view = open({ mode: "open", directory });
    const conversations = Array.from({ length: 1_000 }, (_, index) => `c${index}`);
    await storage.directory.addMembers("c7", ["ann"]);
    expect((await view.ensureMemberships("ann", conversations)).size).toBe(1_000);
    expect((await storage.directory.conversationsOf("ann")).length).toBe(1_000);
    expect(statements.reduce((sum, count) => sum + count)).toBe(999);
    expect(statements.length).toBe(5);
    await view.ensureMemberships("ann", conversations);
    expect(statements.length).toBe(5);
  });

  test("[PUB3] a conversation is created and joined on first use", async () => {
    const view = open({ mode: "open" });
    await Promise.all([view.admit("ann"), view.admit("bob")]);
    expect(await view.isMember("c1", "ann")).toBe(false);
    expect(await view.ensureMember("c1", "ann")).toEqual({ mayWrite: true });
    expect(await view.isMember("c1", "ann")).toBe(true);
    expect(await view.ensureMember("c1", "bob")).toEqual({ mayWrite: true });
    expect((await view.membersOf("c1")).sort()).toEqual(["ann", "bob"]);
    expect(await view.conversationsOf("bob")).toEqual(["c1"]);
    expect(await view.peersOf("ann", 10)).toEqual(["bob"]);
    expect(await view.sharingWith("ann", ["ann", "bob", "eve"])).toEqual(new Set(["ann", "bob"]));
  });

  test("[PUB3] nothing comes into being under a pattern, or under what a program prints for nothing", async () => {
    const view = open({ mode: "open" });
    await view.admit("ann");
    for (const slip of ["*", "**", "#", ">", "undefined", "null", "NaN", "[object Object]", "\u0024{id}"]) {
      expect([slip, await view.ensureMember(slip, "ann")]).toEqual([slip, undefined]);
      expect([slip, await view.admit(slip)]).toEqual([slip, "unknown"]);
    }
    const odd = ["a*b", "!room:matrix.org", "{x}", "we:ird/id?", "%41", "nullable", "o'neil"];
    expect([...(await view.ensureMemberships("ann", ["*", ...odd])).keys()].sort()).toEqual(odd.toSorted());
    expect((await view.conversationsOf("ann")).sort()).toEqual(odd.sort());
    // A conversation that an application has made under such a name is served all the same.
    await storage.directory.addMembers("null", ["ann"]);
    expect(await open({ mode: "managed" }).ensureMember("null", "ann")).toEqual({ mayWrite: true });
  });
});

describe("managed mode", () => {
  test("[CON1] who is not there stays unknown", async () => {
    expect(await open().admit("ann")).toBe("unknown");
    expect(await storage.directory.userState("ann")).toBe("unknown");
  });

  test("[PUB3] only members may use a conversation, and asking creates none", async () => {
    const view = open();
    await storage.directory.upsertUsers(["ann", "bob"]);
    await storage.directory.addMembers("c1", ["ann"]);
    expect(await view.ensureMember("c1", "ann")).toEqual({ mayWrite: true });
    expect(await view.ensureMember("c1", "bob")).toBeUndefined();
    expect(await view.ensureMember("c2", "ann")).toBeUndefined();
    expect(await storage.directory.membersOf("c2")).toEqual([]);
  });
});

describe("what is remembered", () => {
  beforeEach(async () => {
    await storage.directory.upsertUsers(["ann", "bob"]);
    await storage.directory.addMembers("c1", ["ann"]);
  });

  test("[PUB3] an answer, yes or no, is remembered for the time that is configured", async () => {
    const view = open();
    for (let round = 0; round < 3; round++) {
      expect(await view.isMember("c1", "ann")).toBe(true);
      expect(await view.isMember("c1", "bob")).toBe(false);
    }
    expect(asked).toBe(2);
    time += 30_000;
    await view.isMember("c1", "ann");
    expect(asked).toBe(3);
  });

  test("[PUB3] who asks at the same time shares one question", async () => {
    const view = open();
    await Promise.all(Array.from({ length: 50 }, () => view.isMember("c1", "ann")));
    expect(asked).toBe(1);
  });

  test("[PUB3] a change is seen by the next question", async () => {
    const view = open();
    expect(await view.isMember("c1", "ann")).toBe(true);
    expect(await view.isMember("c1", "bob")).toBe(false);
    expect(await change(view, () => storage.directory.addMembers("c1", ["bob"]))).toEqual({
      kind: "member_added",
      conversationId: "c1",
      userId: "bob",
      at: expect.any(Number),
    });
    expect(await view.isMember("c1", "bob")).toBe(true);
    await change(view, () => storage.directory.removeMembers("c1", ["ann"]));
    expect(await view.isMember("c1", "ann")).toBe(false);
  });

  test("[PUB3] an answer that was on its way while the change came is not remembered", async () => {
    const view = open();
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = () => promise;
    const early = view.isMember("c1", "ann");
    // Removed after the store was asked: its calls are answered in order.
    await change(view, () => storage.directory.removeMembers("c1", ["ann"]));
    resolve();
    expect(await early).toBe(true);
    expect(await view.isMember("c1", "ann")).toBe(false);
    expect(asked).toBe(2);
  });

  test("[PUB3] who asks after a change does not share a question from before it", async () => {
    const view = open();
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = () => promise;
    const early = view.isMember("c1", "ann");
    await change(view, () => storage.directory.removeMembers("c1", ["ann"]));
    const late = view.isMember("c1", "ann");
    resolve();
    expect(await Promise.all([early, late])).toEqual([true, false]);
  });

  test("[MSG5] a member who may not write any more is seen as that at once, and one who may again as that", async () => {
    const view = open();
    await storage.directory.addMembers("c1", ["ann"]);
    expect(await view.ensureMember("c1", "ann")).toEqual({ mayWrite: true });
    for (const mayWrite of [false, true]) {
      const told = await change(view, async () => {
        expect(await storage.directory.setMayWrite({ conversationId: "c1", userId: "ann" }, mayWrite)).toBe(true);
      });
      expect(told).toMatchObject({ kind: "member_updated", conversationId: "c1", userId: "ann" });
      expect([await view.ensureMember("c1", "ann"), await view.membership("c1", "ann")]).toEqual([
        { mayWrite },
        { mayWrite },
      ]);
    }
  });

  test("[PUB3] where changes may have been missed nothing is remembered", async () => {
    let tell: (change: DirectoryChange) => void = () => {};
    const directory: Directory = {
      ...storage.directory,
      membershipsAmong(userId, conversationIds) {
        asked++;
        return storage.directory.membershipsAmong(userId, conversationIds);
      },
      watch(listener) {
        tell = listener;
        return () => {};
      },
    };
    const view = open({ directory });
    await view.isMember("c1", "ann");
    tell({ kind: "user_changed", userId: "ann" });
    await view.isMember("c1", "ann");
    expect(asked).toBe(1);
    tell({ kind: "resync" });
    await view.isMember("c1", "ann");
    expect(asked).toBe(2);
  });

  test("[PUB3] no more is remembered than configured, and nothing where that is none", async () => {
    const view = open({ cacheSize: 2 });
    for (const userId of ["u1", "u2", "u3"]) await view.isMember("c1", userId);
    expect(asked).toBe(3);
    await view.isMember("c1", "u3");
    await view.isMember("c1", "u2");
    expect(asked).toBe(3);
    await view.isMember("c1", "u1");
    expect(asked).toBe(4);
    const forgetful = open({ cacheTtlMs: 0 });
    await forgetful.isMember("c1", "ann");
    await forgetful.isMember("c1", "ann");
    expect(asked).toBe(6);
  });

  test("[SUB1] [PUB3] many memberships are one question, for those alone that are not remembered or being asked for", async () => {
    const view = open();
    await storage.directory.addMembers("c2", ["ann"]);
    await view.isMember("c1", "ann");
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = () => promise;
    const [early, many] = [view.isMember("c3", "ann"), view.ensureMemberships("ann", ["c1", "c2", "c3", "c4"])];
    expect(asked).toBe(3);
    // A membership that changes while it is asked for is not remembered; the rest of the same question is.
    await change(view, () => storage.directory.addMembers("c4", ["ann"]));
    resolve();
    expect([await early, [...(await many).keys()].sort()]).toEqual([false, ["c1", "c2"]]);
    expect([...(await view.ensureMemberships("ann", ["c1", "c2", "c3"])).keys()].sort()).toEqual(["c1", "c2"]);
    expect(asked).toBe(3);
    expect(await view.isMember("c4", "ann")).toBe(true);
    expect(asked).toBe(4);
  });

  test("[PRE4] who shares a conversation is asked in parts, so that others' questions come in between", async () => {
    const parts: number[] = [];
    const directory: Directory = {
      ...storage.directory,
      sharingWith(userId, userIds) {
        parts.push(userIds.length);
        return storage.directory.sharingWith(userId, userIds);
      },
    };
    const view = open({ directory });
    await storage.directory.addMembers("c1", ["ann", "u3", "u444"]);
    const users = Array.from({ length: 500 }, (_, index) => `u${index}`);
    expect(await view.sharingWith("ann", users)).toEqual(new Set(["u3", "u444"]));
    expect(parts).toEqual([100, 100, 100, 100, 100]);
  });

  test("[PUB3] those of a list who are members are found, in small conversations and large ones", async () => {
    const view = open();
    const users = Array.from({ length: 2_500 }, (_, index) => `u${index}`);
    const others = users.map((userId) => `other-${userId}`);
    await storage.directory.addMembers("large", users);
    await storage.directory.addMembers("small", ["ann", "u7"]);
    for (const asked of [others.concat(users), ["u3", "ann"]]) {
      expect(await view.membersAmong("large", asked)).toEqual(new Set(asked.filter((it) => users.includes(it))));
      expect(await view.membersAmong("small", asked)).toEqual(new Set(asked.filter((it) => /^(ann|u7)$/.test(it))));
    }
    expect(await view.membersAmong("none", users)).toEqual(new Set());
  });

  test("[PUB3] a question that failed is asked again", async () => {
    const view = open();
    gate = () => Promise.reject(new Error("away"));
    await expect(view.isMember("c1", "ann")).rejects.toThrow("away");
    gate = async () => {};
    expect(await view.isMember("c1", "ann")).toBe(true);
  });
});
