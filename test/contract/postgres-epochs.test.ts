/** Proves on real servers what begins an epoch of the log, which cursors hold after it, and what is no loss [LOG4]. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { EpochChange } from "../../src/storage/epochs.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Storage } from "../../src/storage/ports.ts";
import { createPostgresStorage } from "../../src/storage/postgres/storage.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { startPgBouncer } from "../support/pgbouncer.ts";
import { dumpOf, type PostgresServer, restoreDump, runSql, startPostgres } from "../support/postgres.ts";
import { startProxy } from "../support/proxy.ts";
import { until } from "../support/until.ts";
import { trimAll } from "./trim-all.ts";

setDefaultTimeout(60_000);
let server: PostgresServer;
beforeAll(async () => {
  // One of its own, wherever the others are: it is stopped.
  server = await startPostgres({ settings: ["wal_level=replica"] });
});
afterAll(() => server?.stop());

interface Node {
  storage: Storage;
  changes: EpochChange[];
}

const nodes: Node[] = [];
afterEach(async () => {
  await Promise.all(nodes.splice(0).map(({ storage }) => storage.stop()));
});

async function openNode(url: string): Promise<Node> {
  const storage = createPostgresStorage({ url, poolSize: 4, queryTimeoutMs: 2_000 });
  await storage.start();
  const changes: EpochChange[] = [];
  storage.log.epochs.watch((change) => changes.push(change));
  nodes.push({ storage, changes });
  return { storage, changes };
}

async function newLog(): Promise<string> {
  const url = await server.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  return url;
}

const rows = (url: string) => runSql(url, "SELECT no::integer, broken, began_at::integer FROM ws.epochs ORDER BY no");
const append = async ({ storage }: Node, topic: string, count = 1) =>
  (await storage.log.append(newEvents(topic, count))).appended.at(-1)!;

/** Again and again until the engine is there. */
async function insist<Result>(work: () => Promise<Result>): Promise<Result> {
  for (;;) {
    const result = await work().catch(() => undefined);
    if (result !== undefined) return result;
    await Bun.sleep(20);
  }
}

const levelStandbys = "SELECT 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";

/** A cursor, as a node gives it out now. */
const cursorAt = ({ storage }: Node, position: number) => storage.log.epochs.cursorOf(position);
const holds = ({ storage }: Node, cursor: string) => storage.log.epochs.read(cursor)?.holds;

