/** Looks for what breaks the service: random requests by the schemas, random envelopes and random bytes; replay with TEST_SEED. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { type ClientMessageType, clientMessageTypes, clientPayloads } from "../../src/protocol/client.ts";
import { subprotocols } from "../../src/protocol/limits.ts";
import { type ServerMessageType, serverPayloads } from "../../src/protocol/server.ts";
import { Client, type Received } from "../support/client.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type AnySchema, arbitraryOf, fieldsOf, withValue } from "../support/schema-fields.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.info(`fuzz: TEST_SEED=${seed}`);
/** How often each property is tried. */
const runs = { seed, numRuns: 60, endOnFailure: true };

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(async () => {
  const surprises = service.logs.filter(
    ({ level, msg }) => level === "error" || level === "fatal" || msg.includes("failed"),
  );
  await service.stop();
  expect(surprises).toEqual([]);
});

interface FuzzedRequest {
  type: string;
  payload: unknown;
}

const schemaOf = (type: ClientMessageType) => clientPayloads[type] as unknown as AnySchema;
const validRequest = fc.oneof(
  ...clientMessageTypes.map((type) =>
    fc.record({ type: fc.constant<string>(type), payload: arbitraryOf(schemaOf(type)) }),
  ),
);
/** A request with one of its fields replaced, or left out. */
const mutatedRequest = fc.oneof(
  ...clientMessageTypes
    .filter((type) => fieldsOf(schemaOf(type)).length > 0)
    .map((type) =>
      fc
        .record({
          payload: arbitraryOf(schemaOf(type)),
          field: fc.constantFrom(...fieldsOf(schemaOf(type))),
          value: fc.option(fc.jsonValue({ maxDepth: 4 }), { nil: undefined }),
        })
        .map(({ payload, field, value }) => ({
          type: type as string,
          payload: withValue(payload, field.path, value) ?? payload,
        })),
    ),
);
const anyRequest: fc.Arbitrary<FuzzedRequest> = fc.oneof({ weight: 3, arbitrary: validRequest }, mutatedRequest);

/** The reply is one that the contract knows, and never `internal`. */
function expectSoundReply(request: FuzzedRequest, replies: Received[]): void {
  const about = JSON.stringify(request).slice(0, 500);
  expect({ about, replies: replies.length }).toEqual({ about, replies: 1 });
  const [{ type, payload } = {} as Received] = replies;
  expect({ about, known: Object.hasOwn(serverPayloads, type) }).toEqual({ about, known: true });
  const { success } = v.safeParse(serverPayloads[type as ServerMessageType], payload);
  expect({ about, type, payload, success }).toEqual({ about, type, payload, success: true });
  expect({ about, internal: payload.code === "internal" }).toEqual({ about, internal: false });
}

async function isAlive(): Promise<void> {
  const client = await Client.connect(service.url, { query: { user_id: "u2" } });
  await client.settled();
  await client.close();
  expect((await fetch(`${service.http}/ready`)).status).toBe(200);
}

