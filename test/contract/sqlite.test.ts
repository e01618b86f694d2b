/** Holds the SQLite storage to the contracts, and to what only a file can be asked. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { schemaVersion } from "../../src/storage/sqlite/schema.ts";
import { createSqliteStorage, type SqliteStorageOptions } from "../../src/storage/sqlite/storage.ts";
import { WorkerCalls } from "../../src/storage/sqlite/worker-calls.ts";
import { isMemberChange, isUserChange, recordChanges } from "../support/change-recorder.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { describeAtOnceContract } from "./at-once.ts";
import { describeConversationsContract } from "./conversations.ts";
import { describeCursorsStatusesContract } from "./cursors-statuses.ts";
import { describeDirectoryContract } from "./directory.ts";
import { describeErasuresContract } from "./erasures.ts";
import { describeEventLogContract } from "./event-log.ts";
import { describeMessagesContract } from "./messages.ts";
import { describeMessagesModel } from "./messages-model.ts";
import type { Opened } from "./opened.ts";
import { describeOverviewsContract } from "./overviews.ts";
import { describePushContract } from "./push.ts";
import { describeReceiptsContract } from "./receipts.ts";

/** As the released schema has it. */
const directoryChangesKept = 10_000;

const projectRoot = join(import.meta.dir, "../..");
const appender = join(projectRoot, "test/support/sqlite-appender.ts");
let folder: string;
let files = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sqlite-storage-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const newPath = () => join(folder, `${++files}`, "deep", "log.db");

async function open(options: Partial<SqliteStorageOptions> = {}): Promise<Opened & { path: string }> {
  const path = options.path ?? newPath();
  const storage = createSqliteStorage({ path, ...options });
  await storage.start();
  return { storage, path, close: () => storage.stop() };
}

/** Runs SQL on the file from another process, as an application or an operator would. */
async function runElsewhere(path: string, statements: string[]): Promise<void> {
  const program = `
    const { Database } = require("bun:sqlite");
    const database = new Database(process.argv[1]);
    database.exec("PRAGMA busy_timeout = 5000");
    for (const statement of JSON.parse(process.argv[2])) database.exec(statement);
    database.close();`;
  const child = Bun.spawn([process.execPath, "-e", program, path, JSON.stringify(statements)], { stderr: "inherit" });
  expect(await child.exited).toBe(0);
}

describeEventLogContract("SQLite", open);
describeMessagesContract("SQLite", open);
describe("messages contract: SQLite", () => describeMessagesModel(open));
describeReceiptsContract("SQLite", open);
describeOverviewsContract("SQLite", open);
describeCursorsStatusesContract("SQLite", open);
describeDirectoryContract("SQLite", open);
describePushContract("SQLite", open);
describeConversationsContract("SQLite", open);
describeErasuresContract("SQLite", open);
describeAtOnceContract("SQLite", open);

