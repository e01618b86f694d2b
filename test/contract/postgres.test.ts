/** Holds the PostgreSQL storage to the contracts, and its schema to being made and upgraded as it should be. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { amendmentRows } from "../../src/storage/postgres/amendments.ts";
import { closeConnection, openConnection, type Parameter } from "../../src/storage/postgres/connection.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { schemaVersion } from "../../src/storage/postgres/schema.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { type EmptySchemas, lendEmptySchemas } from "../support/empty-schemas.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { describeAtOnceContract } from "./at-once.ts";
import { describeConversationsContract } from "./conversations.ts";
import { describeCursorsStatusesContract } from "./cursors-statuses.ts";
import { describeDirectoryContract } from "./directory.ts";
import { describeErasuresContract } from "./erasures.ts";
import { describeEventLogContract } from "./event-log.ts";
import { deleted, describeMessagesContract, message } from "./messages.ts";
import { describeMessagesModel } from "./messages-model.ts";
import type { Opened } from "./opened.ts";
import { describeOverviewsContract } from "./overviews.ts";
import { describePushContract } from "./push.ts";
import { describeReceiptsContract } from "./receipts.ts";

let server: PostgresServer;
let schemas: EmptySchemas;

beforeAll(async () => {
  server = await startPostgres();
  schemas = lendEmptySchemas(server);
});
afterAll(async () => {
  await schemas?.close();
  await server?.stop();
});

async function open(options: { now?: () => number } = {}): Promise<Opened & { schema: string }> {
  const schema = await schemas.take();
  const storage = createPostgresStorage({ url: server.url, schema, poolSize: 6, ...options });
  await storage.start();
  return {
    storage,
    schema,
    async close() {
      await storage.stop();
      await schemas.giveBack(schema);
    },
  };
}

describeEventLogContract("PostgreSQL", open);
describeMessagesContract("PostgreSQL", open);
describe("messages contract: PostgreSQL", () => describeMessagesModel(open));
describeReceiptsContract("PostgreSQL", open);
describeOverviewsContract("PostgreSQL", open);
describeCursorsStatusesContract("PostgreSQL", open);
describeDirectoryContract("PostgreSQL", open);
describePushContract("PostgreSQL", open);
describeConversationsContract("PostgreSQL", open);
describeErasuresContract("PostgreSQL", open);
describeAtOnceContract("PostgreSQL", open);

test("[MSG2] PostgreSQL: of the messages that a batch deletes no more are read at once than a page has, whoever asks for it", async () => {
  const { storage, close, schema } = await open();
  const content = "x".repeat(3 * 1024 * 1024);
  for (let at = 0; at < 8; at++) await storage.log.append([message(`m${at}`, content)]);
  const { sql, ready } = openConnection({ url: server.url, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 });
  await ready;
  const read: number[] = [];
  const pool = {
    async query<Row extends object>(text: string, parameters: Parameter[] = []) {
      const rows = await sql.unsafe<Row[]>(text, parameters);
      read.push(JSON.stringify(rows).length);
      return rows;
    },
  };
  for (const sentBy of ["ann", "bob"]) {
    const events = Array.from({ length: 8 }, (_, at) => deleted(`m${at}`, { sentBy }));
    const rows = await amendmentRows(events, { pool, schema });
    expect(rows.match(sentBy === "ann" ? /deleted_at/g : /unknown/g)).toHaveLength(8);
  }
  expect(read.length).toBeGreaterThan(4);
  expect(Math.max(...read)).toBeLessThan(12 * 1024 * 1024);
  await closeConnection(sql);
  await close();
});

describe("PostgreSQL: the schema", () => {
  const refusalOf = (work: Promise<unknown>) => work.then(() => null).catch((error: unknown) => error);
  const migrateTo = (schema: string) => migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });

  test("many nodes migrate at once, and one of them makes it", async () => {
    const schema = server.newSchema();
    const done = await Promise.all(Array.from({ length: 8 }, () => migrateTo(schema)));
    expect(done.filter(({ from }) => from === 0)).toHaveLength(1);
    expect(done.every(({ to }) => to === schemaVersion)).toBe(true);
    expect(await migrateTo(schema)).toEqual({ from: schemaVersion, to: schemaVersion });
  });

  test("a schema that is missing, older or newer is refused with what to run, and left as it is", async () => {
    const schema = server.newSchema();
    const start = () => createPostgresStorage({ url: server.url, schema }).start();
    const missing = await refusalOf(start());
    expect(missing).toBeInstanceOf(Unavailable);
    expect(String(missing)).toContain("Run: ws-service migrate");
    await migrateTo(schema);
    for (const version of [schemaVersion - 1, schemaVersion + 1]) {
      await server.run(`UPDATE ${schema}.schema_version SET version = ${version}`);
      const refusal = await refusalOf(start());
      expect(refusal).toBeInstanceOf(Unavailable);
      expect(String(refusal)).toContain("ws-service migrate");
      expect(await server.run(`SELECT version FROM ${schema}.schema_version`)).toEqual([{ version }]);
    }
    expect(String(await refusalOf(migrateTo(schema)))).toContain(`has version ${schemaVersion + 1}`);
  });

  test("a name that is no plain identifier is refused", () => {
    for (const schema of ["Ws", "ws; --", "", "1ws"]) {
      expect(() => createPostgresStorage({ url: server.url, schema })).toThrow("a schema's name");
    }
  });

  test("[LOG1] positions are dense, also after the newest events were removed", async () => {
    const { storage, close } = await open();
    await storage.log.append(newEvents("user:a", 3, { createdAt: 1 }));
    await storage.log.trim({ createdBefore: 2, eventsPerTopic: 1, batch: 100 });
    const { appended } = await storage.log.append([newEvent("user:a"), newEvent("user:b")]);
    expect(appended.map(({ position }) => position)).toEqual([4, 5]);
    await close();
  });

  test("before a start and after a stop every call is refused; what was under way is answered", async () => {
    const schema = server.newSchema();
    await migrateTo(schema);
    const storage = createPostgresStorage({ url: server.url, schema });
    expect(await refusalOf(storage.prove())).toBeInstanceOf(Unavailable);
    await storage.start();
    const last = storage.log.append([newEvent("user:a")]);
    await storage.stop();
    expect((await last).appended[0]!.seq).toBe(1);
    expect(await refusalOf(storage.log.watermark())).toBeInstanceOf(Unavailable);
    await storage.stop();
  });
});
