/** Proves permessage-deflate: what is compressed and for whom, with clients of other makers and through nginx, and that bombs end. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { constants, deflateRawSync } from "node:zlib";
import fc from "fast-check";
import { Client } from "../support/client.ts";
import { type Nginx, startNginx } from "../support/nginx.ts";
import { opcodes, type RawOptions, RawSocket, type SentFrame } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";
import { makers, Peer } from "../support/websockets/peer.ts";

setDefaultTimeout(60_000);
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.info(`compression: TEST_SEED=${seed}`);

const mebibyte = 1 << 20;
const offered = { "Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover" };
const dial = (service: Service, options: RawOptions = {}) =>
  RawSocket.open(service.url, { headers: offered, ...options });
const agreed = ({ answer }: RawSocket) => answer.headers.get("sec-websocket-extensions");
const deflate = (data: string | Uint8Array) =>
  deflateRawSync(data, { finishFlush: constants.Z_SYNC_FLUSH, level: 9 }).subarray(0, -4);
const sendCompressed = (raw: RawSocket, data: string | Uint8Array) =>
  raw.sendFrame({ payload: deflate(data), reserved: 4 });
/** A frame of the most bytes that may be sent at all. */
const requestOf = (type: string, payload: object, bytes: number) => {
  const text = JSON.stringify({ id: crypto.randomUUID(), type, payload });
  return text + " ".repeat(bytes - text.length);
};
/** The most memory that a process has had. */
const peakBytes = ({ pid }: Service) =>
  1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);

let shared: Service;
let dedicated: Service;
let tokens: Service;
let nginx: Nginx;
beforeAll(async () => {
  [shared, dedicated, tokens] = await Promise.all([
    startService({ settings: { WEBSOCKET__COMPRESSION: "shared", WEBSOCKET__COMPRESSION_WORK_MAX: "32KiB" } }),
    startService({ settings: { WEBSOCKET__COMPRESSION: "dedicated", OPERATIONS__LISTEN: "127.0.0.1:0" } }),
    startService({
      settings: {
        WEBSOCKET__COMPRESSION: "dedicated",
        AUTH__MODE: "token",
        AUTH__SECRET: secret,
        RATE_LIMITS__ENABLED: "true",
      },
    }),
  ]);
  nginx = await startNginx({ nodes: [dedicated.port] });
});
afterAll(async () => {
  await nginx?.stop();
  const services = [shared, dedicated, tokens].filter(Boolean);
  const surprises = services.flatMap(({ logs }) => logs.filter(({ level }) => level === "error" || level === "fatal"));
  await Promise.all(services.map((service) => service.stop()));
  expect(surprises).toEqual([]);
});

/** A conversation of its own, that everybody hears. */
async function conversationOf(...clients: { request(type: string, payload: object): Promise<unknown> }[]) {
  const conversation_id = crypto.randomUUID();
  for (const client of clients) await client.request("subscribe", { topics: [`conversation:${conversation_id}`] });
  return conversation_id;
}

