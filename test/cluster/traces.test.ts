/** Shows that a trace goes on at the node that has the subscriber, with two nodes as processes of their own [END3]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Collector, newParent, startCollector } from "../support/collector.ts";
import { createPeople } from "../support/people.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startClusterNode } from "../support/service.ts";

setDefaultTimeout(60_000);

let collector: Collector;
let redis: RedisServer;
let shared: string;
let one: Service;
let other: Service;

const startNode = () =>
  startClusterNode(redis.url, {
    settings: { STORAGE__URL: `sqlite:${join(shared, "log.db")}`, TRACES__ENDPOINT: collector.url },
  });

beforeAll(async () => {
  shared = mkdtempSync(join(tmpdir(), "ws-traces-"));
  collector = startCollector();
  redis = await startRedis();
  one = await startNode();
  other = await startNode();
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop()]);
  await redis?.stop();
  await collector?.stop();
  rmSync(shared, { recursive: true, force: true });
});

test("[ENV1] what one node publishes is delivered within the same trace by the node that has a subscriber", async () => {
  const anna = await createPeople(() => one.url).connect("anna");
  const ben = await createPeople(() => other.url).connect("ben");
  await ben.ask("subscribe", { topics: ["conversation:c1"] });
  const parent = newParent();
  const payload = { conversation_id: "c1", client_message_id: "m1", content: "hello" };
  anna.socket.send(JSON.stringify({ id: "t1", type: "message.send", payload, traceparent: parent.traceparent }));
  await ben.next("message.new");
  const { "message.send": request, publish, deliver } = await collector.trace(parent.traceId, 4);
  expect(request!.parentSpanId).toBe(parent.spanId);
  expect(publish!.parentSpanId).toBe(request!.spanId);
  expect(deliver).toMatchObject({ parentSpanId: publish!.spanId, kind: 5 });
});
