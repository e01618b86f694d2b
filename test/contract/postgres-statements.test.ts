/** Statements that are asked past the client library, against a real PostgreSQL: whatever pieces bytes come and go in. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect, createServer, type Server, type Socket } from "node:net";
import { closeConnection, dropConnection, openConnection } from "../../src/storage/postgres/connection.ts";
import { freePorts } from "../support/free-ports.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server.stop());

const opened = async (url = server.url, onClosed?: () => void) => {
  const connection = openConnection({ url, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000, onClosed });
  await connection.ready;
  return connection;
};

const everyType = `SELECT $1::bigint AS big, $2::text AS text, $3::boolean AS yes, null::text AS none, 1.5::float8 AS half,
  7::smallint AS small, '{"x": [1]}'::json AS json, ''::text AS empty`;
const everyValue = { none: null, half: 1.5, small: 7, json: { x: [1] }, empty: "" };

test("[ENV7] values of every type come back as what they are, the first time and later", async () => {
  const { sql, ask } = await opened();
  for (const [big, text, yes] of [
    [5, "hé\u{1f600}\n", true],
    [2 ** 53 - 1, "", false],
    [-1, '"\\', null],
  ] as const) {
    expect(await ask<object>(everyType, [big, text, yes])).toEqual([{ big, text, yes, ...everyValue }]);
    const [asked] = await sql.unsafe(everyType, [big, text, yes], { prepare: true });
    expect(await ask<object>(everyType, [big, text, yes])).toEqual([{ ...asked }]);
  }
  expect(await ask("SELECT n FROM generate_series(1, 3) AS g (n) WHERE n > $1", [3])).toEqual([]);
  expect(await ask("SET work_mem = '1MB'", [])).toEqual([]);
  await closeConnection(sql);
});

test("[ENV7] what is larger than a socket takes at once goes and comes whole", async () => {
  const { sql, ask } = await opened();
  const text = "é\u{1f600}x".repeat(2_000_000);
  const [row] = await ask<{ text: string; many: number }>(
    "SELECT $1::text AS text, (SELECT sum(length($1)) FROM generate_series(1, 2))::bigint AS many",
    [text],
  );
  expect(row!.text === text).toBe(true);
  expect(row!.many).toBe(2 * [...text].length);
  const rows = await ask<{ n: number; text: string }>(
    "SELECT n, repeat('é', 100) AS text FROM generate_series(1, $1) AS g (n)",
    [20_000],
  );
  expect(rows.every(({ n, text }, index) => n === index + 1 && text === "é".repeat(100))).toBe(true);
  expect(rows.length).toBe(20_000);
  await closeConnection(sql);
});

test("[ENV7] answers that come byte by byte are read as any, those of the library too", async () => {
  const slow = await byteByByte(Number(new URL(server.url).port));
  const url = new URL(server.url);
  url.port = String(slow.port);
  const { sql, ask } = await opened(url.href);
  for (let round = 0; round < 3; round++) {
    expect(await ask<object>(everyType, [round, "hé", true])).toEqual([
      { big: round, text: "hé", yes: true, ...everyValue },
    ]);
    expect([...(await sql.unsafe<{ one: number }[]>("SELECT 1 AS one"))] as object[]).toEqual([{ one: 1 }]);
    await expect(ask("SELECT 1 / $1::int", [0])).rejects.toMatchObject({ code: "22012" });
  }
  await closeConnection(sql);
  slow.stop();
});

test("[ENV7] a refusal says what the server says, and the next statement is answered", async () => {
  const { sql, ask } = await opened();
  await ask("CREATE TEMPORARY TABLE once (n int CONSTRAINT only_once PRIMARY KEY)", []);
  const add = (n: number) => ask("INSERT INTO once VALUES ($1)", [n]);
  await add(1);
  await expect(add(1)).rejects.toMatchObject({ name: "PostgresError", code: "23505", constraint_name: "only_once" });
  await expect(ask("SELECT nothing", [])).rejects.toMatchObject({
    code: "42703",
    message: expect.stringMatching(/nothing/),
  });
  await expect(ask("SELECT nothing", [])).rejects.toMatchObject({ code: "42703" });
  await expect(ask("SELECT $1::int AS n", ["x"])).rejects.toMatchObject({ code: "22P02" });
  expect(await ask("SELECT $1::int AS n", [2])).toEqual([{ n: 2 }]);
  await add(2);
  expect(await ask("SELECT n FROM once ORDER BY n", [])).toEqual([{ n: 1 }, { n: 2 }]);
  await closeConnection(sql);
});

test("[ENV7] what the server has forgotten, or knows otherwise by now, is prepared anew", async () => {
  const { sql, ask } = await opened();
  await sql.unsafe("CREATE TEMPORARY TABLE grown (a int)");
  await ask("INSERT INTO grown VALUES ($1)", [1]);
  expect(await ask("SELECT * FROM grown", [])).toEqual([{ a: 1 }]);
  await sql.unsafe("ALTER TABLE grown ADD COLUMN b text DEFAULT 'new'");
  expect(await ask("SELECT * FROM grown", [])).toEqual([{ a: 1, b: "new" }]);
  await sql.unsafe("DEALLOCATE ALL");
  expect(await ask("SELECT * FROM grown", [])).toEqual([{ a: 1, b: "new" }]);
  await closeConnection(sql);
});

test("[ENV7] what is asked before there is a session is answered in its turn", async () => {
  const { sql } = openConnection({ url: server.url, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 });
  const answers = await Promise.all(["one", "two"].map((word) => sql.unsafe<object[]>(`SELECT '${word}' AS word`)));
  expect(answers.map((rows) => [...rows])).toEqual([[{ word: "one" }], [{ word: "two" }]]);
  await closeConnection(sql);
});

test("[ENV4] a connection that is given up while it is made leaves no session behind", async () => {
  const accepted = Promise.withResolvers<Socket>();
  const listener = createServer((socket) => accepted.resolve(socket));
  const port = await listening(listener);
  const { sql, ready } = openConnection({
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    connectTimeoutMs: 5_000,
    statementTimeoutMs: 5_000,
  });
  await accepted.promise;
  dropConnection(sql);
  const socket = await accepted.promise;
  await new Promise((closed) => socket.resume().on("close", closed));
  await expect(ready).rejects.toThrow();
  listener.close();
});

test("[ENV4] where nobody listens the connection is refused by name", async () => {
  const [port] = await freePorts(1);
  const { ready } = openConnection({
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    connectTimeoutMs: 5_000,
    statementTimeoutMs: 5_000,
  });
  await expect(ready).rejects.toMatchObject({ code: "ECONNREFUSED" });
});

async function listening(listener: Server): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<void>();
  listener.listen(0, "127.0.0.1", resolve);
  await promise;
  return (listener.address() as { port: number }).port;
}

/** Passes on what the server says in pieces of one byte, each in a turn of its own. */
async function byteByByte(to: number) {
  const listener = createServer((client) => {
    const upstream = connect(to, "127.0.0.1").setNoDelay(true);
    client.setNoDelay(true).pipe(upstream);
    const bytes: number[] = [];
    let isSending = false;
    const sendNext = () => {
      const next = bytes.shift();
      isSending = next !== undefined;
      if (next !== undefined) client.write(Buffer.of(next), () => setImmediate(sendNext));
    };
    upstream.on("data", (piece: Buffer) => {
      for (const byte of piece) bytes.push(byte);
      if (!isSending) sendNext();
    });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const)
      one.on("error", () => other.destroy()).on("close", () => other.destroy());
  });
  const port = await listening(listener);
  return { port, stop: () => void listener.close() };
}
