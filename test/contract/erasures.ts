/** Proves what every store of erasures must do: one node at a time has a user, and pages of what names one are whole [BAK4]. */
import { describe, expect, test } from "bun:test";
import { BeingErased } from "../../src/storage/directory-store.ts";
import type { ErasureJob } from "../../src/storage/erasure-store.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { newEvent } from "../support/new-event.ts";
import { type Open, withStorage } from "./opened.ts";

const long = 60_000;
const claim = ({ erasures }: Storage, ms = long) => erasures.claim({ ms, now: Date.now() });
const request = ({ erasures }: Storage, userId: string, by = "root") => erasures.request({ userId, by, now: 1_000 });

export function describeErasuresContract(name: string, open: Open): void {
  describe(`erasures contract: ${name}`, () => {
    describeTurns(open);
    describeRefusals(open);
    describeNaming(open);
  });
}

function describeTurns(open: Open): void {
  test(
    "[BAK4] each is given to one node until its lease runs out, and whoever had it before cannot say any more how far it is",
    withStorage(open, async (storage) => {
      const { erasures } = storage;
      expect(await claim(storage)).toBeNull();
      await request(storage, "zoe");
      await request(storage, "ann");
      const claims = await Promise.all(Array.from({ length: 5 }, () => claim(storage, 0)));
      expect(new Set(claims.map((job) => job?.userId))).toEqual(new Set(["zoe", "ann"]));
      const jobs = (await Promise.all([claim(storage), claim(storage)])) as [ErasureJob, ErasureJob];
      expect(await claim(storage)).toBeNull();
      const zoe = jobs.find(({ userId }) => userId === "zoe")!;
      expect(zoe).toMatchObject({ requestedBy: "root", step: 0, place: "", through: 0, messages: 0 });
      expect(await erasures.keep({ ...zoe, step: 2, place: "p", through: 7, messages: 3 }, 0)).toBe(true);
      const next = (await claim(storage))!;
      expect(next).toMatchObject({
        userId: "zoe",
        step: 2,
        place: "p",
        through: 7,
        messages: 3,
        startedAt: zoe.startedAt,
      });
      expect(await erasures.keep(zoe, 0)).toBe(false);
      expect(await erasures.finish(zoe, 2_000)).toBe(false);
      await request(storage, "zoe", "another");
      expect(await erasures.finish(next, 2_000)).toBe(true);
      expect(await erasures.finish(next, 3_000)).toBe(false);
      expect(await erasures.find("zoe")).toMatchObject({
        requestedAt: 1_000,
        finishedAt: 2_000,
        messages: 3,
        percent: 100,
      });
      expect(await erasures.find("nobody")).toBeNull();
    }),
  );

  test(
    "[BAK4] [AUTH4] whoever is being erased counts as disabled, known or not; afterwards it may begin anew, and is forgotten in time",
    withStorage(open, async (storage) => {
      const { erasures, directory } = storage;
      await directory.upsertUsers(["zoe", "ben"]);
      await directory.setDisabled("ben", true);
      for (const userId of ["zoe", "ben", "nobody"]) await request(storage, userId);
      for (const userId of ["zoe", "ben", "nobody"]) expect(await directory.userState(userId)).toBe("disabled");
      for (let job = await claim(storage); job !== null; job = await claim(storage)) {
        expect(await erasures.removeRows("own", job.userId, "")).toEqual({ next: null });
        await erasures.finish(job, 2_000);
      }
      expect(await directory.userState("zoe")).toBe("unknown");
      expect(await directory.userState("nobody")).toBe("unknown");
      expect(await directory.userState("ben")).toBe("disabled");
      expect(await erasures.forget(2_000, 10)).toBe(0);
      await request(storage, "zoe");
      expect(await erasures.forget(2_001, 1)).toBe(1);
      expect(await erasures.forget(2_001, 10)).toBe(1);
      expect(await erasures.find("nobody")).toBeNull();
      expect(await claim(storage)).toMatchObject({ userId: "zoe", step: 0, messages: 0 });
    }),
  );
}

