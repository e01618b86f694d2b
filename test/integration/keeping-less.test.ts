/** Proves that a conversation keeps its events for as long as is said, on both engines, and that nothing looks lost where they went [LOG9]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";
import { type Stored, storedInPostgres, storedInSqlite } from "../support/stored.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

const hour = 3_600_000;
const often = { WEBSOCKET__CLEANUP_INTERVAL: "50ms" };
const topicOf = (conversation: string) => `conversation:${conversation}`;
/** Has what was said in a conversation so far have been said so long ago. */
const age = (stored: Stored, conversation: string, ms: number) =>
  stored.run(`UPDATE ws.events SET created_at = created_at - ${ms}
    WHERE topic_id = (SELECT topic_id FROM ws.topics WHERE name = '${topicOf(conversation)}')`);
const historyOf = async (client: Client, conversation: string): Promise<any[]> =>
  (await client.ask("history", { topic: topicOf(conversation), limit: 100 })).events;
const has = (count: number) => (events: any[]) => events.length === count;
const countOf = (client: Client) => client.received.filter(({ topic }) => topic !== undefined).length;

for (const engine of ["SQLite", "PostgreSQL"] as const) {
  describe(engine, () => {
    let stored: Stored;
    let service: Service;
    beforeAll(async () => {
      stored = engine === "SQLite" ? storedInSqlite() : await storedInPostgres(server);
      service = await startService({ settings: { ...often, STORAGE__URL: stored.url } });
    });
    afterAll(async () => {
      await service?.stop();
      await stored?.close();
    });
    const { connect, gather, backend } = createPeople(() => service.url);
    const operator = () => connect(fresh("root"), { roles: "admin" });

    test("[LOG9] [LOG5] what is older goes and nobody is told; cursors, seq, history, unread and the feed go on as if nothing was lost", async () => {
      const [c, other] = [fresh("c"), fresh("other")];
      const [anna, ben] = (await gather(c, [fresh("anna"), fresh("ben")])) as [Client, Client];
      await anna.ask("subscribe", { topics: [topicOf(other)] });
      const feed = await backend({ device_id: "archive" });
      const began = (await feed.ask("subscribe", { topics: ["log"] })).cursor;
      await sendAll(anna, other, ["kept"]);
      await sendAll(anna, c, ["one", "two", "three"]);
      await ben.next("message.new", ({ content }) => content === "three");
      await ben.ask("mark.read", { conversation_id: c, up_to_seq: 1 });
      await anna.next("message.read");
      const { cursor } = await ben.ask("ping").then(() => ben.all("pong").at(-1)!.payload);
      const userId = (await ben.next("connected")).payload.user_id;
      await ben.close();
      await sendAll(anna, c, ["while away"]);
      await age(stored, c, 2 * hour);
      await sendAll(anna, c, ["fresh"]);
      const before = countOf(anna);
      await (await operator()).ask("admin.conversations.update", { conversation_id: c, retention: "1h" });
      const left = await eventually(() => historyOf(anna, c), has(1));
      expect(left[0]).toMatchObject({ seq: 6, type: "message.new", payload: { content: "fresh" } });
      expect(await historyOf(anna, other)).toHaveLength(1);
      await anna.settled();
      expect(countOf(anna)).toBe(before);
      const back = await connect(userId);
      const { topics } = await back.ask("subscribe", { topics: [topicOf(c)], since: { cursor } });
      expect(topics[0]).toMatchObject({ seq: 6, recovered: true, replayed: 1, snapshot: { read_seq: 1, unread: 1 } });
      expect(back.all("message.new").map(({ seq }) => seq)).toEqual([6]);
      expect(await back.ask("mark.read", { conversation_id: c, up_to_seq: 6 })).toMatchObject({
        up_to_seq: 6,
        unread: 0,
      });
      const again = await backend({ device_id: "archive" });
      const all = await again.ask("subscribe", { topics: ["log"], since: { cursor: began } });
      expect(all.topics[0]).toMatchObject({ recovered: true });
      await again.next("message.new", ({ content }) => content === "fresh");
      const said = again.all("message.new").map(({ payload }) => payload.content);
      expect(said.filter((it) => it !== "kept")).toEqual(["fresh"]);
    });

    test("[LOG9] a conversation of which everything has gone goes on with the next number, on its live connections too", async () => {
      const c = fresh("c");
      const [anna, ben] = (await gather(c, [fresh("anna"), fresh("ben")])) as [Client, Client];
      await sendAll(anna, c, ["one", "two"]);
      await age(stored, c, 2 * hour);
      const root = await operator();
      await root.ask("admin.conversations.update", { conversation_id: c, retention: "90m" });
      await eventually(() => historyOf(anna, c), has(0));
      expect((await root.ask("admin.topic", { topic: topicOf(c) })).head).toMatchObject({ seq: 2 });
      const late = await connect(fresh("carl"));
      const { topics } = await late.ask("subscribe", { topics: [topicOf(c)] });
      expect(topics[0]).toMatchObject({ seq: 2, snapshot: { unread: 0 } });
      expect((await sendAll(anna, c, ["three"]))[0]).toMatchObject({ seq: 3, duplicate: false });
      for (const client of [ben, late])
        expect(await client.next("message.new", ({ content }) => content === "three")).toMatchObject({ seq: 3 });
      await root.ask("admin.conversations.update", { conversation_id: c, retention: null });
      await age(stored, c, 2 * hour);
      await root.ask("admin.conversations.update", { conversation_id: fresh("other"), retention: "1m" });
      await service.logged(({ msg, request }) => msg === "admin request" && (request as any)?.retention === "1m");
      expect(await historyOf(anna, c)).toHaveLength(1);
    });

    test("[LOG9] [ADM1] only administrators say how long, and what is no duration is refused with its field", async () => {
      const c = fresh("c");
      const request = { conversation_id: c, retention: "1h" };
      for (const roles of [undefined, "service"]) {
        const client = await connect(fresh("anna"), roles === undefined ? {} : { roles });
        expect((await client.request("admin.conversations.update", request)).payload).toMatchObject({
          code: "forbidden",
        });
      }
      const root = await operator();
      for (const retention of [
        "59s",
        "0s",
        "-1h",
        "1 h",
        "soon",
        "",
        "36501d",
        "9".repeat(60_000),
        60_000,
        true,
        [],
        {},
        undefined,
      ]) {
        // Bad messages of one connection are counted.
        const other = await operator();
        const { payload } = await other.request("admin.conversations.update", { conversation_id: c, retention });
        expect(payload).toMatchObject({ code: "invalid_payload", field: "payload.retention" });
      }
      for (const conversation_id of ["", "two words", "x".repeat(129), 7, null]) {
        const { payload } = await root.request("admin.conversations.update", { ...request, conversation_id });
        expect(payload).toMatchObject({ code: "invalid_payload", field: "payload.conversation_id" });
      }
      for (const retention of ["1m", "36500d", "1.5h", null, null])
        expect(await root.ask("admin.conversations.update", { conversation_id: c, retention })).toEqual({});
      expect(await stored.run(`SELECT * FROM ws.conversations WHERE conversation_id = '${c}'`)).toEqual([]);
    });
  });
}

