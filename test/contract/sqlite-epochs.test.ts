/** Proves what begins an epoch of the log in a SQLite file, and which cursors hold after it [LOG4]. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Storage } from "../../src/storage/ports.ts";
import { createSqliteStorage, type SqliteStorageOptions } from "../../src/storage/sqlite/storage.ts";
import { newEvents } from "../support/new-event.ts";
import { trimAll } from "./trim-all.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ws-sqlite-epochs-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function open(path: string, options: Partial<SqliteStorageOptions> = {}): Promise<Storage> {
  const storage = createSqliteStorage({ path, ...options });
  await storage.start();
  return storage;
}

/** The cursor at the end, once so many events more are in the log. */
async function append({ log }: Storage, count: number): Promise<string> {
  const { appended } = await log.append(newEvents("user:a", count));
  return log.epochs.cursorOf(appended.at(-1)!.position);
}

const holds = ({ log }: Storage, cursors: string[]) => cursors.map((cursor) => log.epochs.read(cursor)?.holds ?? false);

test("[LOG4] SQLite: a restart is another epoch in which all cursors hold; a file that was put back ends those beyond it", async () => {
  const path = join(folder, "swapped", "log.db");
  const first = await open(path);
  const cursors = [await append(first, 5)];
  await first.stop();
  cpSync(join(folder, "swapped"), join(folder, "kept"), { recursive: true });
  const second = await open(path);
  cursors.push(await append(second, 5));
  expect(holds(second, cursors)).toEqual([true, true]);
  await second.stop();
  const third = await open(path);
  expect(holds(third, cursors)).toEqual([true, true]);
  cursors.push(await append(third, 1));
  await third.stop();

  rmSync(join(folder, "swapped"), { recursive: true });
  cpSync(join(folder, "kept"), join(folder, "swapped"), { recursive: true });
  const restored = await open(path);
  expect(holds(restored, cursors)).toEqual([true, false, false]);
  // Also once it has come as far again.
  await append(restored, 50);
  expect(holds(restored, cursors)).toEqual([true, false, false]);
  await restored.stop();
});

test("[LOG4] SQLite: processes that share the file are in one epoch, which goes on while one of them is there", async () => {
  const path = join(folder, "shared", "log.db");
  const [one, other] = [await open(path, { isShared: true }), await open(path, { isShared: true })];
  expect(other.log.epochs.current).toEqual(one.log.epochs.current);
  const cursor = await append(one, 3);
  await other.stop();
  const again = await open(path, { isShared: true });
  await append(one, 3);
  await one.log.movedSince(0, 1);
  expect(again.log.epochs.current).toEqual(one.log.epochs.current);
  await Promise.all([one.stop(), again.stop()]);
  const last = await open(path, { isShared: true });
  expect(last.log.epochs.current.no).toBe(one.log.epochs.current.no + 1);
  expect(holds(last, [cursor])).toEqual([true]);
  await last.stop();
});

test("[LOG4] SQLite: epochs that retention does not keep are forgotten, and there are never more than a bound", async () => {
  const path = join(folder, "many", "log.db");
  await (await open(path, { now: () => 1_000 })).stop();
  const database = new Database(path);
  database.exec(`WITH RECURSIVE n (no) AS (SELECT 10 UNION ALL SELECT no + 1 FROM n WHERE no < 2000)
    INSERT INTO epochs SELECT no, printf('e%07d', no), 0, 0, 'start', no FROM n`);
  database.close();
  const storage = await open(path, { now: () => 5_000 });
  expect(storage.log.epochs.list).toHaveLength(1_000);
  await trimAll(storage.log, { createdBefore: 1_990, eventsPerTopic: 10 });
  await storage.stop();
  const after = await open(path, { now: () => 6_000 });
  expect(after.log.epochs.list[0]!.createdAt).toBe(1_989);
  await after.stop();
});
