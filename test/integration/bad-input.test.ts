/** Proves that whatever is wrong with a message is said, by the path of the field, and harms nobody [ENV4] [ENV6]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type ClientMessageType, clientMessageTypes, clientPayloads } from "../../src/protocol/client.ts";
import { Client } from "../support/client.ts";
import { clientExamples } from "../support/examples.ts";
import { opcodes, RawSocket, type SentFrame } from "../support/raw-socket.ts";
import { type AnySchema, fieldsOf, unwrapped, withValue, wrongTypes, wrongValues } from "../support/schema-fields.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(async () => {
  // Nothing surprised the service, whatever was sent here.
  expect(service.logs.filter(({ level }) => level === "error")).toEqual([]);
  await service.stop();
});

let users = 0;
const connect = () => Client.connect(service.url, { query: { user_id: `bad${++users}`, roles: "service" } });

/** Sends each payload and expects it to be refused for the field; on as many connections as bad messages need. */
async function refusesAll(type: ClientMessageType, cases: { payload: unknown; field: string }[]): Promise<void> {
  const perConnection = 9;
  for (let from = 0; from < cases.length; from += perConnection) {
    const client = await connect();
    for (const { payload, field } of cases.slice(from, from + perConnection)) {
      const { payload: error } = await client.request(type, payload as object);
      const sent = JSON.stringify(payload).slice(0, 200);
      expect(error.message).not.toContain("unknown");
      expect({ sent, code: error.code, field: error.field }).toEqual({ sent, code: "invalid_payload", field });
    }
    await client.close();
  }
}

/** With every filter in use, which the shared examples spread over several messages. */
const examplesOf = (type: ClientMessageType) => {
  const filters = { conversation_id: "c1", conversation_ids: ["c1"], user_id: "u1", user_ids: ["u1"] };
  return "filters" in (clientPayloads[type] as any).entries
    ? [...clientExamples[type], { topics: ["presence"], filters }]
    : clientExamples[type];
};

const told = (path: string[], payload: any) => {
  const names = path.map((name, index) => {
    const parent = path.slice(0, index).reduce((at, key) => at?.[key], payload);
    return name === "*" ? Object.keys(parent ?? {})[0] : name;
  });
  return ["payload", ...names].join(".");
};

describe("every field of every message", () => {
  for (const type of clientMessageTypes) {
    const schema = clientPayloads[type] as unknown as AnySchema;
    const fields = fieldsOf(schema);
    if (fields.length === 0) continue;

    for (const { title, wrong } of [
      { title: "a wrong type", wrong: wrongTypes },
      { title: "a value against its rules", wrong: wrongValues },
    ]) {
      const cases = fields.flatMap(({ path, schema: of }) =>
        wrong(of).flatMap((value) => {
          const payload = examplesOf(type)
            .map((example) => withValue(example, path, value))
            .find((it) => it !== null);
          return payload === undefined || payload === null ? [] : [{ payload, field: told(path, payload) }];
        }),
      );
      if (cases.length === 0) continue;
      test(`[ENV4] ${type}: ${title} is invalid_payload and the field is named (${cases.length} cases)`, () =>
        refusesAll(type, cases));
    }

    const required = fields.filter(({ isRequired, path }) => isRequired && path.length === 1);
    if (required.length > 0) {
      test(`[ENV4] ${type}: what is required and missing is named`, () =>
        refusesAll(
          type,
          required.map(({ path }) => ({
            payload: withValue(examplesOf(type)[0], path, undefined),
            field: told(path, {}),
          })),
        ));
    }
  }

  test("[ENV1] every field that the schemas have is in an example", () => {
    for (const type of clientMessageTypes) {
      for (const { path, schema } of fieldsOf(clientPayloads[type] as unknown as AnySchema)) {
        const found = examplesOf(type).some((example) => withValue(example, path, "x") !== null);
        expect([type, path.join("."), found]).toEqual([type, path.join("."), true]);
        expect(wrongTypes(unwrapped(schema)).length).toBeGreaterThan(0);
      }
    }
  });

  test("[ENV4] what two fields say together is checked as well", async () => {
    await refusesAll("mark.read", [
      { payload: { conversation_id: "c1" }, field: "payload.message_ids" },
      { payload: { conversation_id: "c1", message_ids: ["m1"], up_to_seq: 1 }, field: "payload.message_ids" },
    ]);
    await refusesAll("history", [
      { payload: { topic: "user:u1", before_seq: 1, after_seq: 1 }, field: "payload.after_seq" },
    ]);
    const body = { type: "x", payload: {} };
    await refusesAll("publish", [
      { payload: body, field: "payload.topic" },
      { payload: { ...body, all: true, topic: "user:u1" }, field: "payload.topic" },
      { payload: { ...body, type: "ack", all: true }, field: "payload.type" },
      { payload: { ...body, topic: "nonsense" }, field: "payload.topic" },
    ]);
  });

  test("[ENV4] what may be a word or an object is told by the field within where it is an object", async () => {
    const cases: [since: unknown, field: string][] = [
      [{ cursor: "x", seen: { x: "a" } }, "payload.since.seen.x"],
      [{ cursor: "x", seen: [] }, "payload.since.seen"],
      [{ cursor: 4711 }, "payload.since.cursor"],
      [{ cursor: "" }, "payload.since.cursor"],
      [{ cursor: "a b" }, "payload.since.cursor"],
      [{ cursor: "x".repeat(65) }, "payload.since.cursor"],
      [{}, "payload.since.cursor"],
      [[], "payload.since"],
      ["later", "payload.since"],
    ];
    await refusesAll(
      "subscribe",
      cases.map(([since, field]) => ({ payload: { topics: ["user"], since }, field })),
    );
  });
});