describe("what is compressed", () => {
  test("[CON4] nothing is agreed on where it is off, as it is unless set", async () => {
    const service = await startService();
    const raw = await dial(service, { query: { user_id: "anna" } });
    expect(agreed(raw)).toBeNull();
    raw.destroy();
    await service.stop();
  });

  test("[CON4] small frames and what costs too much go out as they are, replies and events between them compressed", async () => {
    const sender = await Client.connect(shared.url, { query: { user_id: "sender" } });
    const raw = await dial(shared, { query: { user_id: "raw" } });
    const plain = await RawSocket.open(shared.url, { query: { user_id: "plain" } });
    expect(agreed(raw)).toContain("permessage-deflate");
    expect(agreed(plain)).toBeNull();
    const conversation_id = await conversationOf(sender, raw, plain);
    // Two of the three are told, and 32 KiB may be compressed for one event.
    const sizes = [100, 2_000, 9_000, 17_000];
    for (const bytes of sizes) {
      const client_message_id = `m${bytes}`;
      await sender.ask("message.send", { conversation_id, client_message_id, content: "é".repeat(bytes / 2) });
    }
    for (const { raw: socket, compressed } of [
      { raw, compressed: [false, true, true, false] },
      { raw: plain, compressed: [false, false, false, false] },
    ]) {
      await socket.find(({ payload }) => payload.client_message_id === "m17000");
      const texts = socket.frames.filter(({ payload }) => payload.includes('"message.new"'));
      expect(texts.map((frame) => frame.compressed)).toEqual(compressed);
      const contents = socket.messages
        .filter(({ type }) => type === "message.new")
        .map(({ payload }) => payload.content);
      expect(contents).toEqual(sizes.map((bytes) => "é".repeat(bytes / 2)));
    }
    // One receiver: 28 KB of history are within what may be compressed.
    await raw.request("history", { topic: `conversation:${conversation_id}`, limit: 3 });
    expect(raw.frames.at(-1)).toMatchObject({ compressed: true });
    await sender.close();
    for (const socket of [raw, plain]) socket.destroy();
  });

  test("[AUTH1] [ENV6] who comes anonymous agrees on nothing, and stays so; a token in the request may", async () => {
    const exp = Math.floor(Date.now() / 1_000) + 600;
    const token = await signToken({ sub: "anna", exp });
    const anonymous = await dial(tokens);
    expect(agreed(anonymous)).toBeNull();
    await anonymous.request("authenticate", { token });
    sendCompressed(anonymous, '{"id":"1","type":"ping"}');
    expect((await anonymous.ended).code).toBe(1002);
    for (const options of [
      { query: { token } },
      { headers: { ...offered, Authorization: `Bearer ${token}` } },
    ] satisfies RawOptions[]) {
      const raw = await dial(tokens, options);
      expect(agreed(raw)).toContain("permessage-deflate");
      sendCompressed(raw, '{"id":"1","type":"ping"}');
      await raw.next("pong");
      raw.destroy();
    }
  });
});

describe("with clients of other makers", () => {
  for (const maker of makers) {
    for (const format of ["json", "protobuf"] as const) {
      test(`[CON4] ${maker}, ${format}: large messages go both ways, through nginx too`, async () => {
        const urls = [`${shared.url}?user_id=${maker}`, `${nginx.url}?user_id=${maker}`];
        for (const url of urls) {
          const service = url.startsWith(shared.url) ? shared : dedicated;
          const other = await Client.connect(service.url, { query: { user_id: "other" } });
          const peer = new Peer(maker, url, format);
          expect(await peer.extensions).toEqual(["permessage-deflate"]);
          await peer.next(({ type }) => type === "subscribed");
          const conversation_id = await conversationOf(other, { request: (type, payload) => peer.ask(type, payload) });
          for (const round of [1, 2, 3]) {
            const said = `${round} grüß dich 👋 `.repeat(400);
            const answer = `${randomBytes(3_000).toString("hex")} ${round}`;
            await peer.ask("message.send", { conversation_id, client_message_id: `p${round}`, content: said });
            await other.find(({ payload }) => payload.content === said);
            await other.ask("message.send", { conversation_id, client_message_id: `o${round}`, content: answer });
            await peer.next(({ payload }) => payload.content === answer);
          }
          await Promise.all([peer.stop(), other.close()]);
        }
      });
    }
  }
});

