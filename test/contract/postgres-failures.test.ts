/** The PostgreSQL storage on many nodes at once, and while connections, locks and the server fail. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import postgres from "postgres";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { NewEvent, Storage } from "../../src/storage/ports.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { createPostgresStorage, type PostgresStorageOptions } from "../../src/storage/postgres/storage.ts";
import { recordChanges } from "../support/change-recorder.ts";
import { newEvent, newEvents } from "../support/new-event.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { startSilentProxy } from "../support/silent-proxy.ts";

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(() => server?.stop());

const mayHalt = process.env.TEST_DATABASE_URL === undefined;
const topics = ["conversation:a", "conversation:b", "user:a"];

/** Nodes on one schema of their own. */
async function openNodes(count: number, options: Partial<PostgresStorageOptions> = {}) {
  const schema = server.newSchema();
  await migrate({ url: server.url, schema, lockTimeoutMs: 5_000 });
  const open = () => createPostgresStorage({ url: server.url, schema, poolSize: 5, ...options });
  const nodes = Array.from({ length: count }, open);
  await Promise.all(nodes.map((node) => node.start()));
  const close = async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await server.dropSchema(schema);
  };
  return { schema, nodes, node: nodes[0]!, close };
}

/** A transaction of somebody else that stays open until it is told. */
async function openTransaction(...statements: string[]) {
  const sql = postgres(server.url, { max: 1, onnotice: () => {} });
  await sql.unsafe("BEGIN").simple();
  for (const statement of statements) await sql.unsafe(statement).simple();
  return async (end: "COMMIT" | "ROLLBACK") => {
    await sql.unsafe(end).simple();
    await sql.end();
  };
}

const refusalOf = (work: Promise<unknown>) => work.then(() => null).catch((error: unknown) => error);

/** Comes again with the same keys until the log has them, as clients do. */
async function appendUntilTaken({ log }: Storage, batch: NewEvent[]): Promise<void> {
  for (;;) {
    try {
      await log.append(batch);
      return;
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
    }
  }
}

/** Keyed batches for the topics in turn, and the ids in them. */
function keyedBatches(name: string, count: number) {
  return Array.from({ length: count }, (_, index) =>
    Array.from({ length: 1 + (index % 4) }, (_, part) =>
      newEvent(topics[(index + part) % topics.length]!, { once: { keys: [`${name}:${index}:${part}`] } }),
    ),
  );
}

/** Everything in the topics, which must be whole: seq and position as if one had appended it all. */
async function readWhole({ log }: Storage): Promise<string[]> {
  const ids: string[] = [];
  const positions: number[] = [];
  for (const topic of topics) {
    const { events } = await log.range({ topic, afterSeq: 0, throughSeq: 1e9, limit: 1e6 });
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
    expect(events.map(({ position }) => position)).toEqual(
      events.map(({ position }) => position).toSorted((a, b) => a - b),
    );
    ids.push(...events.map(({ id }) => id));
    positions.push(...events.map(({ position }) => position));
  }
  expect(new Set(positions).size).toBe(positions.length);
  return ids;
}

