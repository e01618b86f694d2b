/** Proves what a log that only appends promises: nobody waits for others' topics, cursors wait for what is on its way, and old snapshots cost nothing [LOG1] [LOG4]. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres from "postgres";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { NewEvent, Storage } from "../../src/storage/ports.ts";
import { appendParameters, appendStatement } from "../../src/storage/postgres/event-log-append.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage, type PostgresStorageOptions } from "../../src/storage/postgres/storage.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

/** A node on a database of its own, and sessions that append and wait. */
async function open(options: Partial<PostgresStorageOptions> = {}) {
  const url = await server.newDatabase();
  await migrate({ url, lockTimeoutMs: 5_000 });
  const node = createPostgresStorage({ url, poolSize: 5, ...options });
  await node.start();
  const sessions: postgres.Sql[] = [];
  /** In the middle of an append: everything is done but the commit. */
  async function underWay(events: NewEvent[]) {
    const sql = postgres(url, { max: 1, fetch_types: false, onnotice: () => {} });
    sessions.push(sql);
    await sql.unsafe("BEGIN").simple();
    await sql.unsafe(appendStatement("ws"), appendParameters(events));
    return (end: "COMMIT" | "ROLLBACK") => sql.unsafe(end).simple();
  }
  const run = async (statement: string) => {
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    sessions.push(sql);
    return { rows: await sql.unsafe(statement), sql };
  };
  async function close() {
    await Promise.all(sessions.map((sql) => sql.end({ timeout: 1 }).catch(() => {})));
    await node.stop();
  }
  return { node, underWay, run, close };
}

const positionsOf = async ({ log }: Storage) => {
  const moved = await log.movedSince(0, 1_000);
  return { through: moved.position, watermark: moved.watermark, end: moved.end };
};

test("[LOG1] [LOG4] an append waits for nobody but its own topics, and no cursor passes what is on its way", async () => {
  const { node, underWay, close } = await open();
  const first = await node.log.append([newEvent("conversation:a")]);
  const end = await underWay([newEvent("conversation:slow"), newEvent("conversation:slow")]);
  const second = await node.log.append(newEvents("conversation:a", 3));
  expect(second.appended.map(({ seq }) => seq)).toEqual([2, 3, 4]);
  const before = first.appended[0]!.position;
  expect(await positionsOf(node)).toEqual({ through: before, watermark: before, end: second.appended[2]!.position });
  // Its own topic is read to its end all the same: it has no hole.
  const page = await node.log.replay({
    topics: ["conversation:a", "conversation:slow"],
    afterPosition: 0,
    limit: 10,
  });
  expect(page.watermark).toBe(before);
  expect(page.events.map(({ topic, seq }) => [topic, seq])).toEqual([1, 2, 3, 4].map((seq) => ["conversation:a", seq]));
  await end("COMMIT");
  const last = second.appended[2]!.position;
  expect(await positionsOf(node)).toEqual({ through: last, watermark: last, end: last });
  const whole = await node.log.replay({
    topics: ["conversation:a", "conversation:slow"],
    afterPosition: before,
    limit: 10,
  });
  expect(whole.events.map(({ topic, seq }) => [topic, seq])).toEqual([
    ["conversation:slow", 1],
    ["conversation:slow", 2],
    ["conversation:a", 2],
    ["conversation:a", 3],
    ["conversation:a", 4],
  ]);
  await close();
});

test("[LOG4] a log at rest is looked at in few words, and what is on its way or has come since is found all the same", async () => {
  const { node, underWay, close } = await open();
  const { appended } = await node.log.append([newEvent("conversation:a")]);
  const { position } = appended[0]!;
  const atRest = { heads: [], position, more: false, watermark: position, end: position };
  for (let look = 0; look < 3; look++) expect(await node.log.movedSince(position, 10)).toEqual(atRest);
  const end = await underWay([newEvent("conversation:b")]);
  expect(await node.log.movedSince(position, 10)).toEqual(atRest);
  await end("COMMIT");
  const [head] = (await node.log.movedSince(position, 10)).heads;
  expect(head).toMatchObject({ topic: "conversation:b", seq: 1 });
  await node.log.append([newEvent("conversation:a")]);
  expect((await node.log.movedSince(position, 10)).heads.map(({ topic }) => topic)).toEqual([
    "conversation:b",
    "conversation:a",
  ]);
  await close();
});

