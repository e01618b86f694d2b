/** Two installations on one Redis share nothing, whatever database numbers they name and however Redis is run. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Redis } from "ioredis";
import type { Cluster } from "../../src/cluster/ports.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import { record } from "../contract/bus.ts";
import { redisNode, startNodes } from "../support/cluster.ts";
import { exampleCall } from "../support/example-call.ts";
import { arrived } from "../support/ingest.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { add, idsOf } from "../support/records.ts";
import { startRedis, startRedisCluster } from "../support/redis.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const typing = (id: string) =>
  ({ kind: "ephemeral", topic: "typing:c1", id, type: "typing.start", payload: "{}", at: 1 }) as const;

describe.each([
  ["one database", startRedis, ["", ""]],
  ["a database each", startRedis, ["/1", "/2"]],
  ["none named and one named", startRedis, ["", "/3"]],
  ["a Redis Cluster", startRedisCluster, ["", ""]],
] as const)("on %s", (_, start, [here, there]) => {
  let place: { url: string; stop(): Promise<void> };
  let close: (() => Promise<void>)[] = [];
  const nodes = {} as { ours: Cluster; ours2: Cluster; theirs: Cluster };
  beforeAll(async () => {
    place = await start();
    const ours = await startNodes(place.url + here, ["n1", "n2"], { installation: "a" });
    const theirs = await startNodes(place.url + there, ["n1"], { installation: "b" });
    close = [ours.close, theirs.close];
    Object.assign(nodes, { ours: ours.nodes[0], ours2: ours.nodes[1], theirs: theirs.nodes[0] });
  });
  afterAll(async () => {
    for (const end of close) await end();
    await place?.stop();
  });

  test("[END2] [ADM1] presence, calls and nodes are each one's own", async () => {
    const { ours, ours2, theirs } = nodes;
    await add(ours.presence, "ann", { device: "d1" });
    expect(await idsOf(ours2.presence, "ann")).toEqual(["d1"]);
    expect(await idsOf(theirs.presence, "ann")).toEqual([]);
    expect(await theirs.presence.stats()).toEqual({ users: 0, devices: 0 });
    const call = exampleCall();
    const key = { callId: call.callId, userIds: [call.caller.userId] };
    await ours.calls.transact(key, () => ({ put: [call], result: null }));
    expect(await ours2.calls.get(call.callId)).toEqual(call);
    expect(await theirs.calls.get(call.callId)).toBeNull();
    expect(await theirs.calls.callsOf(call.caller.userId)).toEqual([]);
    expect(await theirs.calls.takeDue(Number.MAX_SAFE_INTEGER, 10)).toEqual([]);
    await Promise.all([ours.nodes.beat(1), ours2.nodes.beat(1), theirs.nodes.beat(5)]);
    expect((await ours2.nodes.list()).map(({ nodeId, connections }) => [nodeId, connections])).toEqual([
      ["n1", 1],
      ["n2", 1],
    ]);
    expect((await theirs.nodes.list()).map(({ nodeId, connections }) => [nodeId, connections])).toEqual([["n1", 5]]);
  });

  test("[LOG3] [ADM1] nothing that one says on the bus is heard by the other", async () => {
    const { ours, ours2, theirs } = nodes;
    await Promise.all([ours2.bus.watch("typing:c1"), theirs.bus.watch("typing:c1")]);
    const [heard, overheard] = [record(ours2.bus), record(theirs.bus)];
    ours.bus.publish("typing:c1", typing("1"));
    ours.bus.broadcast({ kind: "replaced", userId: "ann", deviceId: "d1", connectionId: "c1" });
    await heard.topic(() => true);
    await heard.control();
    // Heard by them of their own, after all that was said before.
    const another = redisNode(place.url + there, "n2", { installation: "b" });
    await another.start();
    another.bus.publish("typing:c1", typing("2"));
    await overheard.topic(() => true);
    expect(overheard.topics).toEqual([typing("2")]);
    expect(overheard.controls).toEqual([]);
    await another.stop();
  });
});

describe("with the whole service", () => {
  let database: PostgresServer;
  let redis: Awaited<ReturnType<typeof startRedis>>;
  let production: Service;
  let staging: Service;
  let copy: string;
  const stream = "app-events";
  beforeAll(async () => {
    [database, redis] = await Promise.all([startPostgres(), startRedis()]);
    const url = await database.newDatabase();
    await migrate({ url, lockTimeoutMs: 10_000 });
    // As staging is made as a rule: with production's own row of the installation in it.
    copy = `copy_${Math.random().toString(36).slice(2)}`;
    await database.run(`CREATE DATABASE ${copy} TEMPLATE ${new URL(url).pathname.slice(1)}`);
    const start = (database: string) =>
      startService({
        settings: { STORAGE__URL: database, CLUSTER__URL: redis.url, CLUSTER__INGEST_STREAM: stream },
      });
    const other = Object.assign(new URL(url), { pathname: `/${copy}` }).href;
    [production, staging] = await Promise.all([start(url), start(other)]);
  });
  afterAll(async () => {
    await Promise.all([production?.stop(), staging?.stop()]);
    await database?.run(`DROP DATABASE IF EXISTS ${copy}`);
    await Promise.all([database?.stop(), redis?.stop()]);
  });
  const there = createPeople(() => production.url);
  const here = createPeople(() => staging.url);

  test("[LOG3] [PRE1] [ADM1] nobody hears of another's people, nor misses what was acknowledged", async () => {
    const c = fresh("c");
    const topics = ["conversation", "typing", "presence"];
    const [anna, annaThere] = [await here.connect("anna"), await there.connect("anna")];
    for (const it of [anna, annaThere]) await it.ask("subscribe", { topics, filters: { conversation_id: c } });
    const [ben, benThere] = [await here.connect("ben"), await there.connect("ben")];
    const message = (content: string) => ({ conversation_id: c, client_message_id: fresh("m"), content });
    await ben.ask("message.send", message("a secret of staging"));
    await ben.ask("typing.start", { conversation_id: c });
    await anna.next("typing.start");
    await benThere.ask("message.send", message("production"));
    const [event] = await arrived(annaThere, `conversation:${c}`, 1);
    expect(event!.payload).toMatchObject({ content: "production" });
    expect(annaThere.all("typing.start")).toEqual([]);
    const admin = await there.connect("root", { roles: "admin" });
    expect((await admin.ask("admin.nodes")).nodes).toHaveLength(1);
    expect(await admin.ask("admin.disconnect", { user_id: "ben" })).toEqual({ disconnected: 1, missing_nodes: [] });
    await ben.settled();
  });

  test("[PUB2] each publishes all of a stream that both read", async () => {
    const c = fresh("c");
    const app = new Redis(redis.url);
    const [anna, annaThere] = [await here.connect("anna"), await there.connect("anna")];
    for (const it of [anna, annaThere]) await it.ask("subscribe", { topics: [`conversation:${c}`] });
    for (let n = 1; n <= 20; n++)
      await app.xadd(stream, "*", "conversation_id", c, "type", "order.changed", "payload", `{"n":${n}}`);
    for (const it of [anna, annaThere]) {
      const events = await arrived(it, `conversation:${c}`, 20);
      expect(events.map(({ payload }) => payload.n)).toEqual(Array.from({ length: 20 }, (_, at) => at + 1));
    }
    while ((await app.xlen(stream)) > 0) await Bun.sleep(20);
    app.disconnect();
  });
});
