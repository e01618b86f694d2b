/** Proves that triggers and grants that are missing after a restore are told, at the start and by config check, with what to paste [PUB2] [PUB3]. */

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { createPostgresStorage, type PostgresStorageOptions } from "../../src/storage/postgres/storage.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { freePorts } from "../support/free-ports.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";
import { program } from "../support/program.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
let url: string;
beforeAll(async () => {
  server = await startPostgres();
  url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
});
afterAll(() => server?.stop());

async function noticesOf(options: Partial<PostgresStorageOptions> = {}): Promise<string[]> {
  const notices: string[] = [];
  const outbox = { rejectedKeptMs: 1_000 };
  const storage = createPostgresStorage({ url, poolSize: 3, outbox, onNotice: (it) => notices.push(it), ...options });
  await storage.start();
  await storage.stop();
  return notices;
}

/** Finds what is to be pasted: all after the sentence. */
const cureOf = (notice: string) =>
  /(CREATE( OR REPLACE)? (TRIGGER|INDEX)|ALTER TABLE|DROP TRIGGER|GRANT) .*;$/.exec(notice)?.[0] ?? "";

async function configCheck(settings: Record<string, string> = {}) {
  const env = { WS__STORAGE__URL: url, ...settings, PATH: process.env.PATH ?? "" };
  const child = Bun.spawn([...program, "config", "check"], {
    cwd: "/",
    env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

test("[PUB2] [PUB3] triggers of ours that were dropped or switched off are told, and what is told puts them back", async () => {
  expect(await noticesOf()).toEqual([]);
  expect(await configCheck()).toEqual({ code: 0, stdout: "ok\n", stderr: "" });
  await runSql(url, "DROP TRIGGER membership_changed ON ws.members; DROP TRIGGER outbox_wake ON ws.outbox");
  await runSql(url, "ALTER TABLE ws.users DISABLE TRIGGER user_updated");
  // As an older version had it.
  await runSql(
    url,
    `CREATE OR REPLACE TRIGGER joining_noted AFTER INSERT OR UPDATE OF conversation_id ON ws.members
      FOR EACH ROW EXECUTE FUNCTION ws.note_joining()`,
  );
  const notices = await noticesOf();
  expect(notices.map((it) => it.replace(/: what is written.*/, ""))).toEqual([
    "The trigger membership_changed of ws.members is missing",
    "The trigger user_updated of ws.users is disabled",
    "The trigger outbox_wake of ws.outbox is missing",
    "The trigger joining_noted of ws.members is not this version's",
  ]);
  const { code, stderr } = await configCheck();
  expect({ code, notes: stderr.split("\n").filter(Boolean) }).toEqual({
    code: 0,
    notes: notices.map((it) => `note: ${it}`),
  });
  for (const notice of notices) await runSql(url, cureOf(notice));
  expect(await noticesOf()).toEqual([]);
});

test("[LOG1] [END2] a sequence that is behind the log is told at the start and by config check, and what is told mends it", async () => {
  const database = await server.newDatabase();
  await migrateStorage({ url: database, lockTimeoutMs: 10_000 });
  const topics = "INSERT INTO ws.topics (topic_id, name) OVERRIDING SYSTEM VALUE VALUES (1, 'user:a')";
  const columns = "topic_id, position, seq, created_at, id, type, payload";
  await runSql(database, `${topics}; INSERT INTO ws.events (${columns}) VALUES (1, 7, 1, 1, 'e', 'order.paid', '{}')`);
  const [notice, ...others] = await noticesOf({ url: database });
  expect(others).toEqual([]);
  expect(notice).toStartWith("The sequence ws.positions is behind the log: ");
  const { code, stdout, stderr } = await configCheck({ WS__STORAGE__URL: database });
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "ok\n", stderr: `note: ${notice}\n` });
  await runSql(database, /SELECT setval.*;$/.exec(notice!)![0]);
  expect(await noticesOf({ url: database })).toEqual([]);
  expect(await runSql(database, "SELECT last_value AS end FROM ws.positions")).toEqual([{ end: "7" }]);
});

test.each([
  ["DELETE FROM ws.installation", "The table ws.installation is empty. Put back its one row: "],
  ["ALTER TABLE ws.installation RENAME TO elsewhere", 'relation "ws.installation" does not exist'],
  ["ALTER SEQUENCE ws.positions RENAME TO elsewhere", 'relation "ws.positions" does not exist'],
])("[END2] %s: config check refuses what the start would", async (loss, told) => {
  const database = await server.newDatabase();
  await migrateStorage({ url: database, lockTimeoutMs: 10_000 });
  await runSql(database, loss);
  const { code, stdout, stderr } = await configCheck({ WS__STORAGE__URL: database });
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toContain(told);
});

const membersTriggers = [
  "CREATE OR REPLACE TRIGGER ws_membership AFTER INSERT OR UPDATE OR DELETE ON app.room_members FOR EACH ROW EXECUTE FUNCTION ws.notify_membership_changed('room_id', 'account_id');",
  "CREATE OR REPLACE TRIGGER ws_membership_truncated AFTER TRUNCATE ON app.room_members FOR EACH STATEMENT EXECUTE FUNCTION ws.notify_membership_changed();",
] as const;
const ownTables = { directory: { users: "app.ws_users", members: "app.ws_members" } };

test("[PUB3] tables under the views of an application that tell of nothing are told, with their own columns", async () => {
  await runSql(
    url,
    `CREATE SCHEMA app;
    CREATE TABLE app.accounts (id bigint PRIMARY KEY, blocked boolean);
    CREATE TABLE app.room_members (room_id uuid, account_id bigint, left_at timestamptz, PRIMARY KEY (room_id, account_id));
    CREATE INDEX by_account ON app.room_members (account_id, room_id);
    CREATE VIEW app.present AS SELECT * FROM app.room_members WHERE left_at IS NULL;
    CREATE VIEW app.ws_users AS SELECT id::text AS user_id, blocked AS disabled FROM app.accounts;
    CREATE VIEW app.ws_members AS SELECT room_id AS conversation_id, account_id AS user_id FROM app.present`,
  );
  const notices = await noticesOf(ownTables);
  expect(notices.map(cureOf)).toEqual([
    "CREATE OR REPLACE TRIGGER ws_user AFTER INSERT OR UPDATE OR DELETE ON app.accounts FOR EACH ROW EXECUTE FUNCTION ws.notify_user_changed('id');",
    membersTriggers.join(" "),
  ]);
  await runSql(url, cureOf(notices[0]!));
  // Triggers of the application's own that tell are enough, too.
  await runSql(
    url,
    `CREATE FUNCTION app.tell() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN PERFORM ws.notify_directory('{"op": "resync"}'); RETURN NULL; END $$;
    CREATE TRIGGER tells AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON app.room_members FOR EACH STATEMENT EXECUTE FUNCTION app.tell()`,
  );
  expect(await noticesOf(ownTables)).toEqual([]);
  await runSql(url, `DROP TRIGGER tells ON app.room_members; ${membersTriggers.join(" ")}`);
  expect(await noticesOf(ownTables)).toEqual([]);
});

test.each<[string, events: string, cure: string]>([
  ["DROP TRIGGER ws_membership ON app.room_members", "INSERT, UPDATE, DELETE", membersTriggers[0]],
  [
    "ALTER TABLE app.room_members DISABLE TRIGGER ws_membership",
    "INSERT, UPDATE, DELETE",
    "ALTER TABLE app.room_members ENABLE TRIGGER ws_membership;",
  ],
  ["DROP TRIGGER ws_membership_truncated ON app.room_members", "TRUNCATE", membersTriggers[1]],
  [membersTriggers[0].replace("INSERT OR UPDATE OR DELETE", "INSERT"), "UPDATE, DELETE", membersTriggers[0]],
  [membersTriggers[0].replace("UPDATE", "UPDATE OF room_id"), "UPDATE", membersTriggers[0]],
  [
    membersTriggers[0].replace("'room_id', 'account_id'", "'account_id', 'room_id'"),
    "INSERT, UPDATE, DELETE (ws_membership does not name the columns of the ids)",
    membersTriggers[0],
  ],
  [
    membersTriggers[0].replace("'room_id', 'account_id'", ""),
    "INSERT, UPDATE, DELETE (ws_membership does not name the columns of the ids)",
    membersTriggers[0],
  ],
])("[PUB3] %s: what is told of no more is named, and what puts it back", async (loss, events, cure) => {
  await runSql(url, loss);
  const [notice, ...others] = await noticesOf(ownTables);
  expect(others).toEqual([]);
  expect(notice).toBe(
    `directory.members: no enabled trigger of app.room_members that calls ws.notify_… tells of ${events}, so that live connections do not hear of it. ${cure}`,
  );
  await runSql(url, cure);
  expect(await noticesOf(ownTables)).toEqual([]);
});

test("[PUB3] the docs' trigger of users is enough, one for insertions is not; ids without an index are told", async () => {
  const trigger = (events: string) =>
    `CREATE OR REPLACE TRIGGER ws_user AFTER ${events} ON app.accounts FOR EACH ROW EXECUTE FUNCTION ws.notify_user_changed('id')`;
  await runSql(url, trigger("INSERT"));
  expect((await noticesOf(ownTables)).map((it) => /tells of ([A-Z, ]+), so/.exec(it)?.[1])).toEqual(["UPDATE, DELETE"]);
  await runSql(url, `${trigger("INSERT OR DELETE OR UPDATE OF blocked")}; DROP INDEX app.by_account`);
  const notices = await noticesOf(ownTables);
  expect(notices).toEqual([
    "directory.members: no index of app.room_members begins with account_id, so that connections and subscriptions become slow. CREATE INDEX CONCURRENTLY ON app.room_members (account_id, room_id);",
  ]);
  await runSql(url, cureOf(notices[0]!));
  expect(await noticesOf(ownTables)).toEqual([]);
});

test("[PUB3] rights that the service's role lacks are told in one sentence, and granting them is enough", async () => {
  const role = `reader_${process.pid}`;
  await runSql(
    url,
    `CREATE ROLE ${role} LOGIN; GRANT USAGE ON SCHEMA ws TO ${role}; GRANT SELECT ON ALL TABLES IN SCHEMA ws TO ${role}`,
  );
  const asRole = { url: Object.assign(new URL(url), { username: role }).href };
  const notices = await noticesOf(asRole);
  expect(notices).toHaveLength(1);
  expect(notices[0]).toContain(
    `The role ${role} lacks INSERT, UPDATE, DELETE on ws.blocks, ws.conversations, ws.cursors, `,
  );
  await runSql(url, cureOf(notices[0]!));
  expect(await noticesOf(asRole)).toEqual([]);
  // Without these the start is refused at its first question, and what to paste is told all the same.
  await runSql(url, `REVOKE SELECT ON ws.epochs FROM ${role}; REVOKE SELECT ON SEQUENCE ws.positions FROM PUBLIC`);
  const { code, stderr } = await configCheck({ WS__STORAGE__URL: asRole.url });
  const [note, refusal] = stderr.split("\n");
  expect({ code, refusal }).toEqual({ code: 1, refusal: expect.stringContaining("permission denied for ") });
  expect(note).toContain(`The role ${role} lacks SELECT on ws.epochs; SELECT on the sequence ws.positions. `);
  await runSql(url, cureOf(note!));
  expect(await noticesOf(asRole)).toEqual([]);
  await runSql(url, "GRANT SELECT ON SEQUENCE ws.positions TO PUBLIC");
  await runSql(url, `DROP OWNED BY ${role}; DROP ROLE ${role}`);
});

test("[PUB3] triggers that a SQLite file lacks are told, and what is told puts them back", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ws-triggers-"));
  const path = join(folder, "chat.db");
  async function noticesOfFile(): Promise<string[]> {
    const notices: string[] = [];
    const storage = createSqliteStorage({ path, onNotice: (it) => notices.push(it) });
    await storage.start();
    await storage.stop();
    return notices;
  }
  expect(await noticesOfFile()).toEqual([]);
  const run = (text: string) => {
    using file = new Database(path);
    // As the docs have it for other programs: the service's own worker may still be closing the file.
    file.exec(`PRAGMA busy_timeout = 5000; ${text}`);
  };
  run(`DROP TRIGGER members_deleted; DROP TRIGGER users_updated; DROP TRIGGER users_inserted;
    CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN SELECT 1; END`);
  const notices = await noticesOfFile();
  expect(notices.map((it) => it.replace(/: what is written.*/, ""))).toEqual([
    "The trigger members_deleted of the SQLite file is missing",
    "The trigger users_inserted of the SQLite file is not this version's",
    "The trigger users_updated of the SQLite file is missing",
  ]);
  for (const notice of notices) run(cureOf(notice));
  expect(await noticesOfFile()).toEqual([]);
  rmSync(folder, { recursive: true, force: true });
});

