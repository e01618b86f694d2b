/** Proves what clients of two nodes are told when a standby takes the primary's place: with a loss everybody, without one nobody [LOG4]. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { contentsOf, fresh, sendAll } from "../support/people.ts";
import { type PostgresPair, type Replication, startPostgresPair } from "../support/postgres-pair.ts";
import { type LinkProxy, startProxy } from "../support/proxy.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startService } from "../support/service.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis?.stop());

interface Stage {
  pair: PostgresPair;
  one: Service;
  other: Service;
  /** The standby takes over, and the address with it. */
  failOver(how: "at once" | "orderly"): Promise<void>;
  stop(): Promise<void>;
}

async function openStage(replication: Replication): Promise<Stage> {
  const pair = await startPostgresPair(replication);
  const address = await startProxy(pair.port);
  const url = `postgres://postgres@127.0.0.1:${address.port}/postgres`;
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  const settings = { STORAGE__URL: url, CLUSTER__URL: redis.url, STORAGE__QUERY_TIMEOUT: "2s" };
  const [one, other] = await Promise.all([startService({ settings }), startService({ settings })]);
  return {
    pair,
    one,
    other,
    failOver: (how) => failOver(pair, address, how),
    async stop() {
      await Promise.all([one.stop(), other.stop()]);
      await address.stop();
      await pair.stop();
    },
  };
}

async function failOver(pair: PostgresPair, address: LinkProxy, how: "at once" | "orderly"): Promise<void> {
  address.cut();
  await pair.lose(how);
  address.lead(await pair.promote());
  address.heal();
}

const clients: Client[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
});

async function connect({ url }: Service, userId: string, query: Record<string, string> = {}): Promise<Client> {
  const client = await Client.connect(url, { query: { user_id: userId, ...query }, patienceMs: 30_000 });
  clients.push(client);
  return client;
}

/** Two users of a new conversation, each on a node of its own. */
async function gather({ one, other }: Stage) {
  const c = fresh("c");
  const [anna, ben] = [await connect(one, fresh("anna")), await connect(other, fresh("ben"))];
  for (const client of [anna, ben]) await client.ask("subscribe", { topics: [`conversation:${c}`] });
  return { c, anna, ben };
}

/** Sends again with the same key until it is taken, as a client does. @returns the ack */
async function insist(client: Client, c: string, content: string): Promise<{ seq: number; position: number }> {
  const payload = { conversation_id: c, client_message_id: fresh("key"), content };
  for (;;) {
    const reply = await client.request("message.send", payload);
    if (reply.type === "ack") return reply.payload;
    expect(reply.payload).toMatchObject({ code: "unavailable" });
  }
}

/** A cursor that has come up to the end of the log. */
async function cursorAtEnd(node: Service, c: string): Promise<unknown> {
  for (;;) {
    const { cursor } = await (await connect(node, fresh("guest"))).ask("ping");
    if ((await resume(node, c, cursor)).replayed === 0) return cursor;
  }
}

/** From now on the standby has nothing more of what is committed. */
async function leaveBehind({ run, link }: PostgresPair): Promise<void> {
  await until(async () => (await run(levelStandbys)).length > 0);
  link.freeze();
}
const levelStandbys = "SELECT 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";

const unasked = (client: Client) =>
  client
    .all("subscribed")
    .filter(({ reply_to, payload }) => reply_to === undefined && payload.topics[0]?.recovered === false);
const loss = (client: Client) =>
  client.find(
    ({ type, reply_to, payload }) => type === "subscribed" && !reply_to && payload.topics[0]?.recovered === false,
  );
const losses = ({ logs }: Service) =>
  logs.filter(({ level, msg }) => level === "error" && msg.startsWith("the log has gone back"));
const epochs = ({ pair }: Stage) => pair.run("SELECT no, broken, began_at FROM ws.epochs ORDER BY no");

async function resume(
  node: Service,
  c: string,
  cursor: unknown,
): Promise<{ recovered: boolean; replayed: number; seq: number }> {
  const client = await connect(node, fresh("guest"));
  const { topics } = await client.ask("subscribe", { topics: [`conversation:${c}`], since: { cursor } });
  return topics[0];
}