describe("PostgreSQL: many nodes", () => {
  test("[LOG1] [LOG4] no event ever appears below a position that was read, and no seq is missing", async () => {
    const { nodes, node, close } = await openNodes(3);
    let appending = true;
    const reader = (async () => {
      const seen = new Map(topics.map((topic) => [topic, 0]));
      let position = 0;
      let rounds = 0;
      for (let last = false; !last; rounds++) {
        last = !appending;
        const moved = await nodes[2]!.log.movedSince(position, 100);
        for (const head of moved.heads) {
          expect(head.position).toBeGreaterThan(position);
          const { events } = await nodes[2]!.log.range({
            topic: head.topic,
            afterSeq: seen.get(head.topic)!,
            throughSeq: head.seq,
            limit: 10_000,
          });
          // All of it is there at once, and all of it lies above what was read.
          expect(events.map(({ seq }) => seq)).toEqual(events.map((_, at) => seen.get(head.topic)! + 1 + at));
          for (const event of events) expect(event.position).toBeGreaterThan(position);
          seen.set(head.topic, head.seq);
        }
        position = moved.position;
      }
      return { position, rounds };
    })();
    const batches = [keyedBatches("one", 150), keyedBatches("two", 150)];
    await Promise.all(batches.flatMap((of, index) => of.map((batch) => nodes[index]!.log.append(batch))));
    appending = false;
    const { position } = await reader;
    const total = batches.flat(2).length;
    expect(position).toBe(total);
    expect(await node.log.stats()).toEqual({ events: total, topics: topics.length, position: total });
    expect((await readWhole(node)).toSorted()).toEqual(
      batches
        .flat(2)
        .map(({ id }) => id)
        .toSorted(),
    );
    await close();
  });

  test("[LOG2] two nodes that are given the same keys append them once, also against the order of each other", async () => {
    const { nodes, node, close } = await openNodes(2);
    const keys = Array.from({ length: 40 }, (_, index) => `k${index}`);
    const batch = (of: string[]) => of.map((key) => newEvent("user:a", { once: { keys: [key] } }));
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, turn) =>
        nodes[turn % 2]!.log.append(batch(turn % 2 === 0 ? keys : keys.toReversed())),
      ),
    );
    const first = answers.flatMap(({ appended }) => appended).filter(({ duplicate }) => !duplicate);
    expect(first).toHaveLength(keys.length);
    expect((await node.log.stats()).events).toBe(keys.length);
    await close();
  });

  test("[LOG2] two nodes that say two things under the same keys: one thing is said, and the other is told", async () => {
    const { nodes, node, close } = await openNodes(2);
    const keys = Array.from({ length: 40 }, (_, index) => `k${index}`);
    const said = await Promise.all(
      nodes.map(({ log }, digest) =>
        Promise.all(
          keys.map((key) => log.append([newEvent("user:a", { once: { keys: [key], digest: String(digest) } })])),
        ),
      ),
    );
    for (const index of keys.keys()) {
      const answers = said.map((results) => results[index]!.appended[0]!);
      expect(answers.filter(({ duplicate }) => !duplicate)).toHaveLength(1);
      expect(answers.filter(({ conflict }) => conflict)).toHaveLength(1);
    }
    expect((await node.log.stats()).events).toBe(keys.length);
    await close();
  });

  test("[LOG7] a trim under way holds up no append, and an append under way no trim", async () => {
    const { schema, node, close } = await openNodes(1, { queryTimeoutMs: 2_000 });
    await node.log.append(newEvents("user:a", 20, { createdAt: 10, once: undefined }));
    const endTrim = await openTransaction(`SELECT * FROM ${schema}.trim(100, 1000, 5)`);
    const { appended } = await node.log.append([newEvent("user:a", { createdAt: 200 })]);
    expect(appended[0]!.seq).toBe(21);
    // Another node has its turn: there is nothing to do here.
    expect(await node.log.trim({ createdBefore: 100, eventsPerTopic: 1_000, batch: 5 })).toEqual({
      removed: 0,
      more: false,
    });
    await endTrim("COMMIT");
    expect((await node.log.stats()).events).toBe(16);

    const endAppend = await openTransaction(
      `SELECT * FROM ${schema}.append('{user:a}', '{1}', '{x}', '{t}', '{"{}"}', '{200}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`,
    );
    expect((await node.log.trim({ createdBefore: 100, eventsPerTopic: 1_000, batch: 5 })).removed).toBe(5);
    await endAppend("ROLLBACK");
    expect((await node.log.append([newEvent("user:a")])).appended[0]).toMatchObject({ seq: 22 });
    await close();
  });
});

