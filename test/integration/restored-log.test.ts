/** Proves on both engines what a client is told that has seen more of a topic than a log has that was restored from a backup. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { cursorAt } from "../support/cursors.ts";
import { sendAll } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { program, projectFolder } from "../support/program.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

async function migratedDatabase(): Promise<string> {
  const url = await server.newDatabase();
  const child = Bun.spawn([...program, "migrate"], {
    env: { WS__STORAGE__URL: url },
    stdout: "ignore",
    stderr: "inherit",
  });
  expect(await child.exited).toBe(0);
  return url;
}

test("[LOG4] [LOG6] SQLite: after an older file was put in its place only who comes from beyond it loads anew, however far it has come since", async () => {
  const settings = { WEBSOCKET__CLEANUP_INTERVAL: "1h" };
  let service = await startService({ settings });
  const { folder } = service;
  const restart = async (between: () => void) => {
    service.signal("SIGTERM");
    await service.exited;
    between();
    service = await startService({ settings, folder });
  };
  const connect = (device_id: string) => Client.connect(service.url, { query: { user_id: "anna", device_id } });
  const resume = async (since: unknown) => {
    const client = await connect("other");
    const { topics } = await client.ask("subscribe", { topics: ["conversation:c1"], since });
    return topics[0];
  };
  const files = [join(folder, "data"), join(folder, "kept")] as const;
  try {
    let anna = await connect("phone");
    await sendAll(anna, "c1", ["1", "2", "3"]);
    const before = (await anna.ask("ping")).cursor;
    await anna.ask("ack", { cursor: before });
    await restart(() => cpSync(...files, { recursive: true }));
    expect(await resume({ cursor: before })).toMatchObject({ recovered: true, replayed: 0 });
    anna = await connect("phone");
    await sendAll(anna, "c1", ["4", "5"]);
    const beyond = (await anna.ask("ping")).cursor;
    await anna.ask("ack", { cursor: beyond });
    await restart(() => {
      rmSync(files[0], { recursive: true });
      cpSync(files[1], files[0], { recursive: true });
    });
    anna = await connect("phone");
    await sendAll(anna, "c1", ["other 4", "other 5", "other 6"]);
    expect(await resume({ cursor: before })).toMatchObject({ recovered: true, replayed: 3, seq: 6 });
    expect(await resume({ cursor: beyond })).toMatchObject({ recovered: false, seq: 6 });
    const phone = await connect("phone");
    const acked = await phone.ask("subscribe", { topics: ["conversation:c1"], since: "acked" });
    expect(acked.topics[0]).toMatchObject({ recovered: true, replayed: 3, seq: 6 });
  } finally {
    await service.stop();
  }
});

const engines: { engine: string; settings: () => Promise<Record<string, string>> }[] = [
  { engine: "SQLite", settings: async () => ({}) },
  { engine: "PostgreSQL", settings: async () => ({ STORAGE__URL: await migratedDatabase() }) },
];

for (const { engine, settings } of engines) {
  test(`[LOG4] [LOG5] ${engine}: a topic of which more was seen than there is says that it is not recovered, and it alone`, async () => {
    const service = await startService({ settings: await settings() });
    try {
      const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
      for (const c of ["c1", "c2"]) await sendAll(anna, c, ["1", "2", "3", "4", "5"]);
      const { cursor } = await anna.ask("ping");
      const back = await Client.connect(service.url, { query: { user_id: "anna" } });
      const { topics } = await back.ask("subscribe", {
        topics: ["conversation:c1", "conversation:c2", "conversation:unused"],
        since: {
          cursor: cursorAt(cursor, 3),
          seen: { "conversation:c1": 9, "conversation:c2": 5, "conversation:unused": 1 },
        },
      });
      expect(topics).toMatchObject([
        { topic: "conversation:c1", seq: 5, recovered: false, replayed: 0 },
        { topic: "conversation:c2", seq: 5, recovered: true, replayed: 0 },
        { topic: "conversation:unused", seq: 0, recovered: false, replayed: 0 },
      ]);
      await sendAll(anna, "c1", ["new"]);
      expect(await back.next("message.new")).toMatchObject({ topic: "conversation:c1", seq: 6 });
    } finally {
      await service.stop();
    }
  });
}

test("[LOG4] PostgreSQL: a database that was dropped and made anew under a running service is told as another installation", async () => {
  const url = await migratedDatabase();
  // A server that knows nothing of the log counts as left behind by a failover for half a minute.
  const entry = join(projectFolder, "test/support/hurried-service.ts");
  const service = await startService({ settings: { STORAGE__URL: url }, entry });
  const name = new URL(url).pathname.slice(1);
  await server.run(`DROP DATABASE ${name} WITH (FORCE)`);
  await server.run(`CREATE DATABASE ${name}`);
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  const line = await service.logged(({ msg }) => String(msg).startsWith("the database is another installation now"));
  expect(line).toMatchObject({ level: "error", installation: expect.any(String), now: expect.any(String) });
  await service.stop();
});