describe("names that objects have", () => {
  test("[ENV6] __proto__, constructor and prototype are fields like any other: nothing is polluted, nothing is lost", async () => {
    const [client, reader] = await Promise.all([connect(), connect()]);
    for (const it of [client, reader]) await it.ask("subscribe", { topics: ["conversation:odd"] });
    client.socket.send(
      '{"id":"p1","type":"ping","__proto__":{"type":"publish"},"constructor":1,"payload":{"__proto__":{"x":1}}}',
    );
    expect((await client.find(({ reply_to }) => reply_to === "p1")).type).toBe("pong");
    const content =
      '{"__proto__":{"admin":true},"constructor":"Ferrari","prototype":[1],"toString":null,"hasOwnProperty":{}}';
    client.socket.send(
      `{"id":"p2","type":"message.send","payload":{"conversation_id":"odd","client_message_id":"m1","content":${content}}}`,
    );
    expect((await client.find(({ reply_to }) => reply_to === "p2")).type).toBe("ack");
    const message = await reader.next("message.new");
    expect(JSON.stringify(message.payload.content)).toBe(content);
    client.socket.send(
      '{"id":"p3","type":"message.send","payload":{"__proto__":{"conversation_id":"odd","client_message_id":"m2","content":"x"}}}',
    );
    expect((await client.find(({ reply_to }) => reply_to === "p3")).payload).toMatchObject({
      code: "invalid_payload",
      field: "payload.conversation_id",
    });
    await client.ask("message.send", { conversation_id: "constructor", client_message_id: "__proto__", content: "x" });
    await client.ask("subscribe", {
      topics: ["conversation:__proto__"],
      since: { cursor: "x", seen: { constructor: 1 } },
    });
    await Promise.all([client.close(), reader.close()]);
  });
});