describe("asynchronous replication", () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await openStage("asynchronous");
  });
  afterAll(() => stage?.stop());

  test("[LOG4] acknowledged events that a failover has lost: everybody is told to load anew, once, and nobody goes on deaf", async () => {
    const { one, other, pair } = stage;
    const { c, anna, ben } = await gather(stage);
    await sendAll(anna, c, ["1", "2", "3"]);
    await ben.next("message.new", ({ content }) => content === "3");
    const before = await cursorAtEnd(one, c);
    await leaveBehind(pair);
    await sendAll(anna, c, ["4", "5", "6", "7", "8"]);
    await ben.next("message.new", ({ content }) => content === "8");
    const beyond = await cursorAtEnd(other, c);
    await stage.failOver("at once");
    for (const client of [anna, ben]) {
      const { payload } = await loss(client);
      expect(payload.topics).toContainEqual({ topic: `conversation:${c}`, seq: 3, recovered: false });
      expect(payload.topics.every(({ recovered }: { recovered: boolean }) => !recovered)).toBe(true);
      expect(payload.cursor).toBeDefined();
    }
    // An event that comes next has the number that was lost, and is heard.
    expect(await insist(ben, c, "new")).toMatchObject({ seq: 4 });
    expect(await anna.next("message.new", ({ content }) => content === "new")).toMatchObject({ seq: 4 });
    // It holds, and what comes after it is sent; what its owner had of that, and is lost, nobody knows.
    expect(await resume(one, c, before)).toMatchObject({ recovered: false, replayed: 1, seq: 4 });
    expect(await resume(other, c, beyond)).toMatchObject({ recovered: false, seq: 4 });
    for (const client of [anna, ben]) expect(unasked(client)).toHaveLength(1);
    for (const node of [one, other]) await until(async () => losses(node).length === 1);
    expect((await epochs(stage)).map(({ broken }) => broken)).toEqual([false, true]);
    const root = await connect(one, fresh("root"), { roles: "admin" });
    const { log } = await root.ask("admin.stats");
    expect(log).toMatchObject({ epoch: 2, losses: 1 });
  });

  test("[LOG4] again, while one node sleeps and clients come back: the one hears of it when it wakes, the others are told that they are not whole", async () => {
    const { one, other, pair } = stage;
    await pair.refill();
    const { c, anna, ben } = await gather(stage);
    await sendAll(anna, c, ["1", "2", "3"]);
    await ben.next("message.new", ({ content }) => content === "3");
    const before = await cursorAtEnd(one, c);
    await leaveBehind(pair);
    other.signal("SIGSTOP");
    await sendAll(anna, c, ["4", "5"]);
    const beyond = await cursorAtEnd(one, c);
    const losing = stage.failOver("at once");
    const returned = comeBack(one, c, beyond);
    await losing;
    expect(await insist(anna, c, "new")).toMatchObject({ seq: 4 });
    // Numbers that the first failover has passed over are no loss.
    expect(await resume(one, c, before)).toMatchObject({ recovered: false, replayed: 1 });
    other.signal("SIGCONT");
    expect((await loss(ben)).payload.topics).toContainEqual({ topic: `conversation:${c}`, seq: 4, recovered: false });
    expect(await insist(ben, c, "newer")).toMatchObject({ seq: 5 });
    await anna.next("message.new", ({ content }) => content === "newer");
    // With its reply, or where it was faster than whoever noticed, by itself.
    const topic = { topic: `conversation:${c}`, recovered: false };
    await (await returned).next("subscribed", ({ topics }) => topics.some((it: object) => Bun.deepMatch(topic, it)));
    expect((await epochs(stage)).map(({ broken }) => broken)).toEqual([false, true, true]);
    for (const node of [one, other]) await until(async () => losses(node).length === 2);
  });
});

/** Tries until it is let in and on the topic. */
async function comeBack(node: Service, c: string, cursor: unknown): Promise<Client> {
  for (;;) {
    const client = await connect(node, fresh("back")).catch(() => null);
    const reply = await client?.request("subscribe", { topics: [`conversation:${c}`], since: { cursor } });
    if (client && reply?.type === "subscribed") return client;
    await Bun.sleep(20);
  }
}

describe("synchronous replication", () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await openStage("synchronous");
  });
  afterAll(() => stage?.stop());

  for (const how of ["orderly", "at once"] as const) {
    test(`[LOG4] a failover ${how} that loses nothing is a pause and no more: nobody is told, and cursors hold`, async () => {
      const { one, other, pair } = stage;
      if (how === "at once") await pair.refill();
      const { c, anna, ben } = await gather(stage);
      await sendAll(anna, c, ["1", "2", "3"]);
      await ben.next("message.new", ({ content }) => content === "3");
      const before = await cursorAtEnd(other, c);
      await stage.failOver(how);
      expect(await insist(ben, c, "4")).toMatchObject({ seq: 4 });
      await anna.next("message.new", ({ content }) => content === "4");
      for (const node of [one, other]) await goesOn(node, how === "orderly" ? 1 : 2);
      for (const client of [anna, ben]) {
        await client.settled();
        expect(unasked(client)).toEqual([]);
      }
      expect(contentsOf(anna)).toEqual(["4"]);
      expect(contentsOf(ben)).toEqual(["1", "2", "3"]);
      expect(await resume(one, c, before)).toMatchObject({ recovered: true, replayed: 1, seq: 4 });
      expect([losses(one), losses(other)]).toEqual([[], []]);
    });
  }
});

/** The node has noticed so many epochs without a loss. */
async function goesOn({ logs }: Service, times: number): Promise<void> {
  await until(
    async () => logs.filter(({ msg }) => msg.startsWith("the log goes on in another epoch")).length === times,
  );
}
