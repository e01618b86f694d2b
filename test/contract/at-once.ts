/** Proves that each of many who ask at once has its own answer, whatever the others ask, as when all come back at once. */
import { describe, expect, test } from "bun:test";
import type { UserState } from "../../src/storage/directory-store.ts";
import { newEvent } from "../support/new-event.ts";
import { type Open, withStorage } from "./opened.ts";

const users = Array.from({ length: 70 }, (_, index) => `u${index}`);

export function describeAtOnceContract(name: string, open: Open): void {
  describe(`many at once: ${name}`, () => {
    test(
      "[CON1] [PUB3] whether each may come in",
      withStorage(open, async ({ directory, erasures }) => {
        await directory.upsertUsers(users.filter((_, index) => index % 3 > 0));
        for (const [index, user] of users.entries()) if (index % 7 === 1) await directory.setDisabled(user, true);
        for (const [index, user] of users.entries())
          if (index % 10 === 3) await directory.block(user, Date.now() + 60_000);
        await erasures.request({ userId: "u5", by: "root", now: Date.now() });
        const one: UserState[] = [];
        for (const user of users) one.push(await directory.userState(user));
        expect([...new Set(one)].toSorted()).toEqual(["active", "disabled", "unknown"]);
        expect(one[5]).toBe("disabled");
        expect(await Promise.all(users.map((user) => directory.userState(user)))).toEqual(one);
      }),
    );

    test(
      "[PUB3] [MSG5] who is a member of what, and may write there",
      withStorage(open, async ({ directory }) => {
        for (const [index, user] of users.entries()) {
          await directory.addMembers(`c${index % 9}`, [user]);
          await directory.addMembers(`d${index % 4}`, [user]);
          if (index % 5 === 0) await directory.setMayWrite({ conversationId: `d${index % 4}`, userId: user }, false);
        }
        const asked = users.map((_, index) => [`c${index % 7}`, `d${index % 4}`, "no such"].slice(0, index % 4));
        const one = [];
        for (const [index, user] of users.entries()) one.push(await directory.membershipsAmong(user, asked[index]!));
        const all = await Promise.all(users.map((user, index) => directory.membershipsAmong(user, asked[index]!)));
        expect(all).toEqual(one);
        expect(all.some((found) => [...found.values()].some(({ mayWrite }) => !mayWrite))).toBe(true);
      }),
    );

    test(
      "[REC3] how far each has come in its conversations",
      withStorage(open, async ({ log, overviews, directory }) => {
        for (let index = 0; index < 40; index++)
          await log.append([newEvent(`conversation:c${index % 8}`, { senderId: users[index % 5]! })]);
        await directory.addMembers("c1", ["u3"]);
        const queryOf = (index: number) => ({
          userId: users[index]!,
          conversations: Array.from({ length: index % 4 }, (_, at) => {
            return { conversationId: `c${(index + at) % 9}`, isTold: at % 2 === 0 };
          }),
          // Too little for some.
          bytesMax: index % 6 === 0 ? 30 : 100_000,
        });
        const one = [];
        for (const index of users.keys()) one.push(await overviews.read(queryOf(index)));
        expect(one.some(({ beyond }) => beyond.length > 0)).toBe(true);
        expect(await Promise.all([...users.keys()].map((index) => overviews.read(queryOf(index))))).toEqual(one);
      }),
    );

    test(
      "[LOG5] how far the topics of each are",
      withStorage(open, async ({ log }) => {
        for (let index = 0; index < 30; index++) await log.append([newEvent(`conversation:c${index % 7}`)]);
        const asked = users.map((_, index) => [`conversation:c${index % 9}`, "user:none"].slice(0, index % 3));
        const one = [];
        for (const topics of asked) one.push(await log.heads(topics));
        expect(await Promise.all(asked.map((topics) => log.heads(topics)))).toEqual(one);
      }),
    );

    test(
      "[PRE2] what each has set by hand",
      withStorage(open, async ({ statuses }) => {
        for (const [index, user] of users.entries())
          if (index % 2 === 0) await statuses.set(user, { status: "busy", text: user, emoji: null, expiresAt: null });
        await statuses.setLastSeen(["u3"], 5_000);
        const asked = users.map((user, index) => [user, `u${index % 3}`, "nobody"].slice(0, 1 + (index % 3)));
        const one = [];
        for (const ids of asked) one.push(await statuses.get(ids));
        expect(await Promise.all(asked.map((ids) => statuses.get(ids)))).toEqual(one);
      }),
    );
  });
}