function describeRefusals(open: Open): void {
  test(
    "[BAK4] [PUB3] what is kept of a user who is being erased, and would go again, is refused wholly; disabling and removing hold",
    withStorage(open, async (storage) => {
      const { erasures, directory } = storage;
      await directory.upsertUsers(["zoe", "ben"]);
      await directory.addMembers("c1", ["zoe", "ben"]);
      await request(storage, "zoe");
      const refused = async (work: Promise<unknown>) =>
        expect(await work.catch((error: unknown) => error)).toBeInstanceOf(BeingErased);
      await refused(directory.upsertUsers(["new", "zoe"]));
      expect(await directory.userState("new")).toBe("unknown");
      await refused(directory.addMembers("c2", ["ben", "zoe"]));
      expect(await directory.membersOf("c2")).toEqual([]);
      await refused(directory.addMembers("c1", ["zoe"]));
      await refused(directory.addMemberships("zoe", ["c3"]));
      await refused(directory.setMayWrite({ conversationId: "c1", userId: "zoe" }, false));
      await refused(directory.setDisabled("zoe", false));
      await directory.removeMembers("c1", ["zoe"]);
      await directory.setDisabled("zoe", true);
      const job = (await claim(storage))!;
      await erasures.removeRows("own", "zoe", "");
      await erasures.finish(job, 2_000);
      expect(await directory.userState("zoe")).toBe("disabled");
      await directory.addMembers("c1", ["zoe"]);
      await directory.setDisabled("zoe", false);
      expect(await directory.membersOf("c1")).toContain("zoe");
    }),
  );
}

function describeNaming(open: Open): void {
  test(
    "[BAK4] pages name each event of the user once, whatever lies between, and end where large ones are",
    withStorage(open, async (storage) => {
      const { log, erasures } = storage;
      const topic = "conversation:c1";
      const said = (payload: object, senderId?: string) =>
        newEvent(topic, {
          payload: JSON.stringify(payload),
          ...(senderId === undefined ? { type: "poll.vote" } : { senderId }),
        });
      const large = "x".repeat(400_000);
      for (let batch = 0; batch < 12; batch++)
        await log.append(Array.from({ length: 500 }, (_, at) => said({ n: at }, at % 10 === 0 ? "zoe" : "ben")));
      for (let at = 0; at < 8; at++) await log.append([said({ user_id: "zoe", large })]);
      await log.append([
        said({ user_id: "zoe2" }),
        said({ text: "zoe" }, "ben"),
        said({ 'the "zoe" of old': 1 }),
        said({ zoe: 1 }),
      ]);
      const found: { position: number; payload: string | null }[] = [];
      let pages = 0;
      for (let after = 0, isEnd = false; !isEnd; pages++) {
        const { events, through, end } = await erasures.naming({ userId: "zoe", afterPosition: after });
        expect(through).toBeGreaterThan(after);
        expect(events.reduce((sum, { payload }) => sum + (payload?.length ?? 0), 0)).toBeLessThan(1_600_000);
        found.push(...events);
        [after, isEnd] = [through, through >= end];
      }
      expect(found.filter(({ payload }) => payload === null)).toHaveLength(600);
      expect(found.filter(({ payload }) => payload !== null)).toHaveLength(9);
      expect(new Set(found.map(({ position }) => position)).size).toBe(found.length);
      expect(pages).toBeLessThan(12);
    }),
  );

  test(
    "[BAK4] what is forgotten goes, what is rewritten says less, and the numbers of its topic go on",
    withStorage(open, async (storage) => {
      const { log, erasures } = storage;
      const topic = "user:zoe";
      const { appended } = await log.append([newEvent(topic), newEvent("missed"), newEvent(topic)]);
      await erasures.rewrite({ topic: "missed", position: appended[1]!.position }, '{"less":1}');
      expect((await log.page({ topic: "missed", limit: 5 })).events[0]!.payload).toBe('{"less":1}');
      await erasures.forgetEvents([{ topic, position: appended[2]!.position }]);
      expect((await log.page({ topic, limit: 5 })).events.map(({ seq }) => seq)).toEqual([1]);
      for (let next: string | null = ""; next !== null; ) next = (await erasures.removeRows("own", "zoe", next)).next;
      expect((await log.page({ topic, limit: 5 })).events).toEqual([]);
      expect((await log.heads([topic])).get(topic)).toMatchObject({ seq: 2, trimmedPosition: 0 });
      expect((await log.append([newEvent(topic)])).appended[0]!.seq).toBe(3);
    }),
  );
}
