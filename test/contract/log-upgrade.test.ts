/** A filled log of the first release goes on after the upgrade as if nothing had been: numbers, keys, receipts, cursors, retention. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres from "postgres";
import type { EventLog, LoggedEvent, NewEvent, Storage } from "../../src/storage/ports.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { firstAppendParameters, firstAppendStatement, firstSchema } from "../support/first-release.ts";
import { markOne } from "../support/marks.ts";
import { newEvent } from "../support/new-event.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

interface Head {
  topic: string;
  seq: number;
  position: number;
  trimmedPosition: number;
}

interface Place {
  topic: string;
  readSeq: number;
  deliveredSeq: number;
  unread: number;
}

/** Keeps what the first release would have answered, last asked before the upgrade. */
interface Before {
  heads: Head[];
  events: LoggedEvent[];
  places: Place[];
  end: number;
}

let server: PostgresServer;
let schema: string;
let before: Before;
let storage: Storage;

/** Moments, ms: what is old was trimmed by age before the upgrade. */
const [old, young] = [1_000, 5_000];
const acked = 12;

const messages = (conversation: string, count: number, createdAt = young): NewEvent[] =>
  Array.from({ length: count }, (_, index) => {
    const senderId = index % 3 === 0 ? "anna" : "ben";
    const once = { keys: [`message:${senderId}:${conversation}-${index}`] };
    return newEvent(`conversation:${conversation}`, { senderId, once, createdAt });
  });
const receipt = (conversation: string, userId: string): NewEvent =>
  newEvent(`conversation:${conversation}`, { type: "message.read", compactionKey: `read:${userId}`, createdAt: young });

/** Batches as nodes of the first release have appended them, and what its retention did in between. */
async function fill(sql: postgres.Sql<{ bigint: number }>): Promise<void> {
  const append = (events: NewEvent[]) => sql.unsafe(firstAppendStatement(schema), firstAppendParameters(events));
  const trim = (createdBefore: number, perTopic: number) =>
    sql.unsafe(`SELECT removed FROM ${schema}.trim($1, $2, 1000)`, [createdBefore, perTopic]);
  // All gone by age: nothing but a number is left of them.
  await append([newEvent("user:gone", { createdAt: old }), newEvent("user:gone", { createdAt: old })]);
  await append([...messages("cut", 4, old), ...messages("whole", 5)]);
  await trim(old + 1, 100_000);
  await append([...messages("cut", 6).slice(4), newEvent("user:anna", { createdAt: young })]);
  // The older ones are compacted away; also the newest event of all may be one.
  for (const userId of ["anna", "ben", "anna", "anna"]) await append([receipt("whole", userId)]);
  await append([...messages("crowded", 1_200), receipt("crowded", "ben")]);
  await trim(0, 1_000);
  await append([receipt("whole", "ben"), receipt("crowded", "ben")]);
  const { topic_id } = (
    await sql.unsafe(`SELECT topic_id FROM ${schema}.topics WHERE name = 'conversation:whole'`)
  )[0]!;
  await sql.unsafe(`INSERT INTO ${schema}.receipts (topic_id, user_id, kind, seq, sent_seq, moved_at)
    VALUES (${topic_id}, 'anna', 'read', 2, 2, 1), (${topic_id}, 'anna', 'delivered', 4, 3, 1)`);
  await sql.unsafe(`INSERT INTO ${schema}.cursors (user_id, device_id, cursor) VALUES ('anna', 'phone', ${acked})`);
}

async function lookBefore(sql: postgres.Sql<{ bigint: number }>): Promise<Before> {
  const ask = <Row>(text: string) => sql.unsafe(text) as Promise<unknown> as Promise<Row[]>;
  const [state] = await ask<{ position: number }>(`SELECT position FROM ${schema}.log_state`);
  return {
    heads: await ask(`SELECT t.name AS topic, t.seq, t.position, coalesce(r.trimmed_position, 0) AS "trimmedPosition"
      FROM ${schema}.topics AS t LEFT JOIN ${schema}.trims AS r USING (topic_id) ORDER BY 1`),
    events: await ask(`SELECT t.name AS topic, e.seq, e.position, id, type, payload, created_at AS "createdAt"
      FROM ${schema}.events AS e JOIN ${schema}.topics AS t USING (topic_id) ORDER BY e.position`),
    places: await ask(`SELECT topic, read_seq AS "readSeq", delivered_seq AS "deliveredSeq", unread
      FROM ${schema}.receipt_states('anna', ARRAY(SELECT name FROM ${schema}.topics)) WHERE topic LIKE 'conversation:%'`),
    end: state!.position,
  };
}

beforeAll(async () => {
  server = await startPostgres();
  schema = server.newSchema();
  await server.run(firstSchema(schema));
  const types = { bigint: { to: 20, from: [20], parse: Number, serialize: String } };
  const sql = postgres(server.url, { max: 1, types, fetch_types: false, onnotice: () => {} });
  await fill(sql);
  before = await lookBefore(sql);
  await sql.end();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  storage = createPostgresStorage({ url: server.url, schema });
  await storage.start();
});
afterAll(async () => {
  await storage?.stop();
  await server?.stop();
});

const topics = () => before.heads.map(({ topic }) => topic);

async function readAll(log: EventLog, afterPosition: number): Promise<LoggedEvent[]> {
  const events: LoggedEvent[] = [];
  for (let from = afterPosition; ; ) {
    const page = await log.replay({ topics: topics(), afterPosition: from, limit: 500 });
    events.push(...page.events);
    if (!page.more) return events;
    from = page.events.at(-1)!.position;
  }
}

