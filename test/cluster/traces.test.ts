/** Shows that a trace goes on at the node that has the subscriber, with two nodes as processes of their own [END3]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Collector, newParent, startCollector } from "../support/collector.ts";
import { laySharedFile, type SharedFile } from "../support/ground.ts";
import { createPeople } from "../support/people.ts";
import type { Service } from "../support/service.ts";

setDefaultTimeout(60_000);

let collector: Collector;
let ground: SharedFile;
let one: Service;
let other: Service;

const startNode = () => ground.startNode({ TRACES__ENDPOINT: collector.url });

beforeAll(async () => {
  collector = startCollector();
  ground = await laySharedFile();
  one = await startNode();
  other = await startNode();
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop()]);
  await ground?.stop();
  await collector?.stop();
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
