/** Shows what a collector is given of requests, with the service as a process of its own [END3]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { protobufPeer } from "../../src/protocol/protobuf/codec.ts";
import { Client } from "../support/client.ts";
import { type CollectedSpan, type Collector, newParent, startCollector } from "../support/collector.ts";
import { freePorts } from "../support/free-ports.ts";
import { fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let collector: Collector;
let service: Service;
beforeAll(async () => {
  collector = startCollector();
  service = await startService({
    settings: {
      TRACES__ENDPOINT: collector.url,
      TRACES__HEADERS: "authorization=Bearer of-the-collector, x-tenant=1",
      // It is of what no client traces.
      TRACES__SAMPLE_RATIO: "0",
    },
  });
});
afterAll(async () => {
  await service?.stop();
  await collector?.stop();
});

const connect = (to = service, options = {}) =>
  Client.connect(to.url, { query: { user_id: fresh("anna") }, ...options });
let requests = 0;

/** Sends a request with a span of the client's, and waits for its answer. */
async function ask(client: Client, type: string, { payload, ...more }: { payload: object; traceparent?: unknown }) {
  const id = `t${++requests}`;
  const envelope = { id, type, payload, ...more };
  const isBinary = client.socket.protocol === subprotocols.protobuf;
  client.socket.send(isBinary ? protobufPeer.encode(envelope) : JSON.stringify(envelope));
  return client.find(({ reply_to }) => reply_to === id);
}

const message = (content = "hello") => ({
  conversation_id: fresh("talk-of-anna"),
  client_message_id: fresh("first-of-anna"),
  content,
});
const nanos = ({ startTimeUnixNano, endTimeUnixNano }: CollectedSpan) =>
  [BigInt(startTimeUnixNano), BigInt(endTimeUnixNano)] as const;
const factsOf = ({ attributes }: CollectedSpan) =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));

test("[ENV1] a message that its client traces is one trace, from its request through the log to its publication", async () => {
  const client = await connect();
  const parent = newParent();
  const payload = message("words of anna");
  const before = BigInt(Date.now()) * 1_000_000n;
  expect((await ask(client, "message.send", { payload, traceparent: parent.traceparent })).type).toBe("ack");
  const after = BigInt(Date.now() + 1) * 1_000_000n;
  const { "message.send": request, append, publish, ...others } = await collector.trace(parent.traceId, 3);
  expect(others).toEqual({});
  expect(request).toMatchObject({ parentSpanId: parent.spanId, kind: 2 });
  for (const step of [append!, publish!]) expect(step).toMatchObject({ parentSpanId: request!.spanId, kind: 1 });
  expect(Object.keys(factsOf(request!))).toEqual(["ws.connection_id"]);
  expect(factsOf(append!)).toEqual({ "ws.batch.events": 1 });
  // One after the other, and within the request.
  const [[begun, ended], appended, published] = [nanos(request!), nanos(append!), nanos(publish!)];
  const inOrder = [before, begun, ...appended, ...published, ended, after];
  expect(inOrder.toSorted((a, b) => Number(a - b))).toEqual(inOrder);
  expect(appended[1]).toBeGreaterThan(appended[0]);
  // Nothing of who it was and what was said.
  const told = collector.bodies.join();
  for (const secret of ["anna", payload.content, payload.conversation_id, payload.client_message_id])
    expect(told).not.toContain(secret);
  expect(told).toContain('"service.name"');
  expect(collector.headers[0]!.get("authorization")).toBe("Bearer of-the-collector");
  expect(collector.headers[0]!.get("x-tenant")).toBe("1");
});

test("[ENV1] a request of any type is traced where its client does so, and a refusal is on its span", async () => {
  const client = await connect();
  const [asked, refused] = [newParent(), newParent()];
  const payload = { topics: ["user"] };
  await ask(client, "subscribe", { payload, traceparent: asked.traceparent });
  const bad = { conversation_id: fresh("c"), type: "never.declared", payload: {} };
  const reply = await ask(client, "event.send", { payload: bad, traceparent: refused.traceparent });
  expect(reply.payload.code).toBe("forbidden");
  expect(Object.keys(await collector.trace(asked.traceId, 1))).toEqual(["subscribe"]);
  const { "event.send": span } = await collector.trace(refused.traceId, 1);
  expect(factsOf(span!)).toMatchObject({ "error.type": "forbidden" });
  // It is no fault of the service's.
  expect(span!.status.code ?? 0).toBe(0);
});