test("[LOG1] [LOG3] an append to a topic that another one is on waits for it, and comes after it", async () => {
  const { node, underWay, close } = await open();
  for (const end of ["COMMIT", "ROLLBACK"] as const) {
    const [{ seq: head } = { seq: 0 }] = (await node.log.page({ topic: "user:a", limit: 1 })).events;
    const goOn = await underWay([newEvent("user:a")]);
    const waiting = node.log.append([newEvent("user:a"), newEvent("user:b")]);
    expect(await Promise.race([waiting, node.log.append([]).then(() => "waits")])).toBe("waits");
    await goOn(end);
    expect((await waiting).appended[0]!.seq).toBe(head + (end === "COMMIT" ? 2 : 1));
  }
  await close();
});

test("[BAK2] a feed that reads while many append, and some take it back, passes nothing over and is never out of order", async () => {
  const url = await server.newDatabase();
  await migrate({ url, lockTimeoutMs: 5_000 });
  const nodes = Array.from({ length: 4 }, () => createPostgresStorage({ url, poolSize: 2 }));
  for (const node of nodes) await node.start();
  const [reader, ...writers] = nodes as [Storage, ...Storage[]];
  const sql = postgres(url, { max: 2, fetch_types: false, onnotice: () => {} });
  const acknowledged: string[] = [];
  const write = async ({ log }: Storage, writer: number) => {
    for (let batch = 0; batch < 60; batch++) {
      // One topic that all write to, and one of its own.
      const events = ["conversation:all", `conversation:${writer}`].map((topic) => newEvent(topic));
      const { appended } = await log.append(events.slice(batch % 3 === 0 ? 0 : 1));
      acknowledged.push(...appended.map(({ id }) => id));
    }
  };
  const takeBack = async () => {
    for (let time = 0; time < 40; time++) {
      const events = newEvents("conversation:never", 3);
      const rollback = sql.begin(async (transaction) => {
        await transaction.unsafe(appendStatement("ws"), appendParameters(events));
        throw new Error("taken back");
      });
      await rollback.catch(() => {});
    }
  };
  let isWriting = true;
  const writing = Promise.all([...writers.map(write), takeBack()]).then(() => {
    isWriting = false;
  });
  const fed: { id: string; position: number; topic: string; seq: number }[] = [];
  for (let position = 0, goesOn = true; goesOn; ) {
    // Looked at before the page is read: what is there then is in it, or in one after it.
    const wasWriting = isWriting;
    const page = await reader.log.feed({ afterPosition: position, limit: 7 });
    expect(page.events.every((event) => event.position > position)).toBe(true);
    fed.push(...page.events);
    // The watermark of an append that has looked at the sequence long ago is below what was read meanwhile.
    position = Math.max(position, page.position);
    goesOn = wasWriting || page.more;
  }
  await writing;
  expect(fed.map(({ id }) => id).sort()).toEqual(acknowledged.sort());
  const positions = fed.map(({ position }) => position);
  expect(positions).toEqual(positions.toSorted((one, other) => one - other));
  for (const [, events] of Map.groupBy(fed, ({ topic }) => topic))
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
  await sql.end();
  for (const node of nodes) await node.stop();
});

test("[LOG4] what was given out and taken back holds up no cursor, and no cursor names it", async () => {
  const { node, underWay, close } = await open();
  const { appended } = await node.log.append([newEvent("user:a")]);
  const end = await underWay(newEvents("user:b", 5));
  await end("ROLLBACK");
  const { position } = appended[0]!;
  expect(await positionsOf(node)).toEqual({ through: position, watermark: position, end: position });
  const next = await node.log.append([newEvent("user:a")]);
  expect(next.appended[0]!.position).toBeGreaterThan(position + 5);
  expect((await positionsOf(node)).through).toBe(next.appended[0]!.position);
  await close();
});

