/** Proves that what keeps the service from starting is told in one sentence that names the setting, without a stack or a secret. */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SQL } from "bun";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { freePorts } from "../support/free-ports.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";
import { program } from "../support/program.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

setDefaultTimeout(60_000);

let database: PostgresServer;
let redis: RedisServer;
let folder: string;
beforeAll(async () => {
  [database, redis] = await Promise.all([startPostgres(), startRedis({ settings: ["--requirepass", "open sesame"] })]);
  folder = mkdtempSync(join(tmpdir(), "ws-start-"));
});
afterAll(async () => {
  await Promise.all([database?.stop(), redis?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

async function run(word: "serve" | "migrate", settings: Record<string, string>) {
  const given = { SERVER__PORT: "0", LOG__LEVEL: "silent", ...settings };
  const child = Bun.spawn([...program, word], {
    cwd: folder,
    env: Object.fromEntries(Object.entries(given).map(([name, value]) => [`WS__${name}`, value])),
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const [stderr, code] = await Promise.all([child.stderr.text(), child.exited]);
  return { stderr, code };
}

/** Reads what the service says when it does not start: one line after its name. */
async function refusalOf(settings: Record<string, string>, exitCode = 1): Promise<string> {
  const { stderr, code } = await run("serve", settings);
  expect({ code, stderr }).toEqual({ code: exitCode, stderr: expect.stringMatching(/^ws-service: [^\n]+\n$/) });
  expect(stderr).not.toContain("hunter2");
  return stderr.slice("ws-service: ".length).trimEnd();
}

async function migrated({ by = "" } = {}): Promise<string> {
  const url = await database.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  if (by !== "") await runSql(url, by);
  return url;
}

test("[OPS2] PostgreSQL that refuses is told by storage.url, without its password", async () => {
  const [port] = await freePorts(1);
  const refusal = await refusalOf({ STORAGE__URL: `postgres://app:hunter2@127.0.0.1:${port}/chat` });
  expect(refusal).toStartWith(`storage.url: postgres://app:********@127.0.0.1:${port}/chat cannot be used: `);
  expect(refusal).toContain("ECONNREFUSED");
  for (const unreadable of [`app:hunter2@127.0.0.1:${port}:1/chat`, `app:hunter1/hunter2@127.0.0.1:${port}/chat`]) {
    for (const command of ["serve", "migrate"] as const) {
      const { stderr } = await run(command, { STORAGE__URL: `postgres://${unreadable}` });
      expect(stderr).toContain('storage.url: "postgres://app:********@127.0.0.1:');
      expect(stderr).not.toContain("hunter");
    }
  }
});

test("[OPS2] [MSG4] events that only the service tells of cannot be let clients send", async () => {
  const refusal = await refusalOf({ EVENTS: "poll.vote=logged,typing.start=passing,admin.any=logged" }, 78);
  expect(refusal).toBe(
    "events: typing.start, admin.any: types of the protocol's own, or kept for it, are not for clients to send",
  );
  expect(await run("serve", { EVENTS: "poll.vote=sometimes" })).toEqual({
    stderr: expect.stringContaining("events.poll.vote"),
    code: 78,
  });
});

test("[OPS2] a database without the schema, with another one's, or that may not be read is told with what to do", async () => {
  const empty = await database.newDatabase();
  expect(await refusalOf({ STORAGE__URL: empty })).toMatch(
    /^storage\.url: .*no tables of ws-service in a schema "ws" yet\. Run: ws-service migrate$/,
  );
  const newer = await migrated({ by: "UPDATE ws.schema_version SET version = version + 1" });
  expect(await refusalOf({ STORAGE__URL: newer })).toMatch(/^storage\.url: .*newer build/);
  const foreign = new URL(await migrated({ by: "CREATE ROLE stranger LOGIN" }));
  foreign.username = "stranger";
  expect(await refusalOf({ STORAGE__URL: foreign.href })).toMatch(/^storage\.url: .*permission denied for schema ws$/);
});

test.each([
  ["emptied", "DELETE FROM ws.schema_version", "ws.schema_version is empty"],
  ["set to 0", "UPDATE ws.schema_version SET version = 0", "ws.schema_version has version 0"],
])("[OPS2] a version of the schema that somebody has %s is told by serve and by migrate", async (_, by, said) => {
  const url = await migrated({ by });
  expect(await refusalOf({ STORAGE__URL: url })).toContain(said);
  const { code, stderr } = await run("migrate", { STORAGE__URL: url });
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^[^\n]*: not migrated: [^\n]*\n$/) });
  expect(stderr).toContain(said);
});

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[OPS2] what a standby, a role without rights or one that may not log in is refused is said in PostgreSQL's words",
  async () => {
    const url = await migrated({
      by: "CREATE ROLE locked; CREATE ROLE half LOGIN; GRANT USAGE ON SCHEMA ws TO half; GRANT SELECT ON ws.schema_version TO half",
    });
    const as = (role: string) => ({ STORAGE__URL: Object.assign(new URL(url), { username: role }).href });
    expect(await refusalOf(as("locked"))).toMatch(/^storage\.url: .*role "locked" is not permitted to log in$/);
    expect(await refusalOf(as("half"))).toMatch(/^storage\.url: .*permission denied for table topics$/);
    const empty = await database.newDatabase();
    await database.halt();
    await database.resume("standby");
    expect(await refusalOf({ STORAGE__URL: url })).toMatch(
      /^storage\.url: .*cannot append in a read-only transaction, or to a standby$/,
    );
    const { code, stderr } = await run("migrate", { STORAGE__URL: empty });
    const said = /^[^\n]*: not migrated: cannot execute [^\n]*\n$/;
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(said) });
    await database.halt();
    await database.resume();
  },
);

