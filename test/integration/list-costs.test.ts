/** Counts what the storage is asked for a list of conversations: as much for a thousand as for a hundred [REC3] [SUB1]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { routes } from "../../src/handlers/routes.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { WorkerCalls } from "../../src/storage/sqlite/worker-calls.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { Client } from "../support/client.ts";
import { fresh } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);

/** Tells what a statement that reads lists is for; the service asks others by itself, from time to time. */
const kinds = {
  conversations: /SELECT conversation_id::text AS id FROM ws\.members WHERE user_id = \$1$/,
  memberships: /SELECT conversation_id::text AS id, /,
  counts: /AS "conversationId", m\.count/,
  heads: /FROM ws\.heads\(/,
  overviews: /topic, as_of_seq AS/,
  oneByOne: /receipt_states|FROM ws\.receipts|ws\.page_of|AS payload/,
};

let said = "";
let told: (() => void) | null = null;
let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres({
    settings: ["log_statement=all", "log_line_prefix=%a|"],
    onSaid(text) {
      said += text;
      told?.();
    },
  });
});
afterAll(() => postgres.stop());

/** Makes a user a member of conversations with a message each. */
async function makeList(url: string, count: number): Promise<{ user: string; ids: string[] }> {
  const [user, prefix] = [fresh("user"), fresh("list")];
  const ids = Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
  const anna = await Client.connect(url, { query: { user_id: user } });
  await anna.ask("subscribe", { topics: ["conversation"], filters: { conversation_ids: ids } });
  // A backend's: they share batches of the log, and nobody is asked who may write.
  const backend = await Client.connect(url, { query: { user_id: "backend", roles: "service" } });
  const payload = { sender_id: "ben", content: "hello" };
  await Promise.all(
    ids.map((id) => backend.ask("publish", { topic: `conversation:${id}`, type: "message.new", payload })),
  );
  await Promise.all([anna.close(), backend.close()]);
  return { user, ids };
}

async function subscribe(url: string, { user, ids }: { user: string; ids: string[] }, topics: object) {
  const anna = await Client.connect(url, { query: { user_id: user, device_id: fresh("device") } });
  const answer = await anna.ask("subscribe", topics);
  expect(answer.topics).toHaveLength(ids.length);
  for (const { snapshot } of answer.topics)
    expect(snapshot).toMatchObject({ unread: 1, last_message: { payload: { content: "hello" } }, receipts: [] });
  return anna;
}

/** Counts the service's statements of each kind since the last time. */
async function statements(): Promise<Record<string, number>> {
  const mark = fresh("mark_");
  await postgres.run(`SELECT '${mark}'`);
  await new Promise<void>((resolve) => {
    told = () => void (said.includes(mark) && resolve());
    told();
  });
  const lines = said.split("\n").filter((line) => line.startsWith("ws-service|LOG:"));
  said = "";
  const count = (pattern: RegExp) => lines.filter((line) => pattern.test(line)).length;
  return Object.fromEntries(Object.entries(kinds).map(([kind, pattern]) => [kind, count(pattern)]));
}

test("[REC3] PostgreSQL is asked as often for 1,000 conversations as for 100", async () => {
  const url = await postgres.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 5_000 });
  // Nothing of the directory is remembered.
  const start = () => startService({ settings: { STORAGE__URL: url, DIRECTORY__CACHE_TTL: "0s" } });
  for (const count of [100, 500, 1_000]) {
    const maker = await start();
    const list = await makeList(maker.url, count).finally(() => maker.stop());
    // One that has followed none of the topics.
    const service = await start();
    try {
      // Of memberships who may hear, and who may write; the head of the user's own topics is asked for as well.
      const asked = { memberships: 2, counts: 1, heads: 2, overviews: 1, oneByOne: 0 };
      await statements();
      await (await subscribe(service.url, list, { topics: ["conversation"] })).close();
      expect(await statements()).toEqual({ conversations: 1, ...asked });
      const filters = { conversation_ids: list.ids };
      await (await subscribe(service.url, list, { topics: ["conversation"], filters })).close();
      // By now they are followed here.
      expect(await statements()).toEqual({ conversations: 0, ...asked, heads: 0 });
    } finally {
      await service.stop();
    }
  }
});

test("[REC3] SQLite's worker is called once for 250 conversations, so that others get their turn, and never for one of them", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ws-list-costs-"));
  const env = {
    WS__SERVER__PORT: "0",
    WS__STORAGE__URL: `sqlite:${join(folder, "list.db")}`,
    WS__RATE_LIMITS__ENABLED: "false",
    WS__DIRECTORY__CACHE_TTL: "0s",
  };
  const { config } = await loadConfig({ cwd: folder, env });
  const { logger } = createLogSink({ level: "silent", format: "json" });
  const call = WorkerCalls.prototype.call;
  let asked: string[] = [];
  WorkerCalls.prototype.call = function (this: WorkerCalls, ...called: Parameters<typeof call>) {
    asked.push(called[0]);
    return call.apply(this, called);
  } as typeof call;
  const app = await startApp({ config, routes, logger, version: "test" });
  try {
    const url = `ws://127.0.0.1:${app.port}/ws`;
    for (const count of [100, 500, 1_000]) {
      const list = await makeList(url, count);
      asked = [];
      const anna = await subscribe(url, list, { topics: ["conversation"] });
      await anna.close();
      const times = (operation: string) => asked.filter((it) => it === operation).length;
      expect(times("overviews")).toBe(Math.ceil(count / 250));
      expect(times("memberCounts")).toBe(Math.ceil(count / 500));
      expect(times("receiptStates") + times("page") + times("range")).toBe(0);
      expect(times("heads")).toBeLessThan(4);
      expect(times("membershipsAmong")).toBeLessThan(4);
    }
  } finally {
    WorkerCalls.prototype.call = call;
    await app.drain();
    rmSync(folder, { recursive: true, force: true });
  }
});