describe("SQLite: the file", () => {
  test("[LOG1] positions are dense, also after the newest events were removed", async () => {
    const { storage, close } = await open();
    await storage.log.append(newEvents("user:a", 3, { createdAt: 1 }));
    await storage.log.trim({ createdBefore: 2, eventsPerTopic: 1, batch: 100 });
    await storage.stop();
    await storage.start();
    const { appended } = await storage.log.append([newEvent("user:a"), newEvent("user:b")]);
    expect(appended.map(({ position }) => position)).toEqual([4, 5]);
    await close();
  });

  test("[LOG1] all acknowledged events are there after a kill -9", async () => {
    const path = newPath();
    const child = Bun.spawn([process.execPath, appender, path], { stdout: "pipe", stderr: "inherit" });
    let acknowledged = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      acknowledged += decoder.decode(chunk, { stream: true });
      // The rest of what it wrote is still read: it dies between two writes, not between a write and us.
      if (acknowledged.length > 20_000) child.kill("SIGKILL");
    }
    await child.exited;
    const ids = acknowledged.split("\n").slice(0, -1);
    expect(ids.length).toBeGreaterThan(300);
    const { storage, close } = await open({ path });
    const stored = new Set<string>();
    for (const topic of ["user:0", "user:1", "user:2"]) {
      const { events } = await storage.log.range({ topic, afterSeq: 0, throughSeq: 1e9, limit: 1e6 });
      expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
      for (const { id } of events) stored.add(id);
    }
    expect(ids.filter((id) => !stored.has(id))).toEqual([]);
    await close();
  });

  test("[BAK4] a page of the log that is looked through for a user ends where others' messages are large", async () => {
    const { storage, close } = await open();
    const payload = JSON.stringify({ content: "x".repeat(8 * 1024 * 1024) });
    for (let at = 0; at < 6; at++) await storage.log.append([newEvent("conversation:c", { payload, senderId: "ben" })]);
    const pages: number[] = [];
    for (let after = 0; after < 6; after = pages.at(-1)!) {
      const { events, through } = await storage.erasures.naming({ userId: "zoe", afterPosition: after });
      expect(events).toEqual([]);
      pages.push(through);
    }
    expect(pages).toEqual([4, 6]);
    await close();
  });

  test("[LOG1] with durability power commits are synced", async () => {
    const { storage, close } = await open({ durability: "power" });
    await storage.log.append([newEvent("user:a")]);
    expect(await storage.log.watermark()).toBe(1);
    await close();
  });

  test("[LOG1] :memory: works and keeps nothing", async () => {
    const { storage, close } = await open({ path: ":memory:" });
    await storage.log.append([newEvent("user:a")]);
    expect(await storage.log.watermark()).toBe(1);
    await storage.stop();
    await storage.start();
    expect(await storage.log.watermark()).toBe(0);
    await close();
  });

  test("[LOG1] a second storage on the file is refused until the first one stops, unless the file is shared", async () => {
    const { storage, path, close } = await open();
    const second = createSqliteStorage({ path, busyTimeoutMs: 20 });
    const refusal = await second.start().catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Unavailable);
    expect(refusal).toMatchObject({ setting: "storage.url" });
    expect(String(refusal)).toContain(`${path} is in use by another service`);
    await runElsewhere(path, [`VACUUM INTO '${path}.backup'`, "INSERT INTO users (user_id) VALUES ('ann')"]);
    expect(await storage.directory.userState("ann")).toBe("active");
    await close();
    await second.start();
    await second.stop();
    // Storages that share it do not meet; one that wants it alone meets them.
    const sharing = [1, 2].map(() => createSqliteStorage({ path, isShared: true }));
    for (const each of sharing) await each.start();
    expect(await second.start().catch((error: unknown) => error)).toBeInstanceOf(Unavailable);
    await Promise.all(sharing.map((each) => each.stop()));
  });

  test("[LOG1] a folder that cannot have the file is told by name", async () => {
    const path = "/proc/self/log.db";
    const refusal = await createSqliteStorage({ path })
      .start()
      .catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Unavailable);
    expect(refusal).toMatchObject({ setting: "storage.url" });
    expect(String(refusal)).toContain(`${path} cannot be opened: ENOENT`);
  });

  test("a newer schema is refused and left as it is", async () => {
    const { path, close } = await open();
    await close();
    await runElsewhere(path, [`PRAGMA user_version = ${schemaVersion + 1}`]);
    const storage = createSqliteStorage({ path });
    const refusal = await storage.start().catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Unavailable);
    expect(String(refusal)).toContain(`schema version ${schemaVersion + 1}`);
    await storage.stop();
    const database = new Database(path);
    expect(database.query("PRAGMA user_version").get()).toEqual({ user_version: schemaVersion + 1 });
    database.close();
  });

  test("the worker runs inside a compiled binary", async () => {
    const binary = join(folder, "appender");
    const build = await Bun.build({
      entrypoints: [appender, join(projectRoot, "src/storage/sqlite/worker.ts")],
      root: join(projectRoot, "src"),
      compile: { outfile: binary, autoloadDotenv: false, autoloadBunfig: false },
      format: "esm",
      bytecode: true,
      minify: { syntax: true, whitespace: true },
    });
    expect(build.success).toBe(true);
    const path = newPath();
    const child = Bun.spawn([binary, path, "once"], { cwd: folder, stdout: "pipe", stderr: "inherit" });
    const printed = await child.stdout.text();
    expect(await child.exited).toBe(0);
    const { storage, close } = await open({ path });
    const { events } = await storage.log.page({ topic: "user:2", limit: 5 });
    expect(printed.trim().split("\n")).toContain(events[0]!.id);
    await close();
  });
});

