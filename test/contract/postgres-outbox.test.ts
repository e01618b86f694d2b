/** The outbox as an inbox on a real PostgreSQL: what one page holds, and what becomes of rejected rows [PUB2]. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { type ConnectionEvents, openConnection } from "../../src/storage/postgres/connection.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { PostgresOutbox } from "../../src/storage/postgres/outbox.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

setDefaultTimeout(60_000);

let server: PostgresServer;
let schema: string;
let outbox: PostgresOutbox;
/** The application. */
let sql: postgres.Sql;

beforeAll(async () => {
  server = await startPostgres();
  // The default takes seconds for what is large here.
  const connection = { default_toast_compression: "lz4" };
  sql = postgres(server.url, { max: 1, onnotice: () => {}, connection });
});
afterAll(async () => {
  await sql?.end({ timeout: 1 });
  await server?.stop();
});
beforeEach(async () => {
  schema = server.newSchema();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  const open = (events: ConnectionEvents) =>
    openConnection({ url: server.url, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000, ...events });
  outbox = new PostgresOutbox({ open, schema, queryTimeoutMs: 5_000, rejectedKeptMs: 60_000 });
  await outbox.start();
});
afterEach(async () => {
  await outbox.stop();
  await server.dropSchema(schema);
});

const write = (rows: number, textLength: number) =>
  sql.unsafe(`INSERT INTO ${schema}.outbox (topic, type, payload)
    SELECT 'user:u1', 'a', text.payload || jsonb_build_object('n', n)
    FROM (SELECT jsonb_build_object('text', repeat('x', ${textLength})) AS payload) AS text, generate_series(1, ${rows}) AS n`);
const taken = async () => (await outbox.take())!.map(({ fields }) => JSON.parse(fields.payload!).n as number);

test("[PUB2] a page ends at its number of rows, and at its bytes with the row that passes them", async () => {
  await write(501, 10);
  expect(await taken()).toEqual(Array.from({ length: 500 }, (_, index) => index + 1));
  await sql.unsafe(`TRUNCATE ${schema}.outbox`);
  expect(await taken()).toEqual([]);
  await write(3, 3 * 1024 * 1024);
  expect(await taken()).toEqual([1, 2]);
});

test("[PUB2] however much large rows wait, the first of them are taken", async () => {
  await write(200, 5 * 1024 * 1024);
  expect(await taken()).toEqual([1]);
});

test("[PUB2] what was rejected long ago goes a little at a time, so that its number holds nothing up", async () => {
  await sql.unsafe(`INSERT INTO ${schema}.outbox_rejected (key, topic, type, payload, created_at, rejected_at, reason)
    SELECT gen_random_uuid(), 'user:u1', 'a', '{}', now(), now() - interval '1 day', n FROM generate_series(1, 2500) AS n`);
  const left: number[] = [];
  for (let round = 0; round < 3; round++) {
    await write(1, 10);
    const [entry] = (await outbox.take())!;
    await outbox.reject([{ entry: entry!, reason: "new" }]);
    const rows = await sql.unsafe(`SELECT FROM ${schema}.outbox_rejected WHERE reason <> 'new'`);
    left.push(rows.length);
  }
  expect(left).toEqual([1_500, 500, 0]);
  expect(await outbox.take()).toEqual([]);
  expect(await sql.unsafe(`SELECT FROM ${schema}.outbox_rejected`)).toHaveLength(3);
});

test("[PUB2] a flood of notifications that anybody may send leads to few looks, and what is written is found all the same", async () => {
  const ended = new AbortController();
  const found = Promise.withResolvers<void>();
  let looks = 0;
  const draining = (async () => {
    while (!ended.signal.aborted) {
      looks++;
      if ((await outbox.take())!.length > 0) found.resolve();
      else await outbox.wait(ended.signal);
    }
  })();
  for (let n = 0; n < 2_000; n++) await sql.unsafe(`NOTIFY ${schema}_outbox, '${n}'`);
  expect(looks).toBeLessThan(100);
  await write(1, 10);
  await found.promise;
  ended.abort();
  await draining;
});
