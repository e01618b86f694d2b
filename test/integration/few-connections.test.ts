/** Proves behind a real PgBouncer with too few servers that a node serves with those it has, and is unready where none is left for reading [END2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

/** A service behind a pooler of that size. */
async function openService({ size, settings }: { size: number; settings: Record<string, string> }) {
  const url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  const pooler = await startPgBouncer({ url, mode: "session", size });
  try {
    const service = await startService({
      settings: {
        STORAGE__URL: pooler.url,
        // The start must be through with its own questions within this, however busy the machine is.
        STORAGE__QUERY_TIMEOUT: "5s",
        WEBSOCKET__MAX_CONNECTIONS: "100",
        ...settings,
      },
    });
    return { url, pooler, service };
  } catch (error) {
    await pooler.stop();
    throw error;
  }
}

async function becomes(service: Service, status: 200 | 503): Promise<void> {
  while ((await fetch(`${service.http}/ready`)).status !== status) await Bun.sleep(100);
}

const textsOf = ({ logs }: Service, pattern: RegExp) => logs.map(({ msg }) => msg).filter((msg) => pattern.test(msg));

test.concurrent("[END2] [CON1] who comes in is served by the connections that there are, and that they are few is told once", async () => {
  // One appends and one listens: one is left to read with.
  const { pooler, service } = await openService({ size: 3, settings: { STORAGE__OUTBOX: "false" } });
  const clients = await Promise.all(
    Array.from({ length: 20 }, (_, at) => Client.connect(service.url, { query: { user_id: `user${at}` } })),
  );
  const [anna] = clients;
  await anna!.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "hello" });
  const line = await service.logged(({ msg }) => msg === "PostgreSQL gives fewer connections than this node wants");
  expect(line).toMatchObject({ level: "warn", wanted: 10 });
  expect(JSON.stringify(line.err)).toContain("storage.pool_size");
  await Promise.all(clients.map((client) => client.ask("history", { topic: "conversation:c1" })));
  expect((await fetch(`${service.http}/ready`)).status).toBe(200);
  expect(service.logs.filter(({ level }) => level !== "info")).toEqual([line]);
  await service.stop();
  await pooler.stop();
});

test.concurrent("[END2] a node that has no connection left to read with is unready and says which setting it is, once, and so is its end", async () => {
  const settings = { STORAGE__POOL_SIZE: "3", STORAGE__OUTBOX: "false" };
  const { url, pooler, service } = await openService({ size: 3, settings });
  await becomes(service, 200);
  // Waits for a server, and has the next one that becomes free.
  const other = postgres(pooler.url, { max: 1, connection: { application_name: "other" }, onnotice: () => {} });
  let isHeld = false;
  const held = other`SELECT 1`.then(() => {
    isHeld = true;
  });
  while (!isHeld) {
    await runSql(
      url,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ws-service'
         AND query NOT LIKE '%prove_writes%' AND query NOT ILIKE '%listen%'`,
    );
    await Promise.race([held, Bun.sleep(100)]);
  }
  await becomes(service, 503);
  const refused = await RawSocket.refused(service.url, { query: { user_id: "ben" } });
  expect([refused.status, refused.body.code]).toEqual([503, "unavailable"]);
  const line = await service.logged(({ msg }) => msg === "the storage answers no reads");
  expect(line.level).toBe("error");
  expect(JSON.stringify(line.err)).toContain("No connection of storage.pool_size could be had within 5000 ms");

  await other.end();
  await becomes(service, 200);
  await (await Client.connect(service.url, { query: { user_id: "ben" } })).ask("ping", {});
  await service.logged(({ msg }) => msg === "the storage answers reads again");
  expect(textsOf(service, /^the storage (answers|takes|refuses writes)/)).toEqual([
    "the storage answers no reads",
    "the storage answers reads again",
  ]);
  await service.stop();
  await pooler.stop();
});