const rooms = (type: string) => `CREATE SCHEMA app; CREATE TABLE app.rooms (id uuid PRIMARY KEY, keep_for ${type});
  CREATE VIEW app.ws_conversations AS SELECT id AS conversation_id, keep_for AS retention FROM app.rooms`;
const [short, long, odd] = [1, 2, 3].map((it) => `0b2d5a3c-7f51-4f0e-9c39-6a1a7d0e4b1${it}`) as [
  string,
  string,
  string,
];

test.each([
  ["an interval", "interval", "NULL"],
  ["a text", "text", "'a while'"],
])(
  "[LOG9] [PUB3] a view of the application's says it, as %s; an administrator may not then",
  async (_, type, nonsense) => {
    const stored = await storedInPostgres(server);
    for (const statement of rooms(type).split(";")) await stored.run(statement);
    await stored.run(`INSERT INTO app.rooms VALUES ('${short}', '1h'), ('${long}', NULL), ('${odd}', ${nonsense})`);
    const settings = { ...often, STORAGE__URL: stored.url, DIRECTORY__CONVERSATIONS: "app.ws_conversations" };
    const service = await startService({ settings });
    const anna = await Client.connect(service.url, { query: { user_id: "anna", roles: "admin" } });
    for (const room of [short, long, odd]) {
      await sendAll(anna, room, ["one", "two"]);
      await age(stored, room, 2 * hour);
    }
    await eventually(() => historyOf(anna, short), has(0));
    if (type === "text")
      expect(await service.logged(({ msg }) => msg.startsWith("the retention of some conversations"))).toMatchObject({
        level: "warn",
        conversations: [odd],
      });
    for (const room of [long, odd]) expect(await historyOf(anna, room)).toHaveLength(2);
    await stored.run(`UPDATE app.rooms SET keep_for = '30m'`);
    for (const room of [long, odd]) await eventually(() => historyOf(anna, room), has(0));
    expect(
      (await anna.request("admin.conversations.update", { conversation_id: long, retention: null })).payload,
    ).toEqual({
      code: "forbidden",
      message: "directory.conversations names app.ws_conversations, which the application alone writes to.",
      retryable: false,
    });
    await service.stop();
    await stored.close();
  },
);

