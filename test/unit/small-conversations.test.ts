/** Proves that it is remembered which conversations have few members, and never longer than until that changes [REC3]. */
import { expect, test } from "bun:test";
import { SmallConversations } from "../../src/directory/small-conversations.ts";

const members = new Map<string, number>();

function build({ membersMax = 2, ttlMs = 1_000 } = {}) {
  const asked: string[][] = [];
  const clock = { now: 0 };
  let isCounted = Promise.resolve();
  const small = new SmallConversations({
    directory: {
      async memberCounts(conversationIds, most) {
        asked.push(conversationIds);
        const counts = conversationIds.map((id): [string, number] => [id, Math.min(most, members.get(id) ?? 0)]);
        await isCounted;
        return new Map(counts);
      },
    },
    membersMax,
    ttlMs,
    sizeMax: 10_000,
    now: () => clock.now,
  });
  const slow = (until: Promise<void>) => {
    isCounted = until;
  };
  return { small, asked, clock, slow };
}

test("[REC3] few members are as many as are set, and each conversation is counted once while it is remembered", async () => {
  members.clear();
  for (const [id, count] of Object.entries({ two: 2, three: 3 })) members.set(id, count);
  const { small, asked, clock } = build();
  const ids = ["none", "two", "three"];
  expect(await small.among(ids)).toEqual(new Set(["none", "two"]));
  expect(await small.among(ids)).toEqual(new Set(["none", "two"]));
  expect(asked).toEqual([ids]);
  clock.now = 1_000;
  await small.among(["two"]);
  expect(asked).toHaveLength(2);
  expect(await build({ membersMax: 0 }).small.among(ids)).toEqual(new Set());
});

test("[REC3] a thousand are counted by one question", async () => {
  const { small, asked } = build();
  const ids = Array.from({ length: 1_200 }, (_, index) => `c${index}`);
  expect((await small.among(ids)).size).toBe(1_200);
  expect(asked.map((page) => page.length)).toEqual([1_000, 200]);
});

test("[REC3] a count that a change overtakes is not remembered", async () => {
  members.clear();
  members.set("c1", 2);
  const { small, slow } = build();
  const { promise, resolve } = Promise.withResolvers<void>();
  slow(promise);
  const before = small.among(["c1"]);
  members.set("c1", 3);
  small.forget("c1");
  resolve();
  expect(await before).toEqual(new Set(["c1"]));
  expect(await small.among(["c1"])).toEqual(new Set());
  members.set("c1", 2);
  small.forgetAll();
  expect(await small.among(["c1"])).toEqual(new Set(["c1"]));
});