describe("[LOG4] an epoch of the log on PostgreSQL", () => {
  test("begins with a restart, once for all nodes, before any of them appends; nothing is lost and all cursors hold", async () => {
    const url = await newLog();
    const several = await Promise.all(Array.from({ length: 6 }, () => openNode(url)));
    const last = await append(several[0]!, "user:a", 10);
    const cursor = cursorAt(several[1]!, last.position);
    await server.halt();
    await server.resume();
    const firsts = await Promise.all(several.map((node) => insist(() => append(node, "user:b"))));
    await Promise.all(several.map(({ storage }) => storage.log.movedSince(0, 1)));
    expect(await rows(url)).toEqual([
      { no: 1, broken: false, began_at: 0 },
      { no: 2, broken: false, began_at: last.position },
    ]);
    for (const { position } of firsts) expect(position).toBeGreaterThan(last.position);
    expect(new Set(several.map(({ storage }) => storage.log.epochs.current.id)).size).toBe(1);
    for (const node of several) {
      expect(holds(node, cursor)).toBe(true);
      expect(node.changes.map(({ isBroken }) => isBroken)).toEqual([false]);
    }
  });

  test("does not begin where retention or compaction has removed what was known, or everything", async () => {
    const url = await newLog();
    const node = await openNode(url);
    for (let round = 0; round < 3; round++)
      await node.storage.log.append([newEvent("user:a", { compactionKey: "k" }), newEvent("user:b")]);
    await node.storage.log.movedSince(0, 1);
    const last = await append(node, "user:b");
    await trimAll(node.storage.log, { createdBefore: 2_000, eventsPerTopic: 1_000 });
    await node.storage.log.movedSince(0, 1);
    const cursor = cursorAt(node, last.position);
    expect(node.changes).toEqual([]);
    await server.halt();
    await server.resume();
    await insist(async () => node.storage.log.heads(["user:a"]));
    expect(node.changes).toMatchObject([{ isBroken: false }]);
    expect(holds(node, cursor)).toBe(true);
  });

  test("is broken where events are gone without any sign: the next look of whoever knows of them tells all nodes, once", async () => {
    const url = await newLog();
    const [one, other] = [await openNode(url), await openNode(url)];
    const kept = await append(one, "user:a", 5);
    const before = cursorAt(one, kept.position);
    const lost = await append(one, "user:a", 5);
    const beyond = cursorAt(other, lost.position);
    await runSql(url, "DELETE FROM ws.events WHERE seq > 5");
    await one.storage.log.movedSince(0, 1);
    await other.storage.log.movedSince(0, 1);
    await one.storage.log.movedSince(0, 1);
    expect((await rows(url)).map(({ broken }) => broken)).toEqual([false, true]);
    for (const node of [one, other]) {
      expect(node.changes).toMatchObject([{ isBroken: true, heldThrough: kept.position }]);
      expect([holds(node, before), holds(node, beyond)]).toEqual([true, false]);
    }
  });

  test("is broken where one of the last commits is gone and a later position is there: they become durable out of order", async () => {
    const url = await newLog();
    const node = await openNode(url);
    await append(node, "user:a", 5);
    const kept = await append(node, "user:b", 5);
    const gone = await append(node, "user:a");
    const survivor = await append(node, "user:b");
    const cursors = [kept, gone, survivor].map(({ position }) => cursorAt(node, position));
    await runSql(url, `DELETE FROM ws.events WHERE position = ${gone.position}`);
    await server.halt();
    await server.resume();
    expect(await insist(() => append(node, "user:a"))).toMatchObject({ seq: gone.seq });
    expect(node.changes).toMatchObject([{ isBroken: true, heldThrough: kept.position }]);
    expect(cursors.map((cursor) => holds(node, cursor))).toEqual([true, false, false]);
  });

  test("is not begun by a standby, to which nobody appends, and is as soon as it is promoted", async () => {
    const url = await newLog();
    const node = await openNode(url);
    const { position } = await append(node, "user:a");
    await server.halt();
    await server.resume("standby");
    expect((await insist(async () => node.storage.log.heads(["user:a"]))).get("user:a")?.seq).toBe(1);
    await node.storage.log.movedSince(0, 1);
    await expect(append(node, "user:a")).rejects.toMatchObject({ cause: { code: "25006" } });
    expect(node.changes).toEqual([]);
    await server.run("SELECT pg_promote()");
    await insist(() => append(node, "user:a"));
    expect(await rows(url)).toEqual([
      { no: 1, broken: false, began_at: 0 },
      { no: 2, broken: false, began_at: position },
    ]);
    expect(node.changes).toMatchObject([{ isBroken: false }]);
  });

  test("begins after files were put back under stopped nodes: only cursors beyond them are worth nothing", async () => {
    const url = await newLog();
    const before = await openNode(url);
    const kept = await append(before, "user:a", 3);
    const cursor = cursorAt(before, kept.position);
    await server.halt("orderly");
    const putBack = server.keepFiles();
    await server.resume();
    const lost = await insist(() => append(before, "user:a", 40));
    // Of an epoch that the copy has never heard of, and of one that it has.
    const beyond = [cursorAt(before, lost.position), cursor.replace(/\..*/, `.${lost.position.toString(36)}`)];
    await before.storage.stop();
    await server.halt("orderly");
    putBack();
    await server.resume();
    const after = await openNode(url);
    expect(holds(after, cursor)).toBe(true);
    expect(beyond.map((text) => holds(after, text) ?? false)).toEqual([false, false]);
    // Also once the log has come as far again.
    await append(after, "user:a", 100);
    expect(beyond.map((text) => holds(after, text) ?? false)).toEqual([false, false]);
  });

  test("begins with a dump that is restored, broken where nodes run that know of more", async () => {
    const url = await newLog();
    const name = new URL(url).pathname.slice(1);
    const node = await openNode(url);
    const kept = await append(node, "user:a", 3);
    const cursor = cursorAt(node, kept.position);
    const dump = dumpOf(url);
    const lost = await append(node, "user:a", 3);
    const beyond = cursorAt(node, lost.position);
    await server.run(`DROP DATABASE ${name} WITH (FORCE)`);
    await server.run(`CREATE DATABASE ${name}`);
    restoreDump(url, dump);
    await insist(async () => node.storage.log.movedSince(0, 1).then(() => true));
    await until(async () => node.changes.length > 0);
    expect(node.changes).toMatchObject([{ isBroken: true, heldThrough: kept.position }]);
    expect(await append(node, "user:a")).toMatchObject({ seq: 4 });
    const stranger = await openNode(url);
    for (const it of [node, stranger]) expect([holds(it, cursor), holds(it, beyond)]).toEqual([true, false]);
  });

  test("is not begun by a server that a failover has left behind and that still answers: nothing is asked of it", async () => {
    const standby = await startPostgres({
      settings: ["wal_level=replica"],
      standbyOf: Number(new URL(server.url).port),
    });
    const address = await startProxy(Number(new URL(server.url).port));
    try {
      const name = new URL(await newLog()).pathname;
      await until(async () => (await server.run(levelStandbys)).length > 0);
      const node = await openNode(`postgres://postgres@127.0.0.1:${address.port}${name}`);
      const { position } = await append(node, "user:a");
      await until(async () => (await server.run(levelStandbys)).length > 0);
      await standby.run("SELECT pg_promote()");
      address.lead(Number(new URL(standby.url).port));
      await insist(() => append(node, "user:a"));
      expect(node.changes).toMatchObject([{ isBroken: false, heldThrough: position }]);
      address.lead(Number(new URL(server.url).port));
      await insist(() =>
        append(node, "user:a").catch((error) => /left behind/.test(String(error)) || Promise.reject(error)),
      );
      expect(await runSql(new URL(name, server.url).href, "SELECT FROM ws.epochs")).toHaveLength(1);
      address.lead(Number(new URL(standby.url).port));
      await insist(() => append(node, "user:a"));
      expect(node.changes).toHaveLength(1);
    } finally {
      await address.stop();
      await standby.stop();
    }
  });

  test("is noticed by the next look where a pooler hides that the server is another one", async () => {
    const url = await newLog();
    const pooler = await startPgBouncer({ url, mode: "session" });
    try {
      const node = await openNode(pooler.url);
      const { position } = await append(node, "user:a");
      const cursor = cursorAt(node, position);
      await pooler.restart("transaction");
      await insist(() => append(node, "user:a"));
      await server.halt();
      await server.resume();
      await insist(async () => node.storage.log.movedSince(0, 1).then(() => true));
      await until(async () => node.changes.length > 0);
      await insist(() => append(node, "user:a"));
      expect(node.changes).toMatchObject([{ isBroken: false }]);
      expect(holds(node, cursor)).toBe(true);
    } finally {
      await pooler.stop();
    }
  });

  test("that retention does not keep is forgotten, but for the one that it begins in", async () => {
    const url = await newLog();
    await runSql(
      url,
      `UPDATE ws.epochs SET created_at = 1000;
       INSERT INTO ws.epochs SELECT n, 'epoch00' || n, 0, false, 'line ' || n, 1000 * n, 0, 0 FROM generate_series(2, 5) AS n`,
    );
    const node = await openNode(url);
    await trimAll(node.storage.log, { createdBefore: 3_500, eventsPerTopic: 100 });
    expect((await rows(url)).map(({ no }) => no)).toEqual([3, 4, 5, 6]);
  });
});