describe("SQLite: the directory as others write it", () => {
  test("[PUB3] [SUB3] [AUTH4] what another process changes reaches the watchers", async () => {
    const { storage, path, close } = await open();
    const recorder = recordChanges(storage.directory);
    await storage.directory.upsertUsers(["ann"]);
    await recorder.told(isUserChange("ann"));
    await runElsewhere(path, [
      "INSERT INTO members (conversation_id, user_id) VALUES ('c1', 'ann'), ('c1', 'bob')",
      "UPDATE members SET conversation_id = 'c2' WHERE user_id = 'bob'",
      "DELETE FROM members WHERE user_id = 'ann'",
      "UPDATE users SET disabled = 1 WHERE user_id = 'ann'",
      "INSERT INTO users (user_id) VALUES ('eve')",
    ]);
    await recorder.told(isUserChange("eve"));
    recorder.stop();
    expect(recorder.changes.slice(1)).toEqual([
      { kind: "member_added", conversationId: "c1", userId: "ann" },
      { kind: "member_added", conversationId: "c1", userId: "bob" },
      { kind: "member_removed", conversationId: "c1", userId: "bob" },
      { kind: "member_added", conversationId: "c2", userId: "bob" },
      { kind: "member_removed", conversationId: "c1", userId: "ann" },
      { kind: "user_changed", userId: "ann" },
      { kind: "user_changed", userId: "eve" },
    ]);
    expect(await storage.directory.userState("ann")).toBe("disabled");
    expect(await storage.directory.membersOf("c2")).toEqual(["bob"]);
    await close();
  });

  test("[PUB3] more changes than are kept are told as a resync, and the change log stays bounded", async () => {
    const { storage, path, close } = await open();
    const recorder = recordChanges(storage.directory);
    await storage.directory.upsertUsers(["ann"]);
    await recorder.told(isUserChange("ann"));
    const many = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${directoryChangesKept + 500})
      INSERT INTO members (conversation_id, user_id) SELECT 'big', 'user-' || i FROM n`;
    await runElsewhere(path, [many]);
    await recorder.told(({ kind }) => kind === "resync");
    await storage.directory.addMembers("c1", ["ann"]);
    await recorder.told(isMemberChange("member_added", "c1", "ann"));
    recorder.stop();
    await close();
    const database = new Database(path);
    // The process that wrote may still be closing the file.
    database.exec("PRAGMA busy_timeout = 5000");
    const kept = database.query<{ rows: number }, []>("SELECT count(*) AS rows FROM directory_changes").get()!.rows;
    expect(kept).toBe(directoryChangesKept);
    database.close();
  });

  test("[PUB3] a listener that throws does not keep others from being told", async () => {
    const faults: unknown[] = [];
    const { storage, close } = await open({ onListenerError: (error) => faults.push(error) });
    storage.directory.watch(() => {
      throw new Error("listener");
    });
    const recorder = recordChanges(storage.directory);
    await storage.directory.upsertUsers(["ann"]);
    await recorder.told(isUserChange("ann"));
    expect(faults).toHaveLength(1);
    await close();
  });
});

describe("SQLite: when the engine is away", () => {
  test("[LOG1] a lock held by another refuses the append, and the next one works", async () => {
    const { storage, path, close } = await open({ busyTimeoutMs: 20 });
    await storage.log.append([newEvent("user:a")]);
    const other = new Database(path);
    other.exec("BEGIN IMMEDIATE");
    const refused = await storage.log.append([newEvent("user:a")]).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(Unavailable);
    other.exec("ROLLBACK");
    other.close();
    const { appended } = await storage.log.append([newEvent("user:a")]);
    expect(appended[0]).toMatchObject({ seq: 2, position: 2 });
    await close();
  });

  test("a file that is no database refuses to start, and a later start works", async () => {
    const path = newPath();
    await Bun.write(path, "This is a letter, not a database. ".repeat(100));
    const storage = createSqliteStorage({ path });
    expect(await storage.start().catch((error: unknown) => error)).toBeInstanceOf(Unavailable);
    expect(await storage.prove().catch((error: unknown) => error)).toBeInstanceOf(Unavailable);
    await rm(path);
    await storage.prove();
    await storage.stop();
  });

  test("before a start and after a stop every call is refused", async () => {
    const storage = createSqliteStorage({ path: newPath() });
    expect(await storage.prove().catch((error: unknown) => error)).toBeInstanceOf(Unavailable);
    await storage.start();
    const last = storage.log.append([newEvent("user:a")]);
    await storage.stop();
    expect((await last).appended[0]!.seq).toBe(1);
    expect(await storage.log.watermark().catch((error: unknown) => error)).toBeInstanceOf(Unavailable);
    await storage.stop();
  });

  test("[LOG1] calls that were given up count until the worker is done with them: they wait for it all the same", async () => {
    const path = newPath();
    const calls = new WorkerCalls({
      engine: { path, durability: "process", busyTimeoutMs: 30_000 },
      spawn: () => new Worker(new URL("../../src/storage/sqlite/worker.ts", import.meta.url).href),
      callsMax: 3,
      callTimeoutMs: 50,
    });
    await calls.start();
    const other = new Database(path);
    other.exec("BEGIN IMMEDIATE");
    const refusalOf = (call: Promise<unknown>) => call.then(String, String);
    const late = [calls.call("append", [newEvent("user:a")]), calls.call("watermark"), calls.call("watermark")].map(
      refusalOf,
    );
    for (const refusal of await Promise.all(late)) expect(refusal).toContain("not answered in time");
    expect(await refusalOf(calls.call("watermark"))).toContain("Too many calls");
    other.exec("ROLLBACK");
    other.close();
    let end = await refusalOf(calls.call("watermark"));
    while (end !== "1")
      end = await new Promise<string>((resolve) => setImmediate(() => resolve(refusalOf(calls.call("watermark")))));
    await calls.stop();
  });

  test("[LOG1] answers are told of before they are given out, so that whoever reads then has what they say was written", async () => {
    const told: string[] = [];
    const calls = new WorkerCalls({
      engine: { path: newPath(), durability: "process", busyTimeoutMs: 100 },
      spawn: () => new Worker(new URL("../../src/storage/sqlite/worker.ts", import.meta.url).href),
      onAnswers: () => told.push("answers"),
      callsMax: 3,
      callTimeoutMs: 30_000,
    });
    await calls.start();
    told.length = 0;
    await calls.call("append", [newEvent("user:a")]).then(() => told.push("given out"));
    expect(told).toEqual(["answers", "given out"]);
    await calls.stop();
  });

  test("when the worker dies all calls are refused, and the next one starts another worker", async () => {
    const workers: Worker[] = [];
    const calls = new WorkerCalls({
      engine: { path: newPath(), durability: "process", busyTimeoutMs: 100 },
      spawn: () => {
        const worker = new Worker(new URL("../../src/storage/sqlite/worker.ts", import.meta.url).href);
        workers.push(worker);
        return worker;
      },
      callsMax: 3,
      callTimeoutMs: 30_000,
    });
    await calls.start();
    await calls.call("append", [newEvent("user:a")]);
    const pending = [1, 2, 3, 4].map(() => calls.call("watermark").catch((error: unknown) => error));
    workers[0]!.terminate();
    const refused = await Promise.all(pending);
    expect(String(refused[3])).toContain("Too many calls");
    for (const reason of refused) expect(reason).toBeInstanceOf(Unavailable);
    expect(await calls.call("watermark")).toBe(1);
    expect(workers).toHaveLength(2);
    await calls.stop();
  });
});
