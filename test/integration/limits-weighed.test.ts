/** Proves that limits weigh what is asked for: large questions, large messages, and what follows from others' traffic [LIM]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { protobufPeer } from "../../src/protocol/protobuf/codec.ts";
import { Client, type Received } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let service: Service;
const megabyte = 1024 * 1024;
beforeAll(async () => {
  service = await startService({
    settings: {
      RATE_LIMITS__ENABLED: "true",
      WEBSOCKET__MAX_MESSAGE_SIZE: "1MiB",
      WEBSOCKET__CLIENT_BUFFER_SIZE: "64",
    },
  });
});
afterAll(() => service.stop());
const { gather } = createPeople(() => service.url);
const connect = (protocols: string[] = []) =>
  Client.connect(service.url, { query: { user_id: fresh("weighed") }, protocols });
const isLimited = ({ payload }: Received) => payload.code === "rate_limited";
const burst = (client: Client, count: number, [type, payload]: [string, object]) =>
  Promise.all(Array.from({ length: count }, () => client.request(type, payload)));

describe("how often", () => {
  test("[LIM] marking and acknowledging every message of others leaves one's own sending alone", async () => {
    const c = fresh("c");
    const [ben, ...others] = await gather(c, [fresh("ben"), fresh("x"), fresh("x"), fresh("x")]);
    for (let round = 0; round < 12; round++) {
      for (const other of others) {
        const sent = await other!.ask("message.send", {
          conversation_id: c,
          client_message_id: fresh("m"),
          content: "x",
        });
        await ben!.next("message.new", ({ message_id }) => message_id === sent.message_id);
        await ben!.ask("mark.delivered", { conversation_id: c, up_to_seq: sent.seq });
        await ben!.ask("mark.read", { conversation_id: c, message_ids: [sent.message_id] });
        const { cursor } = await ben!.ask("ping");
        await ben!.ask("ack", { cursor });
      }
    }
    for (let own = 0; own < 50; own++) {
      await ben!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content: "x" });
    }
  });

  test("[LIM] a query of 500 users counts as ten of fifty", async () => {
    const client = await connect();
    const query = (count: number): [string, object] => [
      "presence.query",
      { user_ids: Array.from({ length: count }, (_, index) => `nobody${index}`) },
    ];
    const replies = await burst(client, 40, query(500));
    const served = replies.findIndex(isLimited);
    expect(served).toBeGreaterThanOrEqual(15);
    const { payload } = replies[served]!;
    // Ten tokens at 300 a minute, less what came back meanwhile.
    expect(payload.retry_after_ms).toBeGreaterThan(0);
    expect(payload.retry_after_ms).toBeLessThanOrEqual(2_000);
    await client.close();
  });

  test("[LIM] coming back with 10,000 topics, or with 1,300 conversations by their ids, is one burst", async () => {
    const names = (kind: string, count: number, from = 0) =>
      Array.from({ length: count }, (_, index) => `${kind}${from + index}`);
    const whole = await connect();
    for (let page = 0; page < 10; page++) {
      await whole.ask("subscribe", { topics: names("presence:stranger", 1_000, page * 1_000) });
    }
    for (const limit of [1, 50, 200]) await whole.request("history", { topic: `user:${fresh("u")}`, limit });
    const filtered = await connect();
    for (const count of [1_000, 300]) {
      await filtered.ask("unsubscribe", {
        topics: ["conversation", "typing", "presence"],
        filters: { conversation_ids: names("room", count, count) },
      });
    }
    await Promise.all([whole.close(), filtered.close()]);
  });

  test("[LIM] all of one's own topics cost what they would by their names, which is known afterwards", async () => {
    const client = await connect();
    const many = Array.from({ length: 400 }, () => fresh("c"));
    await client.ask("subscribe", { topics: ["conversation"], filters: { conversation_ids: many } });
    // 1 + 400 / 200 before, and as many for each of these: fewer than a burst of 150 has at one each.
    const replies = await burst(client, 80, ["subscribe", { topics: ["conversation"] }]);
    const served = replies.findIndex(isLimited);
    expect(served).toBeGreaterThanOrEqual(147 / 3);
    await client.close();
  });

  test("[LIM] a page of history costs what is in it, which is known afterwards", async () => {
    const c = fresh("c");
    const [anna] = await gather(c, [fresh("anna")]);
    const content = "x".repeat(900 * 1024);
    await anna!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content });
    // One after the other: a client that is as far behind as this would be closed.
    let served = 0;
    while (!isLimited(await anna!.request("history", { topic: `conversation:${c}`, limit: 1 }))) served++;
    expect(served).toBeGreaterThan(30);
    expect(served).toBeLessThan(150);
    await anna!.close();
  });

  test("[LIM] [LOG5] what is replayed for a subscribe costs what is in it, again each time", async () => {
    const c = fresh("c");
    const topics = [`conversation:${c}`];
    const anna = await connect();
    const { cursor } = await anna.ask("ping");
    for (const content of ["x".repeat(900 * 1024), "the last one"])
      await anna.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content });
    const replayed = async () => {
      const reply = await anna.request("subscribe", { topics, since: { cursor } });
      if (isLimited(reply)) return false;
      expect(reply.payload.topics[0].replayed).toBe(2);
      return !isLimited(await anna.request("unsubscribe", { topics }));
    };
    // Each takes one and three more, and one to leave: two alone would be 75 of a burst of 150.
    let served = 0;
    while (await replayed()) served++;
    expect(served).toBeGreaterThan(20);
    expect(served).toBeLessThan(60);
    await anna.close();
  });

  test("[LIM] [REC3] a list costs what is in it, also of conversations that one is on already", async () => {
    const anna = await connect();
    const ids = Array.from({ length: 16 }, () => fresh("c"));
    const content = "x".repeat(60_000);
    for (const conversation_id of ids)
      await anna.ask("message.send", { conversation_id, client_message_id: fresh("m"), content });
    const topics = ids.map((id) => `conversation:${id}`);
    const { topics: shown } = await anna.ask("subscribe", { topics });
    for (const { snapshot } of shown) expect(snapshot.last_message.payload.content).toBe(content);
    // 960,000 bytes: three more than the one.
    let served = 0;
    while (!isLimited(await anna.request("subscribe", { topics }))) served++;
    expect(served).toBeGreaterThan(30);
    expect(served).toBeLessThan(150);
    await anna.close();
  });
});

describe("how much", () => {
  const textBytes = 1_000 * 1024;
  const text = "x".repeat(textBytes);
  const send = (client_message_id: string) => ({ conversation_id: "bytes", client_message_id, content: text });

  test("[LIM] the bytes of messages count: one of the largest at once, four a minute", async () => {
    const client = await connect();
    expect((await client.request("message.send", send("m1"))).type).toBe("ack");
    const refused = await client.request("message.send", send("m2"));
    expect(refused.payload.code).toBe("rate_limited");
    const missing = 2 * textBytes - megabyte;
    expect(refused.payload.retry_after_ms).toBeGreaterThan(0);
    expect(refused.payload.retry_after_ms).toBeLessThanOrEqual(((missing + 4096) / (4 * megabyte)) * 60_000);
    // A small message still passes, and so does what is not a message.
    expect((await client.request("message.send", { ...send("m3"), content: "small" })).type).toBe("ack");
    await client.settled();
    await client.close();
  });

  test("[LIM] a large message over the limit is refused before it is read, wherever its id stands", async () => {
    const client = await connect();
    expect((await client.request("message.send", send("m1"))).type).toBe("ack");
    const broken = `{"conversation_id":"bytes","content":{"x":${text}}}`;
    const frames = [
      `{"id":"first","type":"message.send","payload":${broken}}`,
      `{"payload":${broken},"timestamp":7,"type":"message.send","id":"last"}`,
      `{"id":"split","payload":${broken},"type":"message.send"}`,
      `{ "id" : "q\\"\u0041" , "type":"message.send","payload":${broken}}`,
    ];
    for (const frame of frames) client.socket.send(frame);
    for (const id of ["first", "last", "split", 'q\\"A'.replace("\\", "")]) {
      expect((await client.find(({ reply_to }) => reply_to === id)).payload.code).toBe("rate_limited");
    }
    await client.close();
    const binary = await connect([subprotocols.protobuf]);
    expect((await binary.request("message.send", send("m2"))).type).toBe("ack");
    const frame = protobufPeer.encode({ id: "binary", type: "message.send", payload: send("m3") });
    // A length that leads beyond the end: no decoder takes it.
    binary.socket.send(frame.slice(0, -1));
    expect((await binary.request("message.send", send("m4"))).payload.code).toBe("rate_limited");
    await binary.close();
  });

  test("[LIM] [ENV6] a large frame of another type is refused without being read, and is answered", async () => {
    const client = await connect();
    const frame = `{"id":"large","type":"mark.read","payload":{"x":${text}}}`;
    client.socket.send(frame);
    const reply = await client.find(({ reply_to }) => reply_to === "large");
    expect(reply.payload.code).toBe("message_too_large");
    await client.close();
  });
});

describe("how many values", () => {
  test.each(Object.entries(subprotocols))("[ENV6] a message has at most 50,000 values, in %s", async (_, protocol) => {
    const client = await connect([protocol]);
    const content = (values: number) => ({ list: Array.from({ length: values }, () => ({})) });
    const send = (values: number) =>
      client.request("message.send", {
        conversation_id: fresh("c"),
        client_message_id: fresh("m"),
        content: content(values),
      });
    expect((await send(40_000)).type).toBe("ack");
    const { payload } = await send(50_001);
    expect(payload.code).toBe(protocol === subprotocols.json ? "invalid_json" : "invalid_message");
    expect(payload.message).toContain("50000 values");
    await client.close();
  });
});