test("[LOG1] [LOG5] after the upgrade heads, events and the log's end are what they were", async () => {
  expect(before.heads.map(({ topic, seq }) => [topic, seq])).toContainEqual(["user:gone", 2]);
  const heads = await storage.log.heads(topics());
  for (const { topic, ...head } of before.heads) expect([topic, heads.get(topic)]).toEqual([topic, head]);
  expect(await readAll(storage.log, 0)).toEqual(before.events);
  expect(await storage.log.watermark()).toBe(before.end);
  expect(await storage.log.stats()).toMatchObject({ events: before.events.length, topics: before.heads.length });
});

test("[LOG4] [LOG6] what a device had acknowledged is still its place, and a replay from there brings what came after", async () => {
  const cursor = (await storage.cursors.acknowledged("anna", "phone"))!;
  expect(storage.log.epochs.read(cursor)).toEqual({ position: acked, holds: true });
  expect(await readAll(storage.log, acked)).toEqual(before.events.filter(({ position }) => position > acked));
  const { heads } = await storage.log.movedSince(acked, 1_000);
  const moved = before.heads.filter(({ position }) => position > acked).map(({ topic }) => topic);
  expect(heads.map(({ topic }) => topic).sort()).toEqual(moved);
});

test("[LOG2] a retry of what was sent before is answered as the first time, also where retention has taken the event", async () => {
  const kept = before.events.find(({ topic, seq }) => topic === "conversation:cut" && seq === 6)!;
  expect(before.events.some(({ topic, seq }) => topic === "conversation:crowded" && seq === 1)).toBe(false);
  const { appended } = await storage.log.append([
    newEvent("conversation:cut", { once: { keys: ["sent:ben:cut:cut-5"], digest: "d" } }),
    newEvent("conversation:crowded", { once: { keys: ["sent:anna:crowded:crowded-0"], digest: "d" } }),
  ]);
  expect(appended).toMatchObject([
    { seq: 6, position: kept.position, id: kept.id, duplicate: true },
    { seq: 1, duplicate: true },
  ]);
});

test("[REC1] [REC3] who had read how far is known, counts what is unread, and goes forward only", async () => {
  const ids = before.places.map(({ topic }) => topic.slice("conversation:".length));
  const states = await storage.receipts.states("anna", ids);
  const after = [...states].map(([id, state]) => ({ topic: `conversation:${id}`, ...state }));
  expect(after).toMatchObject(before.places);
  expect(before.places).toContainEqual({ topic: "conversation:whole", readSeq: 2, deliveredSeq: 4, unread: 2 });
  const mark = { conversationId: "whole", userId: "anna", kind: "read" as const };
  expect(await markOne(storage.receipts, { ...mark, upToSeq: 1 })).toEqual({ upToSeq: 2, advanced: false });
  expect(await markOne(storage.receipts, { ...mark, upToSeq: 1_000 })).toEqual({
    upToSeq: before.heads.find(({ topic }) => topic === "conversation:whole")!.seq,
    advanced: true,
  });
  const unsent = await storage.receipts.unsent({ of: [{ conversationId: "whole", userId: "anna" }] }, 10);
  expect(unsent.map(({ kind, sentSeq }) => [kind, sentSeq]).sort()).toEqual([["read", 2]]);
});

test("[LOG1] every topic goes on with its next `seq`, also one of which nothing was left, and positions grow", async () => {
  const { appended } = await storage.log.append(topics().map((topic) => newEvent(topic)));
  expect(appended.map(({ topic, seq }) => [topic, seq])).toEqual(
    before.heads.map(({ topic, seq }) => [topic, seq + 1]),
  );
  expect(Math.min(...appended.map(({ position }) => position))).toBeGreaterThan(before.end);
  expect(new Set(appended.map(({ position }) => position)).size).toBe(appended.length);
  const again = await storage.log.append([newEvent("conversation:new"), newEvent("user:gone")]);
  expect(again.appended).toMatchObject([{ seq: 1 }, { seq: 4 }]);
});

test("[LOG7] retention and compaction go on from where they were", async () => {
  await storage.log.append([receipt("whole", "ben")]);
  const { events } = await storage.log.range({
    topic: "conversation:whole",
    afterSeq: 0,
    throughSeq: 1_000,
    limit: 100,
  });
  expect(events.filter(({ type }) => type === "message.read")).toHaveLength(2);
  for (let more = true; more; ) {
    ({ more } = await storage.log.trim({ createdBefore: 0, eventsPerTopic: 500, batch: 400 }));
  }
  const crowded = await storage.log.range({
    topic: "conversation:crowded",
    afterSeq: 0,
    throughSeq: 9_999,
    limit: 600,
  });
  expect(crowded.events).toHaveLength(500);
  const [head] = [...(await storage.log.heads(["conversation:crowded"])).values()];
  expect(head!.trimmedPosition).toBeGreaterThan(0);
});

test("an upgrade that somebody else keeps waiting changes nothing, and names who has a transaction open", async () => {
  const url = await server.newDatabase();
  const sql = postgres(url, {
    max: 1,
    fetch_types: false,
    onnotice: () => {},
    connection: { application_name: "a dump" },
  });
  await sql.unsafe(`${firstSchema("ws")}; BEGIN; LOCK TABLE ws.topics IN ACCESS SHARE MODE`).simple();
  await expect(migrate({ url, lockTimeoutMs: 200 })).rejects.toThrow(
    /^canceling statement due to lock timeout\. Open transactions in the database: \d+ \(a dump, role \w+\)$/,
  );
  await sql.unsafe("COMMIT");
  await sql.end();
  expect(await migrate({ url, lockTimeoutMs: 5_000 })).toMatchObject({ from: 4 });
});
