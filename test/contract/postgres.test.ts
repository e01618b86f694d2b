/** Holds the PostgreSQL storage to the contracts. */
import { afterAll, beforeAll } from "bun:test";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { describeCursorsStatusesContract } from "./cursors-statuses.ts";
import { describeDirectoryContract } from "./directory.ts";
import { describeEventLogContract } from "./event-log.ts";
import type { Opened } from "./opened.ts";
import { describeReceiptsContract } from "./receipts.ts";

let server: PostgresServer;

beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

async function open(): Promise<Opened> {
  const schema = server.newSchema();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  const storage = createPostgresStorage({ url: server.url, schema, poolSize: 6 });
  await storage.start();
  return {
    storage,
    async close() {
      await storage.stop();
      await server.dropSchema(schema);
    },
  };
}

describeEventLogContract("PostgreSQL", open);
describeReceiptsContract("PostgreSQL", open);
describeCursorsStatusesContract("PostgreSQL", open);
describeDirectoryContract("PostgreSQL", open);