test("[LOG4] a node that freezes in the middle of an append holds cursors up for the time of one question, and no longer", async () => {
  const ended = Promise.withResolvers<number>();
  const { node, underWay, close } = await open({ queryTimeoutMs: 500, onStalled: ended.resolve });
  await underWay([newEvent("conversation:frozen")]);
  const { appended } = await node.log.append([newEvent("conversation:a")]);
  const { position } = appended[0]!;
  let seen = await positionsOf(node);
  expect(seen.watermark).toBeLessThan(position);
  // As a repair does, again and again.
  while (seen.watermark < position) seen = await positionsOf(node);
  expect(await ended.promise).toBe(1);
  // An event that it had not committed is not there, and its topic is free.
  expect((await node.log.append([newEvent("conversation:frozen")])).appended[0]!.seq).toBe(1);
  await close();
});

test("[LOG4] a node that freezes while nobody else appends gives its topic back too", async () => {
  const ended = Promise.withResolvers<number>();
  const { node, underWay, close } = await open({ queryTimeoutMs: 200, onStalled: ended.resolve });
  await underWay([newEvent("conversation:frozen")]);
  let isOver = false;
  void ended.promise.then(() => (isOver = true));
  while (!isOver) await positionsOf(node);
  expect((await node.log.append([newEvent("conversation:frozen")])).appended[0]!.seq).toBe(1);
  await close();
});

test("[LOG1] transactions of other people in the same database hold up no cursor", async () => {
  const { node, run, close } = await open();
  const { sql } = await run("CREATE TABLE public.orders (id integer)");
  await sql.unsafe("BEGIN; INSERT INTO public.orders VALUES (1); SELECT pg_advisory_xact_lock_shared(1, 2)").simple();
  const { appended } = await node.log.append([newEvent("user:a")]);
  expect((await positionsOf(node)).watermark).toBe(appended[0]!.position);
  await close();
});

test("[LOG1] giving out numbers leaves no dead row, so that a snapshot that is held costs an append nothing", async () => {
  const { node, run, close } = await open();
  const touched = async () => {
    const { rows } = await run(
      `SELECT sum(n_tup_upd + n_tup_del)::integer AS rewritten, sum(n_tup_ins)::integer AS added FROM pg_stat_user_tables
       WHERE schemaname = 'ws' AND relname IN ('topics', 'events', 'idempotency_keys', 'trims', 'trim_state')`,
    );
    return rows[0]!;
  };
  await node.log.append([newEvent("conversation:a"), newEvent("conversation:b")]);
  for (let n = 0; n < 50; n++)
    await node.log.append([
      newEvent("conversation:a", { once: { keys: [`k${n}`] } }),
      newEvent(`conversation:${n}`),
      newEvent("conversation:b"),
    ]);
  await node.stop();
  // PostgreSQL counts what sessions have done once they have ended.
  let counted = await touched();
  while (counted.added < 50 * 5) counted = await touched();
  expect(counted.rewritten).toBe(0);
  await close();
});

