/** Runs what the docs show for an application's own tables, and proves that the service follows them as is said there [PUB3]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { examplesOf } from "../support/ingest.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
  // Neither may do anything that is not granted.
  await server.run("CREATE ROLE chat LOGIN; CREATE ROLE app LOGIN");
});
afterAll(() => server?.stop());

interface Application {
  service: Service;
  sql: postgres.Sql;
  connect(userId: string): Promise<Client>;
  close(): Promise<void>;
}

/** The application's tables and the docs' examples, each side with a role of its own. */
async function startApplication({
  tables,
  examples,
  settings,
}: {
  tables: string;
  examples: string[];
  settings?: Record<string, string>;
}): Promise<Application> {
  const url = new URL(await server.newDatabase());
  const as = (role: string) => Object.assign(new URL(url), { username: role }).href;
  const operator = postgres(url.href, { max: 1, onnotice: () => {} });
  await operator.unsafe(`GRANT CREATE ON DATABASE ${url.pathname.slice(1)} TO chat, app`);
  await migrateStorage({ url: as("chat"), lockTimeoutMs: 10_000 });
  await operator.unsafe("GRANT USAGE ON SCHEMA ws TO app");
  await operator.end();
  const sql = postgres(as("app"), { max: 1, onnotice: () => {} });
  for (const text of [`CREATE SCHEMA app; ${tables}`, ...examples]) await sql.unsafe(text);
  await sql.unsafe("GRANT USAGE ON SCHEMA app TO chat; GRANT SELECT ON app.ws_users, app.ws_members TO chat");
  const service = await startService({
    settings: {
      STORAGE__URL: as("chat"),
      DIRECTORY__MODE: "managed",
      DIRECTORY__USERS: "app.ws_users",
      DIRECTORY__MEMBERS: "app.ws_members",
      ...settings,
    },
  });
  return {
    service,
    sql,
    connect: (user_id) => Client.connect(service.url, { query: { user_id } }),
    async close() {
      await service.stop();
      await sql.end({ timeout: 1 });
    },
  };
}

const docs = await examplesOf("sql", "Users, conversations and members");
const [whole, leavingOut, writing, indexes] = ["CREATE VIEW", "left_at IS NULL", "may_write", "CREATE INDEX"].map(
  (part) => docs.find((text) => text.startsWith("CREATE ") && text.includes(part)),
) as [string, string, string, string];

const room = "0b2d5a3c-7f51-4f0e-9c39-6a1a7d0e4b11";
const tables = `
  CREATE TABLE app.accounts (id bigint PRIMARY KEY, blocked boolean NOT NULL DEFAULT false);
  CREATE TABLE app.room_members (room_id uuid, account_id bigint, left_at timestamptz, PRIMARY KEY (room_id, account_id));
  INSERT INTO app.accounts VALUES (1), (2), (3)`;

const told = (client: Client, type: "subscribed" | "unsubscribed") =>
  client.next(
    type,
    ({ topics }, { reply_to }) => reply_to === undefined && JSON.stringify(topics).includes(`"conversation:${room}"`),
  );

test("[PUB3] [SUB3] [AUTH4] blocked users are closed, and members come and go, by the triggers of the docs", async () => {
  const app = await startApplication({ tables, examples: [whole] });
  const [anna, ben] = [await app.connect("1"), await app.connect("2")];
  await ben.ask("subscribe", { topics: ["conversation"] });
  await app.sql.unsafe(`INSERT INTO app.room_members VALUES ('${room}', 1), ('${room}', 2)`);
  await told(ben, "subscribed");
  await anna.ask("message.send", { conversation_id: room, client_message_id: "m1", content: "hello" });
  expect((await ben.next("message.new")).payload).toMatchObject({ sender_id: "1", conversation_id: room });
  await app.sql.unsafe("DELETE FROM app.room_members WHERE account_id = 2");
  expect((await told(ben, "unsubscribed")).payload.reason).toBe("access_revoked");
  await app.sql.unsafe("UPDATE app.accounts SET blocked = true WHERE id = 2");
  expect((await ben.closed).code).toBe(4011);
  await anna.ask("subscribe", { topics: ["conversation"] });
  await app.sql.unsafe("DELETE FROM app.accounts WHERE id = 1");
  await app.sql.unsafe("TRUNCATE app.room_members");
  expect((await told(anna, "unsubscribed")).payload.reason).toBe("access_revoked");
  await anna.settled();
  await expect(app.connect("1")).rejects.toThrow();
  await app.close();
});

