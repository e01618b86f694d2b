/** Proves the frame around every message: ids, one reply each, order, sizes, depth and what bad messages lead to [ENV]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import * as v from "valibot";
import { errorTable } from "../../src/protocol/errors.ts";
import { serverPayloads } from "../../src/protocol/server.ts";
import { Client, type Received } from "../support/client.ts";
import { clientExamples } from "../support/examples.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

setDefaultTimeout(60_000);
const kib = 1024;
const mib = 1024 * kib;
let service: Service;
let tokens: Service;
beforeAll(async () => {
  [service, tokens] = await Promise.all([
    startService({ settings: { WEBSOCKET__INBOUND_QUEUE: "8" } }),
    startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } }),
  ]);
});
afterAll(() => Promise.all([service.stop(), tokens.stop()]));

let users = 0;
const connect = () => Client.connect(service.url, { query: { user_id: `u${++users}` } });
const codeOf = ({ payload }: Received) => payload.code;
/** A message that is `bytes` long as a whole. */
function padded(type: string, payload: object, { key, bytes }: { key: string; bytes: number }): string {
  const text = (value: string) => JSON.stringify({ id: "big", type, payload: { ...payload, [key]: value } });
  return text("x".repeat(bytes - Buffer.byteLength(text(""))));
}
const replyTo = (client: Client, id: string) => client.find((message) => message.reply_to === id);

describe("ids", () => {
  test("[ENV1] [ENV2] an id of 1 to 64 characters comes back as reply_to, whatever it is made of", async () => {
    const client = await connect();
    const ids = ["x", "0", "y".repeat(64), 'ä 🙂 \u0000\n"\\', "__proto__", "again", "again"];
    for (const id of ids) client.socket.send(JSON.stringify({ id, type: "ping" }));
    await client.settled();
    expect(
      client
        .all("pong")
        .slice(0, -1)
        .map(({ reply_to }) => reply_to),
    ).toEqual(ids);
    const own = client.received.map(({ id }) => id);
    expect(new Set(own).size).toBe(own.length);
    await client.close();
  });

  test("[ENV1] [ENV4] what has no sound id, type, payload or timestamp is invalid_message and names the field", async () => {
    const wrong: Record<string, unknown[]> = {
      id: [undefined, null, 1, true, "", "x".repeat(65), [], {}],
      type: [undefined, null, 1, [], {}, "x".repeat(65)],
      payload: [null, 1, "x", true, [], [{}]],
      timestamp: [null, true, [], {}],
    };
    for (const [field, values] of Object.entries(wrong)) {
      const client = await connect();
      for (const value of values) {
        client.received.length = 0;
        client.socket.send(JSON.stringify({ id: "a", type: "ping", payload: {}, [field]: value }));
        const error = await client.next("error");
        expect([value, error.payload.code, error.payload.field]).toEqual([value, "invalid_message", field]);
        // A sender with a sound id hears which request it was.
        expect(error.reply_to).toBe(field === "id" ? undefined : "a");
      }
      await client.close();
    }
  });

  test("[ENV1] payload may be left out where nothing in it is required, timestamp may be a text or a number", async () => {
    const client = await connect();
    for (const [index, timestamp] of [undefined, "2026-01-02T03:04:05.678Z", 1767323045678, "yesterday"].entries()) {
      client.socket.send(JSON.stringify({ id: `t${index}`, type: "ping", timestamp }));
      expect((await replyTo(client, `t${index}`)).type).toBe("pong");
    }
    client.socket.send(JSON.stringify({ id: "s", type: "subscribe" }));
    expect((await replyTo(client, "s")).payload).toMatchObject({ code: "invalid_payload", field: "payload.topics" });
    await client.close();
  });

  test("[ENV2] a reply has reply_to and is no event; an event keeps its id when it is replayed", async () => {
    const [sender, reader] = await Promise.all([connect(), connect()]);
    const topics = ["conversation:ids"];
    for (const client of [sender, reader]) await client.ask("subscribe", { topics });
    const sent = await sender.ask("message.send", { conversation_id: "ids", client_message_id: "m1", content: "x" });
    const live = await reader.next("message.new");
    expect(live).toEqual({
      id: sent.message_id,
      type: "message.new",
      topic: "conversation:ids",
      seq: sent.seq,
      position: sent.position,
      timestamp: sent.created_at,
      payload: expect.any(Object),
    });
    const late = await connect();
    await late.ask("subscribe", { topics, since: "acked" });
    expect(await late.next("message.new")).toEqual(live);
    const [pong] = [await sender.request("ping")];
    expect(Object.keys(pong).sort()).toEqual(["id", "payload", "reply_to", "timestamp", "type"]);
    await Promise.all([sender, reader, late].map((client) => client.close()));
  });
});