test("[LOG1] [ENV7] what others wait for is left alone, with all of its unit, and the rest is appended at once", async () => {
  const { node, underWay, run, close } = await open();
  await node.log.append([newEvent("conversation:hot", { once: { keys: ["k1"] } })]);
  const end = await underWay([newEvent("conversation:hot")]);
  const others = [underWay([newEvent("conversation:hot")]), underWay([newEvent("conversation:hot")])];
  const isWaitedFor = async () =>
    (await run("SELECT FROM pg_locks WHERE locktype = 'tuple' AND NOT granted")).rows.length > 0;
  while (!(await isWaitedFor()));
  const events = [
    newEvent("conversation:a"),
    newEvent("conversation:hot"),
    newEvent("conversation:a"),
    newEvent("conversation:a", { once: { keys: ["k2"] } }),
    newEvent("conversation:hot", { once: { keys: ["k1"] } }),
    newEvent("conversation:b", { once: { keys: ["k2"] } }),
    newEvent("conversation:b"),
  ];
  // The second and third are one unit; the sixth repeats the fourth, which is of the unit of the fifth.
  const { appended } = await node.log.append(events, [0, 1, 1, 2, 2, 3, 4]);
  expect(appended.map(({ topic, seq, deferred }) => (deferred ? "left" : [topic, seq]))).toEqual([
    ["conversation:a", 1],
    "left",
    "left",
    "left",
    "left",
    "left",
    ["conversation:b", 1],
  ]);
  expect((await node.log.append([newEvent("conversation:hot")], [0])).appended).toMatchObject([{ deferred: true }]);
  await end("COMMIT");
  // Whichever of them is first ends, then the other.
  for (let left = others; left.length > 0; ) {
    const first = await Promise.race(left.map((other) => other.then((commit) => ({ other, commit }))));
    await first.commit("COMMIT");
    left = left.filter((other) => other !== first.other);
  }
  const again = await node.log.append(events.slice(1, 6), [1, 1, 2, 2, 3]);
  expect(again.appended.map(({ topic, seq, duplicate }) => [topic, seq, duplicate])).toEqual([
    ["conversation:hot", 5, false],
    ["conversation:a", 2, false],
    ["conversation:a", 3, false],
    ["conversation:hot", 1, true],
    ["conversation:a", 3, true],
  ]);
  await close();
});

test("[LOG1] [LOG4] advisory locks of roles without any right hold up no cursor; one that keeps appends from theirs is told", async () => {
  const { node, run, close } = await open();
  const first = await node.log.append([newEvent("user:a")]);
  const shared = await run("SELECT pg_advisory_lock_shared('ws.positions'::regclass::oid::integer, 0)");
  const { appended } = await node.log.append([newEvent("user:a")]);
  expect(appended[0]!.position).toBeGreaterThan(first.appended[0]!.position);
  expect((await positionsOf(node)).watermark).toBe(appended[0]!.position);
  await shared.sql.end();
  const exclusive = await run(
    `SELECT pg_advisory_lock('ws.positions'::regclass::oid::integer, n) FROM generate_series(0, 20) AS n`,
  );
  for (const work of [() => node.log.append([newEvent("user:a")]), () => node.prove()]) {
    const refusal = await work().catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Unavailable);
    expect(String(refusal)).toContain("another session holds an advisory lock that appends take");
  }
  await exclusive.sql.end();
  await node.prove();
  await close();
});

test("[LOG1] [END2] a sequence that is behind the log is told with what to run, and nothing is appended under its numbers", async () => {
  const { node, run, close } = await open();
  await node.log.append(newEvents("user:a", 5));
  await run("SELECT setval('ws.positions', 2)");
  for (const work of [() => node.log.append([newEvent("user:b")]), () => node.prove()]) {
    const refusal = await work().catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(Unavailable);
    expect(String(refusal)).toContain("the sequence ws.positions is behind the log. Run: SELECT setval(");
  }
  await run("SELECT setval('ws.positions', (SELECT max(position) FROM ws.events))");
  await node.prove();
  expect((await node.log.append([newEvent("user:b")])).appended[0]!.seq).toBe(1);
  await close();
});