describe("bombs", () => {
  const bomb = deflate(Buffer.alloc(128 * mebibyte, " "));
  const halves = [bomb.subarray(0, bomb.byteLength / 2), bomb.subarray(bomb.byteLength / 2)] as const;
  const frames = {
    "in one frame": [{ payload: bomb, reserved: 4 }],
    "in two fragments": [
      { payload: halves[0], reserved: 4, final: false },
      { payload: halves[1], opcode: opcodes.continuation },
    ],
    "just above what a message may have": [{ payload: deflate(Buffer.alloc(10 * mebibyte + 1, " ")), reserved: 4 }],
  } satisfies Record<string, SentFrame[]>;

  for (const [how, sent] of Object.entries(frames)) {
    test(`[ENV5] [ENV6] ${how}: 1009, and nothing of it is kept`, async () => {
      for (const service of [shared, dedicated]) {
        const before = peakBytes(service);
        for (let round = 0; round < 3; round++) {
          const raw = await dial(service, { query: { user_id: "bomber" } });
          sendCompressed(raw, JSON.stringify({ id: "1", type: "ping" }));
          await raw.next("pong");
          for (const frame of sent) raw.sendFrame(frame);
          expect((await raw.ended).code).toBe(1009);
        }
        expect(peakBytes(service) - before).toBeLessThan(64 * mebibyte);
      }
    });
  }

  test("[ENV6] [CON2] an anonymous bomb is a breach of the protocol: it is not inflated", async () => {
    const before = peakBytes(tokens);
    const raw = await dial(tokens);
    raw.sendFrame({ payload: bomb, reserved: 4 });
    expect((await raw.ended).code).toBe(1002);
    expect(peakBytes(tokens) - before).toBeLessThan(16 * mebibyte);
  });

  test("[ENV6] what inflates to more than its type may have is refused, and the connection stays", async () => {
    const raw = await dial(shared, { query: { user_id: "large" } });
    sendCompressed(raw, requestOf("ping", {}, 100_000));
    expect((await raw.next("error")).payload.code).toBe("message_too_large");
    sendCompressed(raw, requestOf("ping", {}, 1_000));
    await raw.next("pong");
    raw.destroy();
  });

  test("[ENV7] [LIM] many messages that are small on the wire and large in memory do not pile up", async () => {
    const raw = await dial(dedicated, { query: { user_id: "piler" } });
    await raw.next("subscribed");
    const before = peakBytes(dedicated);
    const payload = { conversation_id: "c1", client_message_id: "m1", content: "x" };
    const large = deflate(requestOf("message.send", payload, 9 * mebibyte));
    const all = Array.from({ length: 40 }, () => raw.encode({ payload: large, reserved: 4 }));
    raw.write(Buffer.concat(all));
    expect((await raw.ended).code).toBe(4103);
    expect(peakBytes(dedicated) - before).toBeLessThan(160 * mebibyte);
  });

  test("[LIM] nor does anybody go on making the service inflate", async () => {
    const token = await signToken({ sub: "ben", exp: Math.floor(Date.now() / 1_000) + 600 });
    const raw = await dial(tokens, { query: { token } });
    await raw.next("subscribed");
    const payload = { conversation_id: "c1", client_message_id: "m1", content: "x" };
    const text = requestOf("message.send", payload, 9 * mebibyte);
    let sent = 0;
    while (!raw.isEnded && sent < 60) {
      sendCompressed(raw, text);
      sent++;
      await raw
        .until(() => raw.messages.filter(({ reply_to }) => reply_to !== undefined).length === sent || undefined)
        .catch(() => {});
    }
    expect((await raw.ended).code).toBe(4103);
    expect(sent).toBeLessThan(20);
    // Coming back does not help: nothing is agreed on for the rest of the minute.
    const again = await dial(tokens, { query: { token } });
    expect(agreed(again)).toBeNull();
    again.destroy();
  });

  test("[LIM] [ENV6] nor by bombs, one connection after the other", async () => {
    const token = await signToken({ sub: "carl", exp: Math.floor(Date.now() / 1_000) + 600 });
    let bombs = 0;
    for (let raw = await dial(tokens, { query: { token } }); agreed(raw) !== null; bombs++) {
      raw.sendFrame({ payload: bomb, reserved: 4 });
      expect((await raw.ended).code).toBe(1009);
      raw = await dial(tokens, { query: { token } });
    }
    // Four times what a minute allows, which is four of the largest messages.
    expect(bombs).toBe(17);
  });
});