test("[ENV1] what is not sampled, or is no traceparent, is not traced, and refuses nothing; the same in protobuf", async () => {
  const { traceparent, traceId, spanId } = newParent();
  const not = [
    newParent({ isSampled: false }).traceparent,
    traceparent.toUpperCase(),
    `ff-${traceId}-${spanId}-01`,
    `00-${"0".repeat(32)}-${spanId}-01`,
    `00-${traceId}-${"0".repeat(16)}-01`,
    `00-${traceId}-${spanId}-01-more`,
    `00-${traceId}-${spanId}`,
    "",
    17,
    null,
    { version: 0 },
  ];
  const client = await connect();
  for (const each of not) {
    const reply = await ask(client, "message.send", { payload: message(), traceparent: each });
    expect([each, reply.type]).toEqual([each, "ack"]);
  }
  const binary = await connect(service, { protocols: [subprotocols.protobuf] });
  const malformed = await ask(binary, "message.send", { payload: message(), traceparent: "00-abc" });
  expect(malformed.type).toBe("ack");
  // A version to come may say more at its end; this one is behind all others on its way to the collector.
  const last = newParent();
  const later = `01${last.traceparent.slice(2)}-more`;
  await ask(binary, "message.send", { payload: message(), traceparent: later });
  await collector.trace(last.traceId, 3);
  const seen = collector
    .spans()
    .filter(({ name, parentSpanId }) => name === "message.send" && parentSpanId === undefined);
  expect(seen).toEqual([]);
  expect(collector.spans().filter((it) => it.traceId.toLowerCase() === traceId)).toEqual([]);
});

test("[END3] with a ratio of 1 what is logged begins a trace by itself, all of it with the size of its batch, and nothing else does", async () => {
  const mine = startCollector();
  const traced = await startService({ settings: { TRACES__ENDPOINT: mine.url } });
  const client = await connect(traced);
  await client.ask("ping");
  await client.ask("typing.start", { conversation_id: "c1" });
  const ids = Array.from({ length: 20 }, () => client.send("message.send", { ...message(), conversation_id: "c1" }));
  for (const id of ids) await client.find(({ reply_to }) => reply_to === id);
  // Sent before the process ends, not a second later.
  traced.signal("SIGTERM");
  expect(await traced.exited).toBe(0);
  await traced.stop();
  const spans = mine.spans();
  const named = (name: string) => spans.filter((it) => it.name === name);
  expect([named("message.send"), named("append"), named("publish")].map(({ length }) => length)).toEqual([20, 20, 20]);
  expect(spans).toHaveLength(60);
  expect(new Set(named("message.send").map(({ traceId }) => traceId)).size).toBe(20);
  expect(Math.max(...named("append").map((it) => Number(factsOf(it)["ws.batch.events"])))).toBeGreaterThan(1);
  await mine.stop();
});

test("[END3] while the collector is away everything goes on, which is said once, and again when it is back", async () => {
  const [port] = await freePorts(1);
  const traced = await startService({ settings: { TRACES__ENDPOINT: `http://127.0.0.1:${port}/v1/traces` } });
  const client = await connect(traced);
  const send = (content: string) => client.ask("message.send", { ...message(content), conversation_id: "c1" });
  // More than may wait to be sent.
  const answers = await Promise.all(Array.from({ length: 1_000 }, (_, at) => send(`n${at}`)));
  expect(answers.every(({ duplicate }) => duplicate === false)).toBe(true);
  const gone = ({ msg }: { msg: string }) => msg === "traces are not taken, and dropped";
  expect((await traced.logged(gone)).level).toBe("warn");
  const { events } = await client.ask("history", { topic: "conversation:c1", limit: 1 });
  expect(events[0]).toMatchObject({ seq: 1_000, payload: { content: "n999" } });
  const back = startCollector({ port: port! });
  await eventually(
    async () => void (await send("again")),
    () => traced.logs.some(({ msg }) => msg === "traces are taken again"),
  );
  expect(traced.logs.filter(gone)).toHaveLength(1);
  expect(back.spans().length).toBeGreaterThan(0);
  // Nor is it waited for at the end.
  await back.stop();
  await send("last");
  traced.signal("SIGTERM");
  expect(await traced.exited).toBe(0);
  await traced.stop();
});
