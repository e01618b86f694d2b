/** Proves what SQLite appends without its worker: only what is small, in the order of the calls, and nothing that the worker would refuse. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { NewEvent, Storage } from "../../src/storage/ports.ts";
import type { LogOfWrites } from "../../src/storage/sqlite/engine.ts";
import { SmallAppends } from "../../src/storage/sqlite/small-appends.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { newEvent, newEvents } from "../support/new-event.ts";

const folder = mkdtempSync(join(tmpdir(), "sqlite-small-appends-"));
const path = join(folder, "log.db");
/** Resolves once all that was settled is known. */
const taken = () => new Promise<void>((resolve) => void setImmediate(resolve));
/** By its worker alone: each of its commits waits for the disk. */
let worker: Storage;
beforeAll(async () => {
  worker = createSqliteStorage({ path, durability: "power" });
  await worker.start();
});
afterAll(async () => {
  await worker.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Given {
  isAllowed?: boolean;
  by?: Storage;
  at?: string;
  logPages?: number;
  now?: () => number;
}

function build({ isAllowed = true, by = worker, at = path, logPages = 1_000, now = () => 0 }: Given = {}) {
  let byWorker = 0;
  const moves: PromiseWithResolvers<LogOfWrites>[] = [];
  const appends = new SmallAppends({
    path: at,
    isAllowed,
    now,
    appendByWorker(events) {
      byWorker++;
      return by.log.append(events);
    },
    moveByWorker() {
      const move = Promise.withResolvers<LogOfWrites>();
      moves.push(move);
      return move.promise;
    },
  });
  appends.start(logPages);
  /** Appends, and says whether that was done here. */
  const isHere = async (events: NewEvent[] = [newEvent("user:ann")]) => {
    const before = byWorker;
    await appends.append(events);
    return byWorker === before;
  };
  return { appends, isHere, moves };
}

test("[LOG1] [LOG2] by whichever way events come, positions and numbers go on, and a key is known", async () => {
  const { appends, isHere } = build();
  await isHere();
  for (let round = 1; round <= 15; round++) {
    const keyed = newEvent("user:both", { once: { keys: [`key ${round}`], digest: "said" } });
    const before = await worker.log.append([newEvent("user:both")]);
    const first = await appends.append([keyed]);
    expect(first.previousPosition).toBe(before.appended[0]!.position);
    expect(first.appended).toMatchObject([{ seq: 2 * round, position: first.previousPosition + 1, duplicate: false }]);
    const again = { ...keyed, id: crypto.randomUUID() };
    const { id, seq, position } = first.appended[0]!;
    for (const log of [worker.log, appends])
      expect((await log.append([again])).appended).toMatchObject([{ id, seq, position, duplicate: true }]);
    expect((await worker.log.page({ topic: "user:both", limit: 1 })).events).toMatchObject([{ id, seq, position }]);
  }
  appends.stop();
});

test("what is appended in the loop's thread is small, and takes nothing back", async () => {
  const { appends, isHere } = build();
  const text = (length: number) => ({ payload: JSON.stringify({ text: "x".repeat(length) }) });
  await isHere();
  expect(await isHere(newEvents("user:few", 64))).toBe(true);
  expect(await isHere(newEvents("user:many", 65))).toBe(false);
  expect(await isHere([newEvent("user:large", text(65_000))])).toBe(true);
  expect(await isHere([newEvent("user:large", text(66_000))])).toBe(false);
  expect(await isHere([newEvent("user:kept", { compactionKey: "state" })])).toBe(false);
  const amendment = { kind: "delete", messageId: "m1", by: "ann", deleted: { payload: "{}" } } as never;
  expect(await isHere([newEvent("conversation:c1", { amendment })])).toBe(false);
  expect(await isHere()).toBe(true);
  appends.stop();
});

test("[END2] the worker has its turn first, and moves the log of writes while the loop goes on", async () => {
  const { appends, isHere, moves } = build({ logPages: 100 });
  const turns = async (count: number) => {
    const here: boolean[] = [];
    for (let n = 0; n < count; n++) here.push(await isHere());
    return here;
  };
  const all = (count: number) => Array.from({ length: count }, () => true);
  expect(await turns(11)).toEqual([false, ...all(10)]);
  expect(moves).toHaveLength(0);
  expect(await turns(3)).toEqual(all(3));
  expect(moves).toHaveLength(1);
  // Nothing was written meanwhile: the log of writes begins anew by itself.
  moves[0]!.resolve({ pages: 96, left: 0 });
  await taken();
  expect(await turns(11)).toEqual(all(11));
  expect(moves).toHaveLength(2);
  // Something was: it goes on, with so much less room.
  moves[1]!.resolve({ pages: 196, left: 14 });
  await taken();
  expect(await turns(8)).toEqual(all(8));
  expect(moves).toHaveLength(2);
  expect(await turns(1)).toEqual(all(1));
  expect(moves).toHaveLength(3);
  // It is too large by now: the worker has the next, after the rest, with nothing beside it.
  moves[2]!.resolve({ pages: 401, left: 14 });
  await taken();
  expect(await turns(2)).toEqual([false, true]);
  expect(moves).toHaveLength(4);
  expect(await turns(10)).toEqual(all(10));
  expect(moves).toHaveLength(5);
  moves[4]!.reject(new Unavailable("storage", "no room"));
  await taken();
  expect(await isHere()).toBe(false);
  appends.stop();
});

test("[END2] the log of writes does not grow without end while there is always something to append", async () => {
  const busy = join(folder, "busy.db");
  const storage = createSqliteStorage({ path: busy });
  await storage.start();
  const pageBytes = 4_120;
  let last: Promise<string> | null = null;
  for (let n = 0; n < 4_000; n++) {
    // Some come while the worker moves it, and not as many as it would have to wait for.
    const answered = n % 10 === 0 ? storage.installation() : null;
    await storage.log.append([newEvent(`user:${n % 100}`)]);
    await taken();
    if (n % 10 === 9) await last;
    last = answered ?? last;
    expect(statSync(`${busy}-wal`).size).toBeLessThan(6_000 * pageBytes);
  }
  await storage.stop();
});

test("[END2] the worker has its turn before more is written than the log of writes may grow to", async () => {
  const { appends, isHere, moves } = build({ logPages: 100 });
  const turns: boolean[] = [];
  for (let n = 0; n < 17; n++) turns.push(await isHere());
  expect(turns).toEqual([false, ...Array.from({ length: 14 }, () => true), false, true]);
  expect(moves).toHaveLength(2);
  appends.stop();
  const tiny = build({ logPages: 16 });
  expect([await tiny.isHere(), await tiny.isHere(), await tiny.isHere(), await tiny.isHere()]).toEqual([
    false,
    true,
    true,
    false,
  ]);
  expect(await tiny.isHere(newEvents("user:few", 11))).toBe(false);
  tiny.appends.stop();
});

test("[LOG1] nothing goes ahead of what the worker has been given, nor of what it has not answered", async () => {
  const given: { events: NewEvent[]; answer: () => void; fail: () => void }[] = [];
  const appends = new SmallAppends({
    path,
    isAllowed: true,
    moveByWorker: () => Promise.resolve({ pages: 0, left: 0 }),
    appendByWorker(events) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      given.push({ events, answer: resolve, fail: () => reject(new Unavailable("storage", "not in time")) });
      return promise.then(() => worker.log.append(events));
    },
  });
  appends.start(1_000);
  const first = appends.append([newEvent("user:first")]);
  const second = appends.append([newEvent("user:second")]);
  given[0]!.answer();
  await first;
  const third = appends.append([newEvent("user:third")]);
  given[1]!.fail();
  await expect(second).rejects.toThrow("not in time");
  const fourth = appends.append([newEvent("user:fourth")]);
  expect(given.map(({ events }) => events[0]!.topic)).toEqual([
    "user:first",
    "user:second",
    "user:third",
    "user:fourth",
  ]);
  for (const { answer } of given) answer();
  await Promise.all([third, fourth]);
  await appends.append([newEvent("user:fifth")]);
  expect(given).toHaveLength(4);
  appends.stop();
});

test("[END2] trouble with the file is for the worker, which says what it is, and so is another file in its place", async () => {
  let now = 0;
  const elsewhere = join(folder, "elsewhere.db");
  const by = createSqliteStorage({ path: elsewhere, durability: "power" });
  await by.start();
  const { appends, isHere } = build({ at: elsewhere, by, now: () => now });
  expect([await isHere(), await isHere()]).toEqual([false, true]);
  appends.rest();
  // The worker has appended, and still the connection is not trusted.
  expect([await isHere(), await isHere()]).toEqual([false, false]);
  now += 1_000;
  expect(await isHere()).toBe(true);
  appends.rest();
  now += 1_000;
  renameSync(elsewhere, join(folder, "away.db"));
  copyFileSync(path, elsewhere);
  expect([await isHere(), await isHere()]).toEqual([false, false]);
  appends.stop();
  await by.stop();
});

test("[LOG1] a disk that is slow once leaves the next to the worker, and one that is slow again is left alone for a while", async () => {
  let [now, tookMs] = [0, 0];
  const { appends, isHere } = build({ now: () => (now += tookMs) });
  const turns = async (...each: number[]) => {
    const here: boolean[] = [];
    for (tookMs of each) here.push(await isHere());
    return here;
  };
  expect(await turns(0, 10, 11, 0, 10)).toEqual([false, true, true, false, true]);
  expect(await turns(11, 11, 11, 0, 0)).toEqual([true, false, true, false, false]);
  now += 1_000;
  expect(await turns(0)).toEqual([true]);
  appends.stop();
});

test("a commit that waits for the disk is the worker's", async () => {
  const { appends, isHere } = build({ isAllowed: false });
  expect([await isHere(), await isHere()]).toEqual([false, false]);
  appends.stop();
});

test("[LOG1] while another process writes the worker waits for it, and the loop does not", async () => {
  const { appends, isHere } = build();
  await isHere();
  const other = new Database(path);
  other.exec("BEGIN IMMEDIATE");
  const waiting = isHere();
  other.exec("COMMIT");
  other.close();
  expect(await waiting).toBe(false);
  expect(await isHere()).toBe(true);
  appends.stop();
});