describe("malformed", () => {
  const text = deflate(randomBytes(300).toString("hex"));
  const cases: Record<string, { code: number; frames: SentFrame[]; plain?: boolean }> = {
    "no deflate data": { code: 1007, frames: [{ payload: Buffer.from("ffffffffffff", "hex"), reserved: 4 }] },
    "what refers to before its beginning": {
      code: 1007,
      // A fixed block whose first symbol is a copy of what was never there.
      frames: [{ payload: Buffer.from([0x03, 0x02, 0x00]), reserved: 4 }],
    },
    "text that is none": { code: 1007, frames: [{ payload: deflate(Buffer.from([0xff, 0xfe, 0x41])), reserved: 4 }] },
    "a compressed ping": { code: 1002, frames: [{ opcode: opcodes.ping, payload: "x", reserved: 4 }] },
    "a compressed close": {
      code: 1002,
      frames: [{ opcode: opcodes.close, payload: Buffer.from([3, 232]), reserved: 4 }],
    },
    "another reserved bit": { code: 1002, frames: [{ payload: "x", reserved: 2 }] },
    "a compressed continuation": {
      code: 1002,
      frames: [
        { payload: text.subarray(0, 50), reserved: 4, final: false },
        { opcode: opcodes.continuation, payload: text.subarray(50), reserved: 4 },
      ],
    },
    "compressed, and nothing agreed on": { code: 1002, frames: [{ payload: text, reserved: 4 }], plain: true },
  };
  for (const [what, { code, frames, plain }] of Object.entries(cases)) {
    test(`[ENV5] ${what} ends with ${code}`, async () => {
      for (const service of [shared, dedicated]) {
        const raw = await dial(service, { query: { user_id: "odd" }, ...(plain ? { headers: {} } : {}) });
        for (const frame of frames) raw.sendFrame(frame);
        expect((await raw.ended).code).toBe(code);
      }
    });
  }

  test("[END3] [ENV5] who was closed for it is counted under the code that it was told", async () => {
    const { url } = await dedicated.logged(({ msg }) => msg === "metrics and console");
    const counted = new Map<string, number>();
    for (const { code, frames } of Object.values(cases).filter(({ plain }) => !plain)) {
      const raw = await dial(dedicated, { query: { user_id: "counted" } });
      for (const frame of frames) raw.sendFrame(frame);
      await raw.ended;
      counted.set(String(code), (counted.get(String(code)) ?? 0) + 1);
    }
    const figures = await (await fetch(`${url}/metrics`)).text();
    const figureOf = (code: string) =>
      Number(new RegExp(`^ws_closes_total.*code="${code}".* (\\d+)$`, "m").exec(figures)?.[1] ?? 0);
    for (const [code, least] of counted) expect(figureOf(code)).toBeGreaterThanOrEqual(least);
  });

  test("[ENV1] compressed fragments are one message", async () => {
    const raw = await dial(dedicated, { query: { user_id: "pieces" } });
    const ping = deflate(requestOf("ping", {}, 4_000));
    const thirds = [ping.subarray(0, 10), ping.subarray(10, 15), ping.subarray(15)] as const;
    raw.sendFrame({ payload: thirds[0], reserved: 4, final: false });
    raw.sendFrame({ payload: thirds[1], opcode: opcodes.continuation, final: false });
    raw.sendFrame({ payload: thirds[2], opcode: opcodes.continuation });
    await raw.next("pong");
    raw.destroy();
  });

  test("[ENV5] whatever bytes are sent as compressed, the process goes on, and the connection ends as it should or not at all", async () => {
    const sound = deflate(JSON.stringify({ id: "1", type: "ping", payload: { text: "héllo ".repeat(50) } }));
    const flipped = fc.tuple(fc.nat(sound.byteLength - 1), fc.nat(7)).map(([at, bit]) => {
      const payload = new Uint8Array(sound);
      payload[at]! ^= 1 << bit;
      return payload;
    });
    const payloads = fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 300 }), flipped);
    const property = fc.asyncProperty(payloads, fc.nat(300), fc.boolean(), async (payload, cut, isShared) => {
      const raw = await dial(isShared ? shared : dedicated, { query: { user_id: "fuzz" } });
      raw.sendFrame({ payload: payload.subarray(0, cut), reserved: 4, final: false });
      raw.sendFrame({ opcode: opcodes.continuation, payload: payload.subarray(cut) });
      raw.sendText('{"id":"2","type":"ping"}');
      const closed = await raw
        .find(({ reply_to }) => reply_to === "2")
        .then(
          () => null,
          () => raw.ended,
        );
      raw.destroy();
      expect([undefined, 1007]).toContain(closed?.code);
    });
    await fc.assert(property, { seed, numRuns: 80, endOnFailure: true });
    for (const service of [shared, dedicated]) {
      const alive = await Client.connect(service.url, { query: { user_id: "alive" } });
      await alive.close();
    }
  });
});