test("[PUB3] a view of the directory that cannot be used is told by its setting", async () => {
  const url = await migrated({ by: "CREATE SCHEMA app; CREATE VIEW app.people AS SELECT 'anna' AS user_id" });
  const settings = { STORAGE__URL: url, DIRECTORY__MODE: "managed", DIRECTORY__USERS: "app.people" };
  const refusal = await refusalOf(settings);
  expect(refusal).toBe('directory.users: app.people cannot be used: column "disabled" does not exist.');
});

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[OPS2] [PUB3] [LOG9] each view of the application's that the service may not read, or not all of, is told by its setting",
  async () => {
    const url = await migrated({
      by: `CREATE ROLE viewer LOGIN; GRANT USAGE ON SCHEMA ws TO viewer; GRANT ALL ON ALL TABLES IN SCHEMA ws TO viewer;
        CREATE SCHEMA app; CREATE VIEW app.people AS SELECT 'anna' AS user_id, false AS disabled;
        CREATE VIEW app.seats AS SELECT 'c1' AS conversation_id, 'anna' AS user_id, now() AS joined_at, true AS may_write;
        CREATE VIEW app.rooms AS SELECT 'c1' AS conversation_id, interval '1 day' AS retention; GRANT USAGE ON SCHEMA app TO viewer;
        GRANT SELECT ON app.people, app.seats, app.rooms TO viewer`,
    });
    const settings = {
      STORAGE__URL: Object.assign(new URL(url), { username: "viewer" }).href,
      DIRECTORY__MODE: "managed",
      DIRECTORY__USERS: "app.people",
      DIRECTORY__MEMBERS: "app.seats",
      DIRECTORY__CONVERSATIONS: "app.rooms",
    };
    await using sql = new SQL(url, { max: 1 });
    for (const [setting, view, columns] of [
      ["users", "people", ""],
      ["members", "seats", ""],
      ["members", "seats", "(conversation_id, user_id, joined_at)"],
      ["members", "seats", "(conversation_id, user_id, may_write)"],
      ["conversations", "rooms", ""],
      ["conversations", "rooms", "(conversation_id)"],
    ]) {
      await sql.unsafe(`REVOKE ALL ON app.${view} FROM viewer`);
      if (columns !== "") await sql.unsafe(`GRANT SELECT ${columns} ON app.${view} TO viewer`);
      expect(await refusalOf(settings)).toBe(
        `directory.${setting}: app.${view} cannot be used: permission denied for view ${view}.`,
      );
      await sql.unsafe(`GRANT SELECT ON app.${view} TO viewer`);
    }
  },
);

test("[OPS2] what PostgreSQL does not take of the options in the URL is told by its setting", async () => {
  const url = `${await migrated()}?options=-c%20sslmodes%3D1`;
  expect(await refusalOf({ STORAGE__URL: url })).toMatch(
    /^storage\.url: postgres:.* cannot be used: PostgreSQL: unrecognized configuration parameter "sslmodes"/,
  );
});

test("[OPS2] Redis that wants another password is told by cluster.url, its address and its own words", async () => {
  const url = await migrated();
  const wrong = await refusalOf({ STORAGE__URL: url, CLUSTER__URL: `redis://:hunter2@127.0.0.1:${redis.port}` });
  expect(wrong).toMatch(/^cluster\.url: redis:\/\/:\*+@127\.0\.0\.1:\d+ cannot be used: .*WRONGPASS/);
});

test("[END1] [END3] an address that is taken, or another machine's, is told by its setting", async () => {
  using other = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
  const taken = `127.0.0.1:${other.port}`;
  expect(await refusalOf({ SERVER__PORT: String(other.port) })).toBe(
    `server.port: ${taken} is in use by another process.`,
  );
  expect(await refusalOf({ OPERATIONS__LISTEN: taken })).toBe(
    `operations.listen: ${taken} is in use by another process.`,
  );
  // Of a range that is kept for examples.
  expect(await refusalOf({ SERVER__HOST: "192.0.2.1", AUTH__BEHIND_GATEWAY: "true" })).toStartWith(
    "server.host: 192.0.2.1:0 cannot be listened on",
  );
});