describe("requests", () => {
  for (const protocol of Object.values(subprotocols)) {
    test(`[ENV3] [ENV4] ${protocol}: every request that is made of the schemas has exactly one sound reply, in order`, async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(anyRequest, { minLength: 1, maxLength: 9 }), async (requests) => {
          const client = await Client.connect(service.url, {
            query: { user_id: "u1", roles: "service" },
            ...(protocol === subprotocols.json ? {} : { protocols: [protocol] }),
          });
          const ids = requests.map(({ type, payload }) => client.send(type, payload as object));
          await client.settled();
          const replies = client.received.filter(({ reply_to }) => reply_to !== undefined && ids.includes(reply_to));
          expect(replies.map(({ reply_to }) => reply_to)).toEqual(ids);
          for (const [index, request] of requests.entries()) {
            expectSoundReply(
              request,
              replies.filter(({ reply_to }) => reply_to === ids[index]),
            );
          }
          await client.close();
        }),
        protocol === subprotocols.json ? { ...runs, numRuns: 150 } : runs,
      );
      await isAlive();
    });
  }

  test("[ENV7] whatever is pipelined: one sound reply each in order, and what is new in the log is in that order as well", async () => {
    // Few names, so that they meet: keys come again, with the same content and with other.
    const conversation_id = fc.constantFrom("p1", "p2", "p3");
    const key = fc.constantFrom("k1", "k2", "k3", "k4");
    const content = fc.constantFrom("a", "b");
    const of = (type: string, fields: Record<string, fc.Arbitrary<unknown>>, requiredKeys?: string[]) =>
      fc.record({
        type: fc.constant(type),
        payload: fc.record(fields, requiredKeys === undefined ? {} : { requiredKeys }),
      });
    const published = { type: fc.constant("counted"), payload: fc.record({ content }), event_key: key };
    const mixed: fc.Arbitrary<FuzzedRequest> = fc.oneof(
      { weight: 4, arbitrary: of("message.send", { conversation_id, content, client_message_id: key }) },
      {
        weight: 4,
        arbitrary: of("publish", { conversation_id, ...published, logged: fc.boolean() }, ["type", "payload"]),
      },
      { weight: 2, arbitrary: of("publish", { user_ids: fc.constantFrom(["u1", "u2"]), ...published }) },
      of("mark.read", { conversation_id, up_to_seq: fc.nat(50) }),
      of("subscribe", { topics: fc.constantFrom(["conversation:p1"], ["conversation:p2", "typing:p2"]) }),
      of("unsubscribe", { topics: fc.constantFrom(["conversation:p1"], ["conversation:p2"]) }),
      mutatedRequest,
    );
    await fc.assert(
      fc.asyncProperty(fc.array(mixed, { minLength: 1, maxLength: 60 }), async (requests) => {
        // So many of no sense would end the connection [ENV4].
        const client = await Client.connect(service.url, { query: { user_id: "u3", roles: "service" } });
        const ids = requests.map(({ type, payload }) => client.send(type, payload as object));
        await Promise.race([client.settled().catch(() => {}), client.closed]);
        const replies = client.received.filter(({ reply_to }) => reply_to !== undefined && ids.includes(reply_to));
        expect(replies.map(({ reply_to }) => reply_to)).toEqual(ids.slice(0, replies.length));
        const senseless = replies.filter(({ type, payload }) => type === "error" && payload.code.startsWith("invalid"));
        if (senseless.length < 10) expect(replies.length).toBe(ids.length);
        for (const [index, reply] of replies.entries()) expectSoundReply(requests[index]!, [reply]);
        const fresh = replies
          .flatMap(({ payload }) => payload.published ?? [payload])
          .filter(({ position, duplicate }) => position !== undefined && duplicate !== true)
          .map(({ position }) => position);
        expect(fresh).toEqual(fresh.toSorted((a: number, b: number) => a - b));
        await client.close();
      }),
      runs,
    );
    await isAlive();
  });

  test("[ENV4] any JSON at all has exactly one reply", async () => {
    const envelope = fc.record(
      {
        id: fc.oneof(fc.string({ unit: "binary", maxLength: 70 }), fc.jsonValue()),
        type: fc.oneof(fc.constantFrom<string>(...clientMessageTypes), fc.string({ unit: "binary" }), fc.jsonValue()),
        payload: fc.jsonValue(),
        timestamp: fc.jsonValue(),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(envelope, fc.jsonValue()), { minLength: 1, maxLength: 9 }),
        async (messages) => {
          const client = await Client.connect(service.url, { query: { user_id: "u1" } });
          const before = client.received.length;
          for (const message of messages) client.socket.send(JSON.stringify(message));
          await client.settled();
          const replies = client.received
            .slice(before, -1)
            .filter(({ topic, type, reply_to }) => topic === undefined && (reply_to !== undefined || type === "error"));
          expect(replies.length).toBe(messages.length);
          for (const { payload } of replies) expect(payload.code).not.toBe("internal");
          await client.close();
        },
      ),
      runs,
    );
    await isAlive();
  });

  test("[ENV4] any text has exactly one reply", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: "grapheme", maxLength: 300 }), { minLength: 1, maxLength: 9 }),
        async (texts) => {
          const client = await Client.connect(service.url, { query: { user_id: "u1" } });
          for (const text of texts) client.socket.send(text);
          await client.settled();
          expect(client.all("error").length).toBe(texts.length);
          await client.close();
        },
      ),
      runs,
    );
  });
});

describe("bytes", () => {
  test("[ENV5] random bytes after the handshake end that connection at the worst, and nobody else's", async () => {
    const other = await Client.connect(service.url, { query: { user_id: "other" } });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 400 }), { minLength: 1, maxLength: 5 }),
        async (chunks) => {
          const raw = await RawSocket.open(service.url, { query: { user_id: "u1" } });
          for (const chunk of chunks) if (!raw.isEnded) raw.write(chunk);
          raw.destroy();
          await other.settled();
        },
      ),
      { ...runs, numRuns: 150 },
    );
    await other.close();
    await isAlive();
  });

  test("[ENV4] sound frames with random opcodes, pieces and bytes are answered or end that connection", async () => {
    const frame = fc.record({
      opcode: fc.constantFrom(0, 1, 2, 8, 9, 10),
      final: fc.boolean(),
      payload: fc.oneof(
        fc.uint8Array({ maxLength: 125 }),
        fc.string().map((text) => Buffer.from(text)),
      ),
    });
    const other = await Client.connect(service.url, { query: { user_id: "other" } });
    for (const protocol of Object.values(subprotocols)) {
      await fc.assert(
        fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 8 }), async (frames) => {
          const raw = await RawSocket.open(service.url, { query: { user_id: "u1" }, protocols: [protocol] });
          for (const it of frames) if (!raw.isEnded) raw.sendFrame(it);
          raw.destroy();
          await other.settled();
        }),
        runs,
      );
    }
    await other.close();
    await isAlive();
  });

  test("[CON1] random queries and headers are refused in an orderly way or let in", async () => {
    const word = fc.string({ unit: "binary", maxLength: 150 });
    const query = fc.record(
      { user_id: word, device_id: word, roles: word, since: word, token: word },
      { requiredKeys: [] },
    );
    const header = fc.stringMatching(/^[ -~]{1,100}$/).map((text) => text.trim() || "x");
    const headers = fc.record(
      { Origin: header, Authorization: header, "X-Forwarded-For": header, "Sec-WebSocket-Protocol": header },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(query, headers, async (asked, sent) => {
        const raw = await RawSocket.dial(service.url, { query: asked, headers: sent as Record<string, string> });
        raw.destroy();
        expect([101, 400, 401, 403]).toContain(raw.answer.status);
        if (raw.answer.status !== 101) expect(raw.answer.body.code).toBeString();
      }),
      { ...runs, numRuns: 200 },
    );
    await isAlive();
  });
});
