/** Proves what SQLite answers without its worker: only what is small, never less than was acknowledged, and in nobody's way. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Storage } from "../../src/storage/ports.ts";
import { prepareFiles } from "../../src/storage/sqlite/files.ts";
import { SmallReads } from "../../src/storage/sqlite/small-reads.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { acknowledgeOne } from "../support/acknowledgements.ts";
import { markOne } from "../support/marks.ts";
import { newEvent, newEvents } from "../support/new-event.ts";

const folder = mkdtempSync(join(tmpdir(), "sqlite-small-"));
const path = join(folder, "log.db");
let storage: Storage;
let small: SmallReads;
beforeAll(async () => {
  storage = createSqliteStorage({ path });
  await storage.start();
  small = new SmallReads({ path, turnMsMax: Number.POSITIVE_INFINITY });
  small.start();
});
afterAll(async () => {
  small.stop();
  await storage.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("[LOG1] what was acknowledged is there for whoever reads next, in the log, the directory and the cursors", async () => {
  const conversations = [{ conversationId: "c1", isTold: true }];
  const overview = async () =>
    (await storage.overviews.read({ userId: "anna", conversations, bytesMax: 1_000_000 })).overviews.get("c1");
  for (let seq = 1; seq <= 100; seq++) {
    const { appended } = await storage.log.append([newEvent("conversation:c1", { senderId: "ben" })]);
    expect((await storage.log.heads(["conversation:c1"])).get("conversation:c1")).toMatchObject({ seq });
    const { events } = await storage.log.page({ topic: "conversation:c1", limit: 1 });
    expect(events[0]).toMatchObject({ seq, id: appended[0]!.id });
    const cursor = storage.log.epochs.cursorOf(appended[0]!.position);
    await acknowledgeOne(storage.cursors, "anna", "phone", cursor);
    expect(await storage.cursors.acknowledged("anna", "phone")).toBe(cursor);
    await storage.directory.addMembers(`room${seq}`, ["anna"]);
    expect(new Set((await storage.directory.membershipsAmong("anna", [`room${seq}`, "room0"])).keys())).toEqual(
      new Set([`room${seq}`]),
    );
    expect((await storage.receipts.states("anna", ["c1"])).get("c1")).toMatchObject({ unread: Math.min(seq, 2) });
    expect(await overview()).toMatchObject({ asOfSeq: seq, unread: Math.min(seq, 2), lastMessage: { seq } });
    await markOne(storage.receipts, { conversationId: "c1", userId: "anna", kind: "read", upToSeq: seq - 1 });
    expect((await storage.receipts.states("anna", ["c1"])).get("c1")).toMatchObject({ unread: 1, readSeq: seq - 1 });
    expect(await overview()).toMatchObject({ asOfSeq: seq, unread: 1, readSeq: seq - 1, lastMessage: { seq } });
  }
});

test("what is answered in the loop's thread is small: names, events, their bytes and what is counted", async () => {
  await storage.log.append(newEvents("user:many", 300, { senderId: "ben" }));
  await storage.log.append([
    newEvent("user:large", { payload: JSON.stringify({ text: "x".repeat(100_000) }) }),
    newEvent("user:large"),
  ]);
  await storage.log.append(newEvents("conversation:busy", 300, { senderId: "ben" }));
  const names = (count: number) => Array.from({ length: count }, (_, index) => `user:${index}`);
  const isHere = (answer: unknown) => answer !== undefined;
  const page = (query: object) => isHere(small.answer("page", [{ topic: "user:many", limit: 20, ...query }]));
  expect(isHere(small.answer("heads", [names(20)]))).toBe(true);
  expect(isHere(small.answer("heads", [names(21)]))).toBe(false);
  expect(isHere(small.answer("membershipsAmong", ["anna", names(21)]))).toBe(false);
  expect([page({}), page({ limit: 21 }), page({ beforeSeq: 100 }), page({ afterSeq: 100 })]).toEqual([
    ...[true, false, true, true],
  ]);
  expect([page({ topic: "user:large" }), page({ topic: "user:large", afterSeq: 1 })]).toEqual([false, true]);
  const range = (throughSeq: number, topic = "user:many") =>
    isHere(small.answer("range", [{ topic, afterSeq: 0, throughSeq, limit: 500 }]));
  expect([range(20), range(21), range(2, "user:large")]).toEqual([true, false, false]);
  const replay = (afterPosition: number, ...topics: string[]) =>
    isHere(small.answer("replay", [{ topics, afterPosition, limit: 200 }]));
  const { events } = await storage.log.page({ topic: "user:many", limit: 25 });
  expect([replay(events[4]!.position, "user:many", "user:none"), replay(events[3]!.position, "user:many")]).toEqual([
    ...[true, false],
  ]);
  expect([replay(0, ...names(20)), replay(0, ...names(21)), replay(0, "user:large")]).toEqual([true, false, false]);
  const moved = async (events: number) =>
    isHere(small.answer("movedSince", [(await storage.log.watermark()) - events, 1_000]));
  expect([await moved(0), await moved(20), await moved(21)]).toEqual([true, true, false]);
  const states = (...conversations: string[]) => isHere(small.answer("receiptStates", ["anna", conversations]));
  expect([states("c1", "c2"), states("c1", "c2", "c3"), states("busy")]).toEqual([true, false, false]);
  const overviews = (...ids: string[]) => {
    const conversations = ids.map((conversationId) => ({ conversationId, isTold: true }));
    return isHere(small.answer("overviews", [{ userId: "anna", conversations, bytesMax: 1_000_000 }]));
  };
  const conversations = (count: number) => Array.from({ length: count }, (_, index) => `c${index}`);
  expect([overviews(...conversations(8)), overviews(...conversations(9)), overviews("busy")]).toEqual([
    ...[true, false, false],
  ]);
  // An operation that would wait, write or run long is the worker's.
  for (const operation of ["feed", "movedSince", "trim", "append", "conversationsOf"] as const)
    expect(small.answer(operation, [] as never)).toBeUndefined();
});

test("where many ask in one turn of the loop the worker has the rest, and the next turn begins anew", async () => {
  const reads = new SmallReads({ path, turnMsMax: 0 });
  reads.start();
  const ask = () => reads.answer("watermark", []) !== undefined;
  expect([ask(), ask(), ask()]).toEqual([true, false, false]);
  await new Promise<void>((resolve) => setImmediate(resolve));
  expect([ask(), ask()]).toEqual([true, false]);
  reads.stop();
});

test("what a connection asks as it comes is answered here however many come in one turn, and what is more is not", () => {
  const reads = new SmallReads({ path, turnMsMax: 0 });
  reads.start();
  const isHere = (answer: unknown) => answer !== undefined;
  const topics = (count: number) => Array.from({ length: count }, (_, index) => `conversation:c${index}`);
  expect(isHere(reads.answer("watermark", []))).toBe(true);
  for (let time = 0; time < 3; time++) {
    expect(isHere(reads.answer("userState", ["anna", 0]))).toBe(true);
    expect(isHere(reads.answer("getStatuses", [["anna"]]))).toBe(true);
    expect([1, 4, 5].map((count) => isHere(reads.answer("heads", [topics(count)])))).toEqual([true, true, false]);
    const memberships = (count: number) => reads.answer("membershipsAmong", ["anna", topics(count)]);
    expect([1, 4, 5].map((count) => isHere(memberships(count)))).toEqual([true, true, false]);
    const members = (count: number) => reads.answer("membersAmong", ["c1", topics(count)]);
    expect([1, 4, 5].map((count) => isHere(members(count)))).toEqual([true, true, false]);
    const overviews = (count: number) => {
      const conversations = topics(count).map((name) => ({ conversationId: name.slice(-2), isTold: true }));
      return reads.answer("overviews", [{ userId: "anna", conversations, bytesMax: 1_000_000 }]);
    };
    expect([1, 4, 5].map((count) => isHere(overviews(count)))).toEqual([true, true, false]);
    expect(isHere(reads.answer("watermark", []))).toBe(false);
  }
  reads.stop();
});

test("[LOG1] one turn of the loop reads one state, until it is told that something was written, and the next turn reads anew", async () => {
  const reads = new SmallReads({ path });
  reads.start();
  const other = new Database(path);
  const stateOf = (userId: string) => reads.answer("userState", [userId, 0])?.value;
  const add = (userId: string) => void other.run("INSERT INTO users (user_id) VALUES (?)", [userId]);
  expect([stateOf("carla"), stateOf("doris")]).toEqual(["unknown", "unknown"]);
  add("carla");
  expect(stateOf("carla")).toBe("unknown");
  reads.refresh();
  expect(stateOf("carla")).toBe("active");
  add("doris");
  await new Promise<void>((resolve) => setImmediate(resolve));
  expect(stateOf("doris")).toBe("active");
  other.close();
  reads.stop();
});

test("nobody who reads here keeps the log of writes from being taken into the file", async () => {
  const other = new Database(path);
  other.exec("PRAGMA busy_timeout = 2000");
  for (let round = 0; round < 20; round++) {
    const reading = Array.from({ length: 50 }, () => storage.log.page({ topic: "user:many", limit: 20 }));
    await storage.log.append(newEvents("user:many", 20));
    await Promise.all(reading);
    const taken = other.query<{ busy: number; log: number }, []>("PRAGMA wal_checkpoint(TRUNCATE)").get()!;
    expect(taken).toMatchObject({ busy: 0, log: 0 });
  }
  other.close();
});

test("[END2] where the file is in trouble the worker is asked, which says what it is; later reads are answered here again", async () => {
  let now = 0;
  const reads = new SmallReads({ path, now: () => now, turnMsMax: Number.POSITIVE_INFINITY });
  expect(reads.answer("watermark", [])).toBeUndefined();
  reads.start();
  const end = await storage.log.watermark();
  expect(reads.answer("watermark", [])).toEqual({ value: end });
  reads.rest();
  expect(reads.answer("watermark", [])).toBeUndefined();
  now = 1_000;
  expect(reads.answer("watermark", [])).toEqual({ value: end });
  reads.stop();
  now = 5_000;
  expect(reads.answer("watermark", [])).toBeUndefined();
  const nowhere = new SmallReads({ path: join(folder, "gone.db") });
  nowhere.start();
  expect(nowhere.answer("watermark", [])).toBeUndefined();
});

test("[END2] a file that was removed, or another one in its place, is not read here: the worker says what there is", async () => {
  let now = 0;
  const elsewhere = join(folder, "elsewhere.db");
  const moved = createSqliteStorage({ path: elsewhere });
  await moved.start();
  const reads = new SmallReads({ path: elsewhere, now: () => now, turnMsMax: Number.POSITIVE_INFINITY });
  reads.start();
  expect(reads.answer("watermark", [])).toEqual({ value: 0 });
  const isAnswered = () => {
    reads.rest();
    now += 1_000;
    return reads.answer("watermark", []) !== undefined;
  };
  expect(isAnswered()).toBe(true);
  const away = join(folder, "away.db");
  renameSync(elsewhere, away);
  expect(isAnswered()).toBe(false);
  copyFileSync(path, elsewhere);
  expect(isAnswered()).toBe(false);
  renameSync(away, elsewhere);
  expect(isAnswered()).toBe(true);
  reads.stop();
  await moved.stop();
});

test("[LOG1] a worker that opens the file anew takes no lock from who has it open: nobody else takes the log of writes away", async () => {
  await storage.log.append([newEvent("user:many")]);
  expect(small.answer("watermark", [])).toBeDefined();
  const { ino } = statSync(`${path}-wal`);
  prepareFiles(path);
  // A process that closes a file that nobody else has open removes what is beside it.
  const program = `
    const { Database } = require("bun:sqlite");
    const database = new Database(process.argv[1]);
    database.query("SELECT count(*) FROM topics").get();
    database.close();`;
  const child = Bun.spawn([process.execPath, "-e", program, path], { stderr: "inherit" });
  expect(await child.exited).toBe(0);
  expect(statSync(`${path}-wal`, { throwIfNoEntry: false })?.ino).toBe(ino);
});