describe("PostgreSQL: when it is away", () => {
  test("[LOG1] [LOG2] while connections are cut again and again nothing acknowledged is lost or doubled", async () => {
    const { nodes, node, close } = await openNodes(2);
    let cutting = true;
    let taken = Promise.withResolvers<void>();
    const cuts = (async () => {
      let count = 0;
      while (cutting) {
        // Something has to get through in between, however long connecting takes on this machine.
        taken = Promise.withResolvers();
        const cut = await server.run(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE application_name = 'ws-service' AND datname = current_database()`,
        );
        count += cut.length;
        await taken.promise;
      }
      return count;
    })();
    const batches = [keyedBatches("one", 24), keyedBatches("two", 24)];
    await Promise.all(
      batches.map(async (of, index) => {
        for (const batch of of) {
          await appendUntilTaken(nodes[index]!, batch);
          taken.resolve();
        }
      }),
    );
    cutting = false;
    taken.resolve();
    expect(await cuts).toBeGreaterThan(0);
    await appendUntilTaken(node, [newEvent("user:last")]);
    expect(new Set(await wholeWithLast(node)).size).toBe(batches.flat(2).length);
    await close();
  });

  test.skipIf(!mayHalt)(
    "[LOG1] [LOG2] over a crash of the server nothing acknowledged is lost or doubled",
    async () => {
      const { node, close } = await openNodes(1, { queryTimeoutMs: 2_000 });
      const batches = keyedBatches("crash", 40);
      for (const [index, batch] of batches.entries()) {
        if (index === 20) {
          await server.halt();
          expect(await refusalOf(node.log.append(batch))).toBeInstanceOf(Unavailable);
          expect(await refusalOf(node.prove())).toBeInstanceOf(Unavailable);
          await server.resume();
        }
        await appendUntilTaken(node, batch);
      }
      const recorder = recordChanges(node.directory);
      expect((await readWhole(node)).toSorted()).toEqual(
        batches
          .flat()
          .map(({ id }) => id)
          .toSorted(),
      );
      await node.directory.upsertUsers(["ann"]);
      await recorder.told(({ kind }) => kind === "user_changed" || kind === "resync");
      recorder.stop();
      await close();
    },
  );

  test("a statement that waits for a lock is given up, and the others go on meanwhile", async () => {
    const { schema, node, close } = await openNodes(1, { queryTimeoutMs: 1_000 });
    await node.log.append([newEvent("user:a")]);
    const end = await openTransaction(`LOCK TABLE ${schema}.topics IN EXCLUSIVE MODE`);
    const event = newEvent("user:a", { once: { keys: ["k"] } });
    expect(await refusalOf(node.log.append([event]))).toBeInstanceOf(Unavailable);
    expect(await node.log.watermark()).toBe(1);
    await end("ROLLBACK");
    await appendUntilTaken(node, [event]);
    expect(await node.log.watermark()).toBe(2);
    await close();
  });

  test("[PUB3] a network that falls silent is noticed: statements are refused, new connections are made, all is resynced", async () => {
    const { hostname, port } = new URL(server.url);
    const proxy = await startSilentProxy({ hostname, port: Number(port || 5432) });
    const url = new URL(server.url);
    url.hostname = "127.0.0.1";
    url.port = String(proxy.port);
    const { node, close } = await openNodes(1, { url: url.href, queryTimeoutMs: 400, heartbeatMs: 100 });
    await node.log.append([newEvent("user:a")]);
    const recorder = recordChanges(node.directory);
    proxy.silence();
    expect(await refusalOf(node.log.append([newEvent("user:a")]))).toBeInstanceOf(Unavailable);
    await appendUntilTaken(node, [newEvent("user:a")]);
    await recorder.told(({ kind }) => kind === "resync");
    recorder.stop();
    await close();
    proxy.stop();
  });

  test("more statements than may wait are refused at once", async () => {
    const { node, close } = await openNodes(1, { poolSize: 3, waitingMax: 5 });
    const answers = await Promise.allSettled(Array.from({ length: 20 }, () => node.log.watermark()));
    const refused = answers.filter(({ status }) => status === "rejected");
    expect(refused).toHaveLength(14);
    for (const answer of refused) {
      expect(answer.status === "rejected" && answer.reason).toBeInstanceOf(Unavailable);
    }
    await close();
  });

  test("nobody listens on the port: a start is refused, and nothing is left behind", async () => {
    const storage = createPostgresStorage({ url: "postgres://nobody@127.0.0.1:1/none", queryTimeoutMs: 500 });
    expect(await refusalOf(storage.start())).toBeInstanceOf(Unavailable);
    expect(await refusalOf(storage.prove())).toBeInstanceOf(Unavailable);
    await storage.stop();
  });
});

/** As `readWhole`, where the newest event is of another topic. */
async function wholeWithLast(node: Storage): Promise<string[]> {
  const end = await node.log.watermark();
  const ids = await readWhole(node);
  expect(end).toBeGreaterThan(ids.length);
  return ids;
}