test("[PUB3] [SUB3] who leaves and comes back by a column that the view goes by is told by the docs' own trigger", async () => {
  const app = await startApplication({ tables, examples: [indexes, whole, leavingOut] });
  await app.sql.unsafe(`INSERT INTO app.room_members VALUES ('${room}', 1), ('${room}', 2)`);
  const ben = await app.connect("2");
  await ben.ask("subscribe", { topics: ["conversation"] });
  await app.sql.unsafe("UPDATE app.room_members SET left_at = now() WHERE account_id = 2");
  expect((await told(ben, "unsubscribed")).payload.reason).toBe("access_revoked");
  await app.sql.unsafe("UPDATE app.room_members SET left_at = NULL WHERE account_id = 2");
  await told(ben, "subscribed");
  await app.sql.unsafe(`SELECT ws.notify_directory('{"op": "user_changed", "user_id": "2"}')`);
  await app.sql.unsafe(`SELECT ws.notify_directory('{"op": "resync"}')`);
  await ben.settled();
  await app.close();
});

test("[MSG5] [MEM1] who may write is what the view says, and a change of it is told by the trigger of the docs", async () => {
  const app = await startApplication({
    tables: tables.replace("left_at timestamptz", "muted boolean"),
    examples: [indexes, whole, writing],
  });
  await app.sql.unsafe(
    `INSERT INTO app.room_members VALUES ('${room}', 1, false), ('${room}', 2, NULL), ('${room}', 3, true)`,
  );
  const [anna, ben, cleo] = [await app.connect("1"), await app.connect("2"), await app.connect("3")];
  const all = [anna, ben, cleo];
  for (const client of all) await client.ask("subscribe", { topics: [`conversation:${room}`] });
  const send = async (client: Client) =>
    (
      await client.request("message.send", {
        conversation_id: room,
        client_message_id: crypto.randomUUID(),
        content: "x",
      })
    ).payload.code ?? "sent";
  const members = () => anna.ask("members", { conversation_id: room });
  expect([await send(anna), await send(ben), await send(cleo)]).toEqual(["sent", "sent", "forbidden"]);
  expect(await members()).toMatchObject({ user_ids: ["1", "2", "3"], may_not_write: ["3"], next: null });
  expect(await anna.ask("members", { conversation_id: room, after: "2", limit: 1 })).toMatchObject({ user_ids: ["3"] });
  // No id of that column: a page that begins there is empty.
  expect(await anna.ask("members", { conversation_id: room, after: "eve" })).toMatchObject({
    user_ids: [],
    next: null,
  });
  await app.sql.unsafe("UPDATE app.room_members SET muted = (account_id = 2) WHERE account_id > 1");
  for (const client of all)
    for (const [user_id, may_write] of [
      ["2", false],
      ["3", true],
    ] as const)
      expect((await client.next("member.updated", (payload) => payload.user_id === user_id)).payload).toEqual({
        conversation_id: room,
        user_id,
        may_write,
        at: expect.any(String),
      });
  expect([await send(anna), await send(ben), await send(cleo)]).toEqual(["sent", "forbidden", "sent"]);
  await app.sql.unsafe(`DELETE FROM app.room_members WHERE account_id = 3`);
  for (const client of [anna, ben]) expect((await client.next("member.removed")).payload.user_id).toBe("3");
  const admin = await Client.connect(app.service.url, { query: { user_id: "1", roles: "admin", device_id: "desk" } });
  const change = { conversation_id: room, user_id: "2", may_write: true };
  expect((await admin.request("admin.members.update", change)).payload).toMatchObject({
    code: "forbidden",
    message: expect.stringContaining("directory.members"),
  });
  await admin.close();
  await app.close();
});

test("[BAK3] [PUB3] [REC3] where the view says when a member has joined, nobody has missed what was said before", async () => {
  const app = await startApplication({
    tables: tables.replace("left_at", "joined_at"),
    examples: [whole.replace("account_id AS user_id FROM", "account_id AS user_id, joined_at FROM")],
    settings: { PUSH__ENABLED: "true", PUSH__AFTER: "1s" },
  });
  await app.sql.unsafe(`INSERT INTO app.room_members VALUES ('${room}', 1, NULL)`);
  const anna = await app.connect("1");
  const worker = await Client.connect(app.service.url, {
    query: { user_id: "1", roles: "service", device_id: "push" },
  });
  await worker.ask("subscribe", { topics: ["missed"] });
  const say = (client_message_id: string) =>
    anna.ask("message.send", { conversation_id: room, client_message_id, content: "hello" });
  const { created_at } = await say("m1");
  // They have never been here.
  await app.sql.unsafe(`INSERT INTO app.room_members
    VALUES ('${room}', 2, '${created_at}'::timestamptz + interval '1 ms'), ('${room}', 3, NULL)`);
  const { message_id } = await say("m2");
  const last = await worker.next("delivery.missed", ({ event_id }) => event_id === message_id);
  expect(worker.all("delivery.missed").map(({ payload }) => payload.user_ids)).toEqual([["3"], ["2", "3"]]);
  expect(last.payload.user_ids).toEqual(["2", "3"]);
  for (const client of [anna, worker]) await client.close();
  await app.close();
});

