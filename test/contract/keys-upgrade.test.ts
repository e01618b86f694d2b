/** Proves that keys which the first release has stored are found by what a retry asks for after the upgrade [LOG2]. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Storage } from "../../src/storage/ports.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { firstFile, firstSchema } from "../support/first-release.ts";
import { newEvent } from "../support/new-event.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

const topics = ["conversation:c:1", "conversation:c2", "user:u 1"];
/** Topic, the key as the first release stored it, and the one that stands for it now; null: another one's stands for it. */
const keys: [topic: number, old: string, now: string | null][] = [
  [0, "message:anna b:m:1", "sent:anna b:c 1:m:1"],
  [1, "message:anna:m2", "sent:anna:c2:m2"],
  [1, "event:shop:conversation:c2:order:7", "key:conversation:c2:order:7"],
  [1, "event:other:conversation:c2:order:7", null],
  [1, "stream-key:conversation:c2:order:7", null],
  [1, "stream-key:conversation:c2:order:8", "key:conversation:c2:order:8"],
  [1, "event:shop:conversation:c2:message:p:1", "id:conversation:c2:p:1"],
  [1, "stream-key:conversation:c2:message:p:1", null],
  [1, "event:shop:conversation:c2:a:message:1", "key:conversation:c2:a:message:1"],
  [1, "stream:1-0:hash:conversation:c2", "stream:1-0:hash:conversation:c2"],
  [1, "receipt:read:c2:anna:7", "receipt:read:c2:anna:7"],
];
const rows = keys.map(([topic, old], index) => ({ topic, key: old, position: index + 1 }));

async function expectFound({ log }: Storage) {
  const found = keys.filter(([, , now]) => now !== null);
  const events = found.map(([topic, , now]) =>
    newEvent(topics[topic]!, { once: { keys: [now!], digest: "whatever is said" } }),
  );
  const { appended } = await log.append(events);
  expect(appended).toEqual(
    found.map(([topic, old]) => {
      const { position } = rows.find(({ key }) => key === old)!;
      return { topic: topics[topic]!, seq: position, position, id: `e${position}`, createdAt: 5, duplicate: true };
    }),
  );
  // The old names are nobody's.
  const old = keys.filter(([, before, now]) => before !== now).map(([, before]) => before);
  const again = await log.append(old.map((key) => newEvent("user:b", { once: { keys: [key] } })));
  expect(again.appended.some(({ duplicate }) => duplicate)).toBe(false);
}

test("[LOG2] SQLite: a key of before the upgrade answers as the first time", async () => {
  const folder = await mkdtemp(join(tmpdir(), "ws-keys-"));
  const path = join(folder, "log.db");
  const database = new Database(path);
  database.exec(firstFile);
  for (const [index, name] of topics.entries()) {
    database.run("INSERT INTO topics VALUES (?, ?, 20, 20, 0, 0)", [index + 1, name]);
  }
  for (const { topic, key, position } of rows) {
    database.run(
      "INSERT INTO idempotency_keys (key, topic_id, seq, position, event_id, created_at) VALUES (?, ?, ?, ?, ?, 5)",
      [key, topic + 1, position, position, `e${position}`],
    );
  }
  database.close();
  const storage = createSqliteStorage({ path });
  await storage.start();
  await expectFound(storage);
  await storage.stop();
  await rm(folder, { recursive: true, force: true });
});

test("[LOG2] PostgreSQL: a key of before the upgrade answers as the first time", async () => {
  const schema = server.newSchema();
  await server.run(firstSchema(schema));
  for (const { topic, key, position } of rows) {
    await server.run(`INSERT INTO ${schema}.idempotency_keys (key, topic, seq, position, event_id, created_at)
      VALUES ('${key}', '${topics[topic]}', ${position}, ${position}, 'e${position}', 5)`);
  }
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  const storage = createPostgresStorage({ url: server.url, schema });
  await storage.start();
  await expectFound(storage);
  await storage.stop();
});
