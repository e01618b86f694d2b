/** Proves that what devices have acknowledged is kept over the upgrade from the first version, and over the epochs of the log. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { locate } from "../../src/subscription/starting-point.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { acknowledgeOne } from "../support/acknowledgements.ts";
import { firstFile, firstSchema } from "../support/first-release.ts";
import { newEvents } from "../support/new-event.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

let server: PostgresServer;
let folder: string;
beforeAll(async () => {
  server = await startPostgres();
  folder = mkdtempSync(join(tmpdir(), "ws-cursors-"));
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await server?.stop();
});

async function expectKept(storage: Storage, upgradedAt: number): Promise<void> {
  await storage.start();
  // A second of grace: one engine counts in whole ones.
  expect(await storage.cursors.forget(upgradedAt - 1_000, 10)).toBe(0);
  // A number of the first version is a cursor of the log as the upgrade found it.
  const acked = (await storage.cursors.acknowledged("ann", "phone"))!;
  expect(storage.log.epochs.read(acked)).toEqual({ position: 7, holds: true });
  expect(await storage.cursors.forget(Date.now() + 1_000, 10)).toBe(1);
  await storage.stop();
}

test("[LOG6] SQLite: what devices of the first version acknowledged is kept, and they count from the upgrade on", async () => {
  const path = join(folder, "log.db");
  const database = new Database(path);
  database.exec(`${firstFile}; UPDATE log_state SET position = 7;
    INSERT INTO cursors (user_id, device_id, cursor) VALUES ('ann', 'phone', 7)`);
  database.close();
  await expectKept(createSqliteStorage({ path }), Date.now());
});

test("[LOG6] PostgreSQL: what devices of the first version acknowledged is kept, and they count from the upgrade on", async () => {
  const schema = server.newSchema();
  await server.run(`${firstSchema(schema)};
    INSERT INTO ${schema}.cursors (user_id, device_id, cursor) VALUES ('ann', 'phone', 7)`);
  const upgradedAt = Date.now();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  await expectKept(createPostgresStorage({ url: server.url, schema }), upgradedAt);
});

/** Epochs that begin at these positions, one after the other; the log's own is the first. @returns their names */
const laterEpochs = (ws: string, beganAt: number[]) => {
  // Of how a server has started only PostgreSQL's know.
  const [columns, values] = ws === "" ? ["", ""] : [", ended, drawn", ", 0, 0"];
  const rows = beganAt.map(
    (position, index) => `(${1_000 + index}, 'later00${index}', ${position}, false, 'test', 0${values})`,
  );
  return `INSERT INTO ${ws}epochs (no, id, began_at, broken, line, created_at${columns}) VALUES ${rows.join()}`;
};

async function expectForwardOnly(storage: Storage, begin: (beganAt: number[]) => Promise<unknown>): Promise<void> {
  await storage.start();
  const { cursors, log } = storage;
  const first = (position: number) => log.epochs.cursorOf(position);
  const [second, third] = [1, 2].map((epoch) => (position: number) => `later00${epoch - 1}.${position.toString(36)}`);
  const acknowledge = (cursor: string) => acknowledgeOne(cursors, "ann", "phone", cursor);
  await acknowledge(first(50));
  await acknowledgeOne(cursors, "ann", "laptop", first(90));
  await acknowledgeOne(cursors, "ann", "tablet", "unknown0.a");
  // The log was stopped at 60 and lost nothing, then went back to 20.
  await begin([60]);
  expect(await acknowledge(second!(40))).toBe(first(50));
  expect(await acknowledge(second!(55))).toBe(second!(55));
  expect(await acknowledge(first(52))).toBe(second!(55));
  expect(await acknowledge(first(58))).toBe(first(58));
  // A position that the log does not have any more is worth less than anything.
  expect(await acknowledgeOne(cursors, "ann", "laptop", second!(10))).toBe(second!(10));
  expect(await acknowledgeOne(cursors, "ann", "tablet", second!(1))).toBe(second!(1));
  await begin([60, 20]);
  expect(await acknowledge(third!(15))).toBe(third!(15));
  expect(await acknowledgeOne(cursors, "ann", "laptop", third!(5))).toBe(second!(10));
  expect(await cursors.acknowledged("ann", "phone")).toBe(third!(15));
  await storage.stop();
}

test("[LOG4] [LOG6] SQLite: acknowledgements go forward over epochs, and one that the log has lost gives way", async () => {
  const path = join(folder, "epochs.db");
  const storage = createSqliteStorage({ path });
  await expectForwardOnly(storage, async (beganAt) => {
    const database = new Database(path);
    database.exec(`DELETE FROM epochs WHERE no >= 1000; ${laterEpochs("", beganAt)}`);
    database.close();
  });
});

test("[LOG4] [LOG6] PostgreSQL: acknowledgements go forward over epochs, and one that the log has lost gives way", async () => {
  const schema = server.newSchema();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  await expectForwardOnly(createPostgresStorage({ url: server.url, schema }), (beganAt) =>
    server.run(`DELETE FROM ${schema}.epochs WHERE no >= 1000; ${laterEpochs(`${schema}.`, beganAt)}`),
  );
});

test("[LOG4] PostgreSQL: a cursor of an epoch that another node has begun just before is known here", async () => {
  const schema = server.newSchema();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  const storage = createPostgresStorage({ url: server.url, schema });
  await storage.start();
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const sequencer = new Sequencer({ log: storage.log, publish() {}, hasSubscribers: () => false, logger });
  await storage.log.append(newEvents("conversation:c1", 3));
  await server.run(`INSERT INTO ${schema}.epochs SELECT no + 1, 'another0', 3, false, line, 0, 0, 0 FROM ${schema}.epochs
    ORDER BY no DESC LIMIT 1`);
  const { epochs } = storage.log;
  const cursors = ["another0.2", epochs.cursorOf(3), "another0.4", epochs.cursorOf(4), "nowhere0.2", "3"];
  expect(epochs.read("another0.2")).toBeNull();
  const positions: (number | null)[] = [];
  for (const cursor of cursors) positions.push(await locate(cursor, sequencer));
  expect(positions).toEqual([2, 3, null, null, null, null]);
  await storage.stop();
});