describe("replies", () => {
  test("[ENV3] every kind of request gets exactly one reply, of the kind that its section names", async () => {
    const client = await Client.connect(service.url, { query: { user_id: "all", roles: "service" } });
    const kinds: Record<string, string> = {
      ping: "pong",
      authenticate: "auth.success",
      subscribe: "subscribed",
      unsubscribe: "unsubscribed",
      history: "history",
      members: "members",
      "presence.query": "presence.update",
    };
    await client.ask("subscribe", { topics: ["conversation:c1"] });
    const requests = Object.entries(clientExamples).flatMap(([type, payloads]) =>
      payloads.map((payload) => ({ type, id: client.send(type, payload) })),
    );
    await client.settled();
    for (const { type, id } of requests) {
      const replies = client.received.filter((message) => message.reply_to === id);
      expect([type, replies.length]).toEqual([type, 1]);
      const [reply] = replies;
      if (reply!.type === "error") expect(reply!.payload.code).not.toBe("internal");
      else expect([type, reply!.type]).toEqual([type, kinds[type] ?? "ack"]);
      v.parse(serverPayloads[reply!.type as "ack"], reply!.payload);
    }
    await client.close();
  });

  test("[ENV4] an error has a code of the table, a text for people and whether to try again", async () => {
    const client = await connect();
    const error = await client.request("history", { topic: "conversation:x", limit: 1000 });
    expect(error.payload).toEqual({
      code: "invalid_payload",
      message: expect.any(String),
      retryable: false,
      field: "payload.limit",
    });
    const forbidden = await client.request("publish", { all: true, type: "x", payload: {} });
    expect(forbidden.payload).toEqual({
      code: "forbidden",
      message: expect.any(String),
      retryable: errorTable.forbidden.retryable,
    });
    await client.close();
  });

  test("[ENV6] unknown fields are ignored at every level", async () => {
    const client = await connect();
    client.socket.send(
      JSON.stringify({
        id: "f",
        type: "subscribe",
        future: [1],
        payload: {
          topics: ["conversation"],
          // But for those of `filters`, which would be taken for a filter [SUB1].
          filters: { conversation_id: "c2" },
          since: { cursor: "x", hint: {} },
          more: 1,
        },
      }),
    );
    expect((await replyTo(client, "f")).payload.topics[0].topic).toBe("conversation:c2");
    await client.close();
  });

  test("[ENV6] unknown types are unknown_type, also those that every object has", async () => {
    const client = await connect();
    for (const type of [
      "",
      "message",
      "Ping",
      "ping ",
      "__proto__",
      "constructor",
      "toString",
      "hasOwnProperty",
      "connected",
    ]) {
      const reply = await client.request(type, {});
      expect([type, codeOf(reply), reply.payload.field]).toEqual([type, "unknown_type", "type"]);
    }
    await client.close();
  });
});

describe("order", () => {
  test("[ENV7] [ENV3] 10,000 requests at once are all answered, each once and in order, past a queue of 8", async () => {
    const client = await connect();
    const other = await connect();
    // Every fourth needs the directory, so that the ones behind it have to wait.
    const ids = Array.from({ length: 10_000 }, (_, index) =>
      index % 4 === 0
        ? client.send("typing.stop", { conversation_id: "c1" })
        : index % 4 === 1
          ? client.send("presence.query", { user_ids: ["u1"] })
          : client.send("ping"),
    );
    await other.settled();
    await replyTo(client, ids.at(-1)!);
    expect(client.received.flatMap(({ reply_to }) => reply_to ?? [])).toEqual(ids);
    await Promise.all([client.close(), other.close()]);
  });

  test("[ENV7] a request sees what the one before it did", async () => {
    const client = await connect();
    const topics = ["conversation:order"];
    const subscribed = client.request("subscribe", { topics });
    const sent = client.request("message.send", { conversation_id: "order", client_message_id: "m1", content: "x" });
    const history = client.request("history", { topic: topics[0] });
    const left = client.request("unsubscribe", { topics });
    expect((await subscribed).payload.topics[0].seq).toBe(0);
    expect((await history).payload.events.map(({ id }: { id: string }) => id)).toEqual([
      (await sent).payload.message_id,
    ]);
    expect((await left).payload.topics).toEqual(topics);
    await client.close();
  });

  test("[ENV7] what was sent before a close is still handled", async () => {
    const reader = await connect();
    await reader.ask("subscribe", { topics: ["conversation:last"] });
    const sender = await connect();
    for (let index = 0; index < 7; index++) {
      sender.send("message.send", { conversation_id: "last", client_message_id: `m${index}`, content: "bye" });
    }
    await sender.close();
    expect((await reader.find(({ seq }) => seq === 7)).payload.client_message_id).toBe("m6");
    await reader.close();
  });
});

