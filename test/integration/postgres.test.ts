/** The service on PostgreSQL: migrated first, told of changes by the application's own SQL, and there again after a crash. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { type PostgresServer, runSql, startPostgres } from "../support/postgres.ts";
import { program } from "../support/program.ts";
import { startService } from "../support/service.ts";

let server: PostgresServer;
let folder: string;
beforeAll(async () => {
  server = await startPostgres();
  folder = mkdtempSync(join(tmpdir(), "ws-service-postgres-"));
});
afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function migrate(url: string) {
  const child = Bun.spawn([...program, "migrate"], {
    cwd: folder,
    env: { WS__STORAGE__URL: url },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, text: stdout + stderr };
}

async function newDatabase(): Promise<string> {
  const url = await server.newDatabase();
  expect((await migrate(url)).code).toBe(0);
  return url;
}

test("[OPS2] migrate makes the schema once; until then serve refuses and says so", async () => {
  const url = await server.newDatabase();
  const refusal = await startService({ settings: { STORAGE__URL: url } }).catch((error: unknown) => error);
  expect(String(refusal)).toContain("ws-service migrate");
  expect(await migrate(url)).toMatchObject({ code: 0, text: expect.stringContaining("schema made, version") });
  expect(await migrate(url)).toMatchObject({ code: 0, text: expect.stringContaining("already") });
  await runSql(url, "UPDATE ws.schema_version SET version = version + 1");
  expect(await migrate(url)).toMatchObject({ code: 1, text: expect.stringContaining("newer build") });
  const newer = await startService({ settings: { STORAGE__URL: url } }).catch((error: unknown) => error);
  expect(String(newer)).toContain("newer build");
});

test("[LOG1] [LOG4] what was acknowledged is replayed after a kill -9 of the service", async () => {
  const url = await newDatabase();
  const settings = { STORAGE__URL: url };
  const conversation = { topics: ["conversation"], filters: { conversation_id: "c1" } };
  const first = await startService({ settings });
  const [anna, ben] = await Promise.all(
    ["anna", "ben"].map((user_id) => Client.connect(first.url, { query: { user_id } })),
  );
  const { cursor } = await ben!.ask("subscribe", conversation);
  await anna!.ask("subscribe", conversation);
  for (const content of ["one", "two"]) {
    await anna!.ask("message.send", { conversation_id: "c1", client_message_id: content, content });
  }
  await ben!.next("message.new", (payload) => payload.content === "two");
  await first.kill();
  const second = await startService({ settings, folder: first.folder });
  const again = await Client.connect(second.url, { query: { user_id: "ben" } });
  await again.ask("subscribe", { ...conversation, since: { cursor } });
  expect(again.all("message.new").map(({ payload }) => payload.content)).toEqual(["one", "two"]);
  const sender = await Client.connect(second.url, { query: { user_id: "anna" } });
  const ack = await sender.ask("message.send", { conversation_id: "c1", client_message_id: "two", content: "two" });
  expect(ack).toMatchObject({ seq: 2, duplicate: true });
  await second.stop();
});

test("[SUB3] [AUTH4] [PUB3] the application's own SQL adds and removes members and disables users", async () => {
  const url = await newDatabase();
  await runSql(url, "INSERT INTO ws.users (user_id) VALUES ('anna'), ('ben')");
  const service = await startService({ settings: { STORAGE__URL: url, DIRECTORY__MODE: "managed" } });
  const [anna, ben] = await Promise.all(
    ["anna", "ben"].map((user_id) => Client.connect(service.url, { query: { user_id } })),
  );
  await ben!.ask("subscribe", { topics: ["conversation"] });
  await runSql(url, "INSERT INTO ws.members (conversation_id, user_id) VALUES ('c1', 'anna'), ('c1', 'ben')");
  await ben!.next(
    "subscribed",
    (payload, { reply_to }) => reply_to === undefined && topicsOf(payload).includes("conversation:c1"),
  );
  await anna!.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "welcome" });
  await ben!.next("message.new", (payload) => payload.content === "welcome");
  await runSql(url, "DELETE FROM ws.members WHERE user_id = 'ben'");
  const revoked = await ben!.next("unsubscribed", (payload) => payload.reason === "access_revoked");
  expect(revoked.payload.topics).toContain("conversation:c1");
  await anna!.ask("message.send", { conversation_id: "c1", client_message_id: "m2", content: "alone" });
  await ben!.settled();
  expect(ben!.all("message.new")).toHaveLength(1);
  await runSql(url, "UPDATE ws.users SET disabled = true WHERE user_id = 'ben'");
  expect((await ben!.closed).code).toBe(4011);
  await service.stop();
});

test("[PUB3] [ENV4] what is the application's own view is not an administrator's to change, and the answer says so", async () => {
  const url = await newDatabase();
  await runSql(
    url,
    `CREATE SCHEMA app;
     CREATE TABLE app.people AS SELECT 'root' AS user_id, false AS disabled;
     CREATE TABLE app.seats (conversation_id text, user_id text);
     CREATE VIEW app.ws_users AS SELECT * FROM app.people;
     CREATE VIEW app.ws_members AS SELECT * FROM app.seats`,
  );
  const directory = {
    DIRECTORY__MODE: "managed",
    DIRECTORY__USERS: "app.ws_users",
    DIRECTORY__MEMBERS: "app.ws_members",
  };
  const service = await startService({ settings: { STORAGE__URL: url, ...directory } });
  const admin = await Client.connect(service.url, { query: { user_id: "root", roles: "admin" } });
  const members = { conversation_id: "c1", user_ids: ["root"] };
  for (const [type, payload, what] of [
    ["admin.members.add", members, "directory.members names app.ws_members"],
    ["admin.members.remove", members, "directory.members names app.ws_members"],
    ["admin.users.upsert", { user_ids: ["root"] }, "directory.users names app.ws_users"],
    ["admin.users.disable", { user_id: "root" }, "directory.users names app.ws_users"],
  ] as const) {
    expect((await admin.request(type, payload)).payload).toEqual({
      code: "forbidden",
      message: `${what}, which the application alone writes to.`,
      retryable: false,
    });
  }
  await service.stop();
});

const topicsOf = (payload: { topics: { topic: string }[] }) => payload.topics.map(({ topic }) => topic);

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[LOG1] [LOG2] over a crash of PostgreSQL clients stay connected, are told `unavailable`, and go on with the same key",
  async () => {
    const url = await newDatabase();
    const service = await startService({ settings: { STORAGE__URL: url } });
    const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
    const message = { conversation_id: "c1", client_message_id: "m1", content: "hello" };
    await anna.ask("message.send", message);
    await server.halt();
    const next = { ...message, client_message_id: "m2" };
    const refused = await anna.request("message.send", next);
    expect(refused).toMatchObject({ type: "error", payload: { code: "unavailable", retryable: true } });
    await server.resume();
    let answer = await anna.request("message.send", next);
    while (answer.type === "error") {
      expect(answer.payload.code).toBe("unavailable");
      answer = await anna.request("message.send", next);
    }
    expect(answer.payload).toMatchObject({ seq: 2, duplicate: false });
    await service.stop();
  },
);