test("[MSG5] a view that says by something else than a boolean who may write keeps the service from starting", async () => {
  const odd = {
    tables: tables.replace("left_at timestamptz", "muted text"),
    examples: [whole, writing.replace("NOT muted", "muted")],
  };
  await expect(startApplication(odd)).rejects.toThrow("directory.members: app.ws_members cannot be used: ");
});

test.each([
  ["an integer", "integer", ["0", "1"]],
  ["a text", "text", ["'no'", "'yes'"]],
])("[PUB3] [CON1] disabled may be %s, and NULL is enabled", async (_, type, [enabled, disabled]) => {
  const odd = tables
    .replace("blocked boolean NOT NULL DEFAULT false", `blocked ${type}`)
    .replace("id bigint", "id integer");
  const app = await startApplication({ tables: odd, examples: [whole] });
  await app.sql.unsafe(`UPDATE app.accounts SET blocked = ${enabled} WHERE id = 2`);
  await app.sql.unsafe(`UPDATE app.accounts SET blocked = ${disabled} WHERE id = 3`);
  for (const userId of ["1", "2"]) await (await app.connect(userId)).close();
  await expect(app.connect("3")).rejects.toThrow();
  await expect(app.connect("anna")).rejects.toThrow();
  await app.close();
});

test("[PUB3] [REC3] where the view says when a member has joined, what was before is read", async () => {
  const app = await startApplication({
    tables: tables.replace("left_at", "joined_at"),
    examples: [whole.replace("account_id AS user_id FROM", "account_id AS user_id, joined_at FROM")],
  });
  await app.sql.unsafe(`INSERT INTO app.room_members VALUES ('${room}', 1, NULL)`);
  const [anna, ben] = [await app.connect("1"), await app.connect("2")];
  const say = (client_message_id: string) =>
    anna.ask("message.send", { conversation_id: room, client_message_id, content: "hello" });
  const join = (at: string) =>
    app.sql.unsafe(`INSERT INTO app.room_members VALUES ('${room}', 2, ${at})
      ON CONFLICT (room_id, account_id) DO UPDATE SET joined_at = excluded.joined_at`);
  const place = async () => {
    const { topics } = await ben.ask("subscribe", { topics: [`conversation:${room}`, "conversation:none"] });
    const { read_seq, delivered_seq, unread } = topics[0].snapshot;
    return { read_seq, delivered_seq, unread };
  };
  const { created_at } = await say("m1");
  await say("m2");
  await join("now() + interval '1 hour'");
  await ben.settled();
  expect(await place()).toEqual({ read_seq: 2, delivered_seq: 2, unread: 0 });
  await say("m3");
  expect(await place()).toMatchObject({ read_seq: 2, unread: 1 });
  // Joins as one that has joined earlier, or again.
  await join(`'${created_at}'::timestamptz + interval '-1 ms'`);
  expect(await place()).toEqual({ read_seq: 0, delivered_seq: 0, unread: 3 });
  expect(await ben.ask("mark.read", { conversation_id: room, up_to_seq: 1 })).toMatchObject({
    up_to_seq: 1,
    unread: 2,
  });
  await join("now() + interval '2 hours'");
  expect(await place()).toEqual({ read_seq: 3, delivered_seq: 3, unread: 0 });
  await join("NULL");
  expect((await place()).unread).toBe(0);
  await app.close();
});

test("[BAK3] [MEM1] [PUB3] [REC3] a member whom a view names twice has joined when it was last, is there once, and misses things once", async () => {
  const twice = whole.replace(
    "account_id AS user_id FROM app.room_members",
    "account_id AS user_id, joined_at FROM app.room_members UNION ALL SELECT room_id, account_id, joined_at - interval '1 hour' FROM app.room_members",
  );
  const app = await startApplication({
    tables: tables.replace("left_at", "joined_at"),
    examples: [twice],
    settings: { PUSH__ENABLED: "true", PUSH__AFTER: "50ms" },
  });
  await app.sql.unsafe(
    `INSERT INTO app.room_members VALUES ('${room}', 1, now() - interval '1 day'), ('${room}', 3, NULL)`,
  );
  const [anna, ben] = [await app.connect("1"), await app.connect("2")];
  const worker = await Client.connect(app.service.url, { query: { user_id: "1", roles: "service" } });
  await worker.ask("subscribe", { topics: ["missed"] });
  await anna.ask("message.send", { conversation_id: room, client_message_id: "m1", content: "hello" });
  expect((await worker.next("delivery.missed")).payload.user_ids).toEqual(["3"]);
  expect(await anna.ask("members", { conversation_id: room, limit: 3 })).toMatchObject({
    user_ids: ["1", "3"],
    next: "3",
  });
  await app.sql.unsafe(`INSERT INTO app.room_members VALUES ('${room}', 2, now() + interval '1 minute')`);
  await ben.settled();
  const { topics } = await ben.ask("subscribe", { topics: [`conversation:${room}`] });
  expect(topics[0].snapshot).toMatchObject({ read_seq: 1, unread: 0 });
  await app.close();
});