describe("what is no message", () => {
  test("[ENV4] truncated and otherwise broken JSON is invalid_json, JSON that is no object invalid_message", async () => {
    const whole = '{"id":"a","type":"ping","payload":{"x":"y"}}';
    const cases: Record<string, string[]> = {
      invalid_json: [
        "",
        " ",
        ...[1, 5, 9, 20, 33, 40, 43].map((end) => whole.slice(0, end)),
        `${whole}}`,
        `${whole}${whole}`,
        "{'id':1}",
        '{"id":"a",}',
        "NaN",
        "undefined",
        "\ufeff{}",
        '"\u0001"',
        "[1,2",
        "PING",
        "<xml/>",
      ],
      invalid_message: ["null", "true", "1", '"text"', "[]", `[${whole}]`, "{}"],
    };
    for (const [code, texts] of Object.entries(cases)) {
      for (const text of texts) {
        const client = await connect();
        client.socket.send(text);
        const error = await client.next("error");
        expect([text, error.payload.code, error.reply_to]).toEqual([text, code, undefined]);
        await client.settled();
        await client.close();
      }
    }
  });

  test("[ENV4] binary frames on a JSON connection are invalid_message, whatever they hold", async () => {
    const client = await connect();
    const whole = JSON.stringify({ id: "a", type: "ping", payload: {} });
    for (const bytes of [new Uint8Array(), crypto.getRandomValues(new Uint8Array(1000)), Buffer.from(whole)]) {
      client.received.length = 0;
      client.socket.send(bytes);
      expect((await client.next("error")).payload.code).toBe("invalid_message");
    }
    await client.settled();
    await client.close();
  });

  test("[ENV4] garbage on a protobuf connection is invalid_message", async () => {
    const client = await Client.connect(service.url, {
      query: { user_id: "pb" },
      protocols: ["ws-service.v1.protobuf"],
    });
    for (const bytes of [
      Buffer.alloc(64, 255),
      crypto.getRandomValues(new Uint8Array(500)),
      Buffer.from("{}"),
      Buffer.from([10]),
    ]) {
      client.received.length = 0;
      client.socket.send(bytes);
      expect((await client.next("error")).payload.code).toBe("invalid_message");
    }
    await client.settled();
    await client.close();
  });

  test("[ENV5] text that is not UTF-8 closes with 1007, and only this connection", async () => {
    const other = await connect();
    for (const payload of [
      Buffer.from([0xff, 0xfe]),
      Buffer.from([0xc0, 0x80]),
      Buffer.from('{"id":"\xed\xa0\x80"}', "latin1"),
    ]) {
      const raw = await RawSocket.open(service.url, { query: { user_id: "utf" } });
      raw.sendFrame({ payload });
      expect([1006, 1007]).toContain((await raw.ended).code);
    }
    await other.settled();
    await other.close();
  });

  test("[ENV5] frames against RFC 6455 end their connection, and only theirs", async () => {
    const other = await connect();
    const broken: Record<string, SentFrame[]> = {
      "reserved bits": [{ reserved: 4, payload: "{}" }],
      "an opcode that does not exist": [{ opcode: 3, payload: "{}" }],
      "a control opcode that does not exist": [{ opcode: 11 }],
      "a ping of more than 125 bytes": [{ opcode: opcodes.ping, payload: "x".repeat(126) }],
      "a ping in pieces": [{ opcode: opcodes.ping, final: false }],
      "a continuation of nothing": [{ opcode: opcodes.continuation, payload: "x" }],
      "a text within a text": [{ final: false, payload: "{" }, { payload: "}" }],
      "more than max_message_size announced": [{ announced: 2 ** 40 }],
    };
    for (const [what, frames] of Object.entries(broken)) {
      const raw = await RawSocket.open(service.url, { query: { user_id: "rfc" } });
      for (const frame of frames) raw.sendFrame(frame);
      const { code } = await raw.ended;
      expect([what, [1002, 1006, 1009].includes(code)]).toEqual([what, true]);
    }
    await other.settled();
    await other.close();
  });

  test("[ENV1] a message in many pieces, with pings between them, is one message", async () => {
    const raw = await RawSocket.open(service.url, { query: { user_id: "pieces" } });
    const text = JSON.stringify({ id: "€", type: "ping", payload: { x: "🙂".repeat(20) } });
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at++) {
      const isLast = at === bytes.length - 1;
      raw.sendFrame({
        opcode: at === 0 ? opcodes.text : opcodes.continuation,
        payload: bytes.subarray(at, at + 1),
        final: isLast,
      });
      if (at % 10 === 0) raw.sendFrame({ opcode: opcodes.ping, payload: "p" });
    }
    expect((await raw.find(({ reply_to }) => reply_to === "€")).type).toBe("pong");
    raw.destroy();
  });

  test("[CON1] requests that are no HTTP, and handshakes that never end, keep nobody else waiting", async () => {
    const sockets = await Promise.all(
      [
        "\u0016\u0003\u0001\u0000",
        "GET /ws HTTP/9.9\r\n\r\n",
        "GET /ws?user_id=u1 HTTP/1.1\r\nHost: x\r\n",
        "\r\n\r\n\r\n",
        "x".repeat(20_000),
      ].map(async (text) => {
        const socket = await Bun.connect({
          hostname: "127.0.0.1",
          port: service.port,
          socket: { data() {}, error() {}, close() {} },
        });
        socket.write(text);
        return socket;
      }),
    );
    const client = await connect();
    await client.settled();
    expect((await fetch(`${service.http}/live`)).status).toBe(200);
    for (const socket of sockets) socket.terminate();
    await client.close();
  });
});