describe("sizes", () => {
  test("[ENV6] before authentication a message has at most 16 KiB", async () => {
    const client = await Client.open(tokens.url);
    const filler = (bytes: number) => client.socket.send(padded("ping", {}, { key: "filler", bytes }));
    filler(16 * kib);
    expect((await replyTo(client, "big")).type).toBe("pong");
    filler(16 * kib + 1);
    expect(codeOf(await client.next("error"))).toBe("message_too_large");
    await client.ask("authenticate", { token: await signToken({ sub: "u1", exp: Date.now() / 1_000 + 600 }) });
    client.received.length = 0;
    filler(16 * kib + 1);
    expect((await replyTo(client, "big")).type).toBe("pong");
    await client.close();
  });

  test("[ENV6] then 64 KiB for every type but message.send, message.edit and publish", async () => {
    const client = await connect();
    client.socket.send(padded("ping", {}, { key: "filler", bytes: 64 * kib }));
    expect((await replyTo(client, "big")).type).toBe("pong");
    for (const [type, [payload]] of Object.entries(clientExamples)) {
      if (["message.send", "message.edit", "publish"].includes(type)) continue;
      const one = await connect();
      one.socket.send(padded(type, payload!, { key: "filler", bytes: 64 * kib + 1 }));
      expect([type, codeOf(await replyTo(one, "big"))]).toEqual([type, "message_too_large"]);
      await one.close();
    }
    await client.close();
  });

  test("[ENV6] [ENV5] message.send and publish have max_message_size to the byte; one more is 1009", async () => {
    const payload = { conversation_id: "large", client_message_id: "m1" };
    const reader = await connect();
    await reader.ask("subscribe", { topics: ["conversation:large"] });
    const client = await Client.connect(service.url, { query: { user_id: "large", roles: "service" } });
    client.socket.send(padded("message.send", payload, { key: "content", bytes: 10 * mib }));
    expect((await replyTo(client, "big")).type).toBe("ack");
    expect((await reader.next("message.new")).payload.content.length).toBeGreaterThan(10 * mib - 200);
    client.received.length = 0;
    const body = { topic: "conversation:large", type: "blob", payload: { text: "x".repeat(1 * mib) } };
    expect((await client.request("publish", body)).type).toBe("ack");
    client.socket.send(padded("message.send", payload, { key: "content", bytes: 10 * mib + 1 }));
    expect((await client.closed).code).toBe(1009);
    await reader.settled();
    await reader.close();
  });

  test("[ENV6] sizes are bytes, not characters", async () => {
    const client = await connect();
    client.socket.send(JSON.stringify({ id: "wide", type: "ping", payload: { filler: "€".repeat(22 * kib) } }));
    expect(codeOf(await replyTo(client, "wide"))).toBe("message_too_large");
    await client.close();
  });

  test("[ENV6] JSON is nested at most 32 deep", async () => {
    const client = await connect();
    // The envelope and the payload are two of them.
    const nested = (id: string, depth: number, [open, close]: [string, string]) =>
      `{"id":"${id}","type":"ping","payload":{"x":${open.repeat(depth - 2)}1${close.repeat(depth - 2)}}}`;
    for (const brackets of [
      ["[", "]"],
      ['{"x":', "}"],
    ] as [string, string][]) {
      client.received.length = 0;
      client.socket.send(nested("ok", 32, brackets));
      expect((await replyTo(client, "ok")).type).toBe("pong");
      client.socket.send(nested("deep", 33, brackets));
      expect(codeOf(await client.next("error"))).toBe("invalid_json");
    }
    client.received.length = 0;
    client.socket.send(nested("abyss", 20_000, ["[", "]"]));
    expect(codeOf(await client.next("error"))).toBe("invalid_json");
    // Brackets in a text nest nothing.
    client.socket.send(JSON.stringify({ id: "text", type: "ping", payload: { x: '[{"'.repeat(100) } }));
    expect((await replyTo(client, "text")).type).toBe("pong");
    await client.close();
  });
});

describe("abuse", () => {
  test("[ENV4] nine bad messages in a minute close nothing, the tenth closes with 4001", async () => {
    const client = await connect();
    for (let bad = 1; bad <= 9; bad++) expect(codeOf(await client.request("nonsense"))).toBe("unknown_type");
    await client.settled();
    expect(codeOf(await client.request("publish", { all: true, type: "x", payload: {} }))).toBe("forbidden");
    client.send("nonsense");
    expect((await client.closed).code).toBe(4001);
    expect(client.all("error").length).toBe(11);
  });

  test("[ENV4] every kind of bad message counts, those of others do not", async () => {
    const [client, other] = await Promise.all([connect(), connect()]);
    for (const text of [
      "{",
      "[]",
      '{"id":1}',
      '{"id":"a","type":"nope"}',
      '{"id":"a","type":"ack"}',
      padded("ping", {}, { key: "x", bytes: 65 * kib }),
    ]) {
      client.socket.send(text);
    }
    for (const bytes of [3, 2, 1]) client.socket.send(new Uint8Array(bytes));
    await client.settled();
    expect(new Set(client.all("error").map(codeOf))).toEqual(
      new Set(["invalid_json", "invalid_message", "unknown_type", "invalid_payload", "message_too_large"]),
    );
    client.socket.send("");
    expect((await client.closed).code).toBe(4001);
    await other.settled();
    await other.close();
  });

  test("[ENV4] before authentication too", async () => {
    const raw = await RawSocket.open(tokens.url);
    for (let bad = 1; bad <= 20; bad++) raw.sendText("nonsense");
    expect(await raw.ended).toMatchObject({ code: 4001 });
    expect(raw.messages.filter(({ type }) => type === "error").length).toBe(10);
  });
});