test("[OPS2] what the start would refuse is a fault for config check, in one line; PostgreSQL that is out of reach a note", async () => {
  const refused = (said: RegExp) => ({ code: 1, stdout: "", stderr: expect.stringMatching(said) });
  expect(await configCheck({ WS__STORAGE__URL: await server.newDatabase() })).toEqual(
    refused(
      /^ws-service: storage\.url: [^\n]*no tables of ws-service in a schema "ws" yet\. Run: ws-service migrate\n$/,
    ),
  );
  expect(await configCheck({ WS__STORAGE__URL: Object.assign(new URL(url), { pathname: "/gone" }).href })).toEqual(
    refused(/^ws-service: storage\.url: [^\n]*database "gone" does not exist\n$/),
  );
  await runSql(url, "UPDATE ws.schema_version SET version = version + 1");
  expect(await configCheck()).toEqual(refused(/^ws-service: storage\.url: [^\n]*newer build[^\n]*\n$/));
  await runSql(url, "UPDATE ws.schema_version SET version = version - 1");
  const [port] = await freePorts(1);
  expect(await configCheck({ WS__STORAGE__URL: `postgres://127.0.0.1:${port}/chat` })).toEqual({
    code: 0,
    stdout: "ok\n",
    stderr: expect.stringMatching(/^note: storage\.url: [^\n]*ECONNREFUSED[^\n]*\n$/),
  });
});