test("[REC2] [LOG1] an append waits for nobody who marks: what he holds is not told with it, and is afterwards", async () => {
  const { node, run, close } = await open();
  const message = () => newEvent("conversation:a", { senderId: "ann" });
  await node.log.append([message(), message()]);
  const receipt = { conversationId: "a", userId: "bob", kind: "read" } as const;
  await node.receipts.advance([{ ...receipt, upToSeq: 1 }]);
  const tells = { ...receipt, sentSeq: 0, upToSeq: 1 };
  const telling = () => [message(), newEvent("conversation:a", { tells })];
  const { sql } = await run("SELECT 1");
  await sql.unsafe("BEGIN").simple();
  await sql.unsafe("UPDATE ws.receipts SET seq = 2 WHERE kind = 'read'");
  const { appended } = await node.log.append(telling());
  expect(appended.map(({ seq, duplicate }) => [seq, duplicate])).toEqual([
    [3, false],
    [0, true],
  ]);
  await sql.unsafe("COMMIT").simple();
  const after = await node.log.append(telling());
  expect(after.appended.map(({ seq }) => seq)).toEqual([4, 5]);
  expect(await node.receipts.unsent({ of: [receipt] }, 10)).toMatchObject([{ sentSeq: 1, upToSeq: 2 }]);
  await close();
});

test("[REC2] whose marks are all told is forgotten by whoever looks for what is left behind; others are found, once each", async () => {
  const { node, run, close } = await open();
  await node.log.append(newEvents("conversation:a", 3, { senderId: "ann" }));
  const mark = (userId: string, upToSeq: number) => ({ conversationId: "a", userId, kind: "read" as const, upToSeq });
  const marks = async () => Number((await run("SELECT count(*) AS n FROM ws.marks")).rows[0]!.n);
  const left = async () =>
    (await node.receipts.unsent({ movedBefore: Number.MAX_SAFE_INTEGER, limit: 10 }, 10)).map(({ userId }) => userId);
  await node.receipts.advance([mark("bob", 1), mark("eve", 1)]);
  await node.receipts.advance([mark("bob", 2)]);
  await node.receipts.advance([mark("cle", 2)]);
  await node.receipts.advance([mark("cle", 2)]);
  expect(await marks()).toBe(3);
  expect((await left()).toSorted()).toEqual(["bob", "cle", "eve"]);
  const telling = (userId: string, upToSeq: number) =>
    newEvent("conversation:a", { tells: { ...mark(userId, upToSeq), sentSeq: 0 } });
  await node.log.append([telling("bob", 1), telling("cle", 2)]);
  expect((await left()).toSorted()).toEqual(["bob", "eve"]);
  expect(await marks()).toBe(2);
  await node.receipts.passOver([{ ...mark("bob", 2), sentSeq: 1 }]);
  await node.log.append([telling("eve", 1)]);
  expect(await left()).toEqual([]);
  expect(await marks()).toBe(0);
  // Rows change in their place: no index has what a mark, or telling of it, changes.
  const { rows } = await run(`SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid
    AND (a.attnum = ANY (i.indkey) OR pg_get_indexdef(i.indexrelid) ~ ('\\m' || a.attname || '\\M'))
    WHERE i.indrelid = 'ws.receipts'::regclass AND a.attname IN ('seq', 'sent_seq', 'moved_at')`);
  expect(rows).toHaveLength(0);
  await close();
});

test("[REC1] marks of many users at once, on several nodes, never wait for each other in a circle", async () => {
  const { node, close } = await open();
  const topics = Array.from({ length: 10 }, (_, index) => `t${index}`);
  await node.log.append(topics.flatMap((id) => newEvents(`conversation:${id}`, 20, { senderId: "ann" })));
  const users = Array.from({ length: 5 }, (_, index) => `u${index}`);
  const marks = topics.flatMap((conversationId) => users.map((userId) => ({ conversationId, userId })));
  const turned = marks.toReversed();
  for (let upToSeq = 1; upToSeq <= 20; upToSeq++) {
    const at = (all: typeof marks) =>
      node.receipts.advance(all.map((mark) => ({ ...mark, kind: "read" as const, upToSeq })));
    const moved = await Promise.all([at(marks), at(turned), at(marks), at(turned)]);
    expect(moved.flat().filter(({ advanced }) => advanced)).toHaveLength(marks.length);
  }
  await close();
});