test.each([
  ["an interval", "interval", ["0", "-1 day", "1 second", "-178000000 years"]],
  ["a text", "text", ["0s", "1ms", "59s"]],
])(
  "[LOG9] [PUB3] less than a minute of %s counts as a minute, and more than anything as the log's",
  async (_, type, shorts) => {
    const stored = await storedInPostgres(server);
    for (const statement of rooms(type).split(";")) await stored.run(statement);
    const settings = { ...often, STORAGE__URL: stored.url, DIRECTORY__CONVERSATIONS: "app.ws_conversations" };
    const service = await startService({ settings });
    const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
    const ids = [...shorts, "most"].map(() => crypto.randomUUID());
    for (const [index, room] of ids.entries()) {
      await sendAll(anna, room, ["one", "two"]);
      await age(stored, room, 61_000);
      await sendAll(anna, room, ["three"]);
      const retention = shorts[index] ?? (type === "interval" ? "178000000 years" : `${"9".repeat(300)}d`);
      await stored.run(`INSERT INTO app.rooms VALUES ('${room}', '${retention}')`);
    }
    for (const room of ids.slice(0, -1)) await eventually(() => historyOf(anna, room), has(1));
    expect(await historyOf(anna, ids.at(-1)!)).toHaveLength(3);
    await service.stop();
    await stored.close();
  },
);

test("[LOG9] [LOG7] a view that cannot be read any more is told, and keeps the log's own retention from nothing", async () => {
  const stored = await storedInPostgres(server);
  for (const statement of rooms("interval").split(";")) await stored.run(statement);
  await stored.run(`INSERT INTO app.rooms VALUES ('${short}', '1h')`);
  const settings = { ...often, STORAGE__URL: stored.url, DIRECTORY__CONVERSATIONS: "app.ws_conversations" };
  const service = await startService({ settings: { ...settings, LOG__RETENTION: "3h" } });
  const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
  await stored.run("ALTER VIEW app.ws_conversations RENAME TO elsewhere");
  expect(await service.logged(({ msg }) => msg === "retention waits")).toMatchObject({ level: "warn" });
  await sendAll(anna, short, ["one", "two"]);
  await age(stored, short, 2 * hour);
  await sendAll(anna, short, ["three"]);
  expect(await historyOf(anna, short)).toHaveLength(3);
  await age(stored, short, 2 * hour);
  await eventually(() => historyOf(anna, short), has(1));
  await stored.run("ALTER VIEW app.elsewhere RENAME TO ws_conversations");
  await service.logged(({ msg }) => msg === "retention goes on");
  await eventually(() => historyOf(anna, short), has(0));
  await service.stop();
  await stored.close();
});

test.each([
  ["there is none", "", "there is no such view or table"],
  ["it lacks the column", "CREATE VIEW public.kept AS SELECT 'c1' AS conversation_id", "no column retention"],
  [
    "its type says nothing",
    "CREATE VIEW public.kept AS SELECT 'c1' AS conversation_id, 5 AS retention",
    "of the type integer",
  ],
])(
  "[LOG9] [PUB3] a view that cannot be used keeps the service from starting, and it says why: %s",
  async (_, sql, why) => {
    const stored = await storedInPostgres(server);
    if (sql !== "") await stored.run(sql);
    const settings = { STORAGE__URL: stored.url, DIRECTORY__CONVERSATIONS: "public.kept" };
    const refusal = await startService({ settings }).catch((error: unknown) => error);
    expect(String(refusal)).toContain(`public.kept cannot be used: `);
    expect(String(refusal)).toContain(why);
    await stored.close();
  },
);
