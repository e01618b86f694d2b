/** Asks prepared statements of a real PostgreSQL: what comes back is what the client itself would read, and a refusal costs nothing but its statement. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { closeConnection, openConnection, type PostgresConnection } from "../../src/storage/postgres/connection.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
let connection: PostgresConnection;
beforeAll(async () => {
  server = await startPostgres();
  connection = openConnection({ url: server.url, connectTimeoutMs: 10_000, statementTimeoutMs: 0 });
  await connection.ready;
});
afterAll(async () => {
  if (connection) await closeConnection(connection.sql);
  await server?.stop();
});

test("values of all types are read as the client reads them, the first time and again", async () => {
  const text = `SELECT $1::bigint AS big, $2::text AS text, $3::boolean AS yes, $4::integer AS "none", $5::text[] AS list,
    '{"a":[1]}'::json AS json, '\\x00ff'::bytea AS bytes, 1.5::float8 AS fraction, 7::smallint AS small`;
  const given = [2 ** 53 - 1, 'ä\n"\\ 🙂', true, null, '{"a","b"}'];
  const [own] = await connection.sql.unsafe(text, given, { prepare: true });
  for (let time = 0; time < 3; time++) expect(await connection.ask(text, given)).toEqual([{ ...own }]);
});

test("texts and answers of megabytes, of many rows and of none come whole", async () => {
  const long = "ä€🙂".repeat(300_000);
  expect(await connection.ask("SELECT $1::text AS text, length($1) AS length", [long])).toEqual([
    { text: long, length: 900_000 },
  ]);
  const many = "SELECT n, repeat('x', 1000) AS text FROM generate_series(1, $1::integer) AS n";
  const rows = (await connection.ask(many, [5_000])) as { n: number; text: string }[];
  expect(rows.map(({ n }) => n)).toEqual(Array.from({ length: 5_000 }, (_, index) => index + 1));
  expect(rows.every(({ text }) => text.length === 1_000)).toBe(true);
  expect(await connection.ask(many, [0])).toEqual([]);
});

test("what is refused says why by its code, and the next statement is answered", async () => {
  const refusals = [
    ["SELECT * FROM nowhere WHERE a = $1", [1], "42P01"],
    ["SELECT $1::integer", ["x"], "22P02"],
    ["SELECT 1 / $1::integer AS quotient", [0], "22012"],
  ] as const;
  for (let time = 0; time < 2; time++)
    for (const [text, parameters, code] of refusals) {
      const error = await connection.ask(text, [...parameters]).catch((refusal: unknown) => refusal);
      expect(error).toMatchObject({ code, severity: "ERROR" });
      expect(await connection.ask("SELECT 1 / $1::integer AS quotient", [1])).toEqual([{ quotient: 1 }]);
    }
});

test("a plan that the server has no more, or that reads other columns now, is made anew", async () => {
  await connection.sql.unsafe("CREATE TEMPORARY TABLE things (a integer); INSERT INTO things VALUES (1)");
  const text = "SELECT * FROM things WHERE a = $1";
  expect(await connection.ask(text, [1])).toEqual([{ a: 1 }]);
  await connection.sql.unsafe("ALTER TABLE things ADD COLUMN b text DEFAULT 'new'");
  expect(await connection.ask(text, [1])).toEqual([{ a: 1, b: "new" }]);
  await connection.sql.unsafe("DEALLOCATE ALL");
  expect(await connection.ask(text, [1])).toEqual([{ a: 1, b: "new" }]);
});

test("what the server says beside the answer is passed over", async () => {
  await connection.sql.unsafe(`CREATE FUNCTION pg_temp.told(n integer) RETURNS integer LANGUAGE plpgsql AS
    $$ BEGIN RAISE NOTICE 'beside it'; PERFORM set_config('application_name', 'other', false); RETURN n; END $$`);
  expect(await connection.ask("SELECT pg_temp.told($1) AS n", [3])).toEqual([{ n: 3 }]);
  expect(await connection.ask("SELECT pg_temp.told($1) AS n", [4])).toEqual([{ n: 4 }]);
});
