/** Proves who is let go: the silent and the slow, while everybody else is served [CON6] [CON7]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { Client } from "../support/client.ts";
import { opcodes, RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

describe("silence", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: { WEBSOCKET__PING_PERIOD: "100ms", WEBSOCKET__PONG_WAIT: "700ms", WEBSOCKET__CLEANUP_INTERVAL: "1s" },
    });
  });
  afterAll(() => service.stop());
  const pings = (raw: RawSocket) => raw.frames.filter(({ opcode }) => opcode === opcodes.ping).length;
  /** So many pings that somebody silent would have been closed twice over. */
  const pingsOfTwoWaits = 14;

  test("[CON6] a silent client is pinged, then closed with 4102", async () => {
    const raw = await RawSocket.open(service.url, { query: { user_id: "silent" } });
    expect(await raw.ended).toMatchObject({ code: 4102 });
    expect(pings(raw)).toBeGreaterThan(1);
  });

  test("[CON6] a client that only answers pings is kept", async () => {
    const raw = await RawSocket.open(service.url, { query: { user_id: "quiet" }, pongs: true });
    await raw.until(() => (pings(raw) >= pingsOfTwoWaits ? true : undefined));
    expect((await raw.request("ping")).type).toBe("pong");
    raw.destroy();
  });

  test("[CON6] its own pings and its messages are signs of life as well; a heard client is not pinged", async () => {
    for (const speak of [
      (raw: RawSocket) => raw.sendFrame({ opcode: opcodes.ping, payload: "x" }),
      (raw: RawSocket) => void raw.send("ping"),
    ]) {
      const raw = await RawSocket.open(service.url, { query: { user_id: "talker" } });
      const other = await RawSocket.open(service.url, { query: { user_id: "clock" }, pongs: true });
      // The other's pings are the clock: at each of them the talker speaks.
      for (let heard = 1; heard <= pingsOfTwoWaits; heard++) {
        await other.until(() => (pings(other) >= heard ? true : undefined));
        speak(raw);
      }
      expect((await raw.request("ping")).type).toBe("pong");
      for (const it of [raw, other]) it.destroy();
    }
  });

  test("[CON6] what the server sends is no sign of life: a silent listener is closed however much it is sent", async () => {
    const listener = await RawSocket.open(service.url, { query: { user_id: "listener" } });
    const backend = await Client.connect(service.url, { query: { user_id: "backend", roles: "service" } });
    let sent = 0;
    while (!listener.isEnded) {
      await backend.ask("publish", { user_ids: ["listener"], type: "poll.closed", payload: {}, logged: false });
      sent++;
    }
    expect(await listener.ended).toMatchObject({ code: 4102 });
    expect(sent).toBeGreaterThan(5);
    await backend.close();
  });

  test("[CON6] half-open connections end as well, and their users' other devices stay", async () => {
    const dead = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        RawSocket.open(service.url, { query: { user_id: `half-${index % 10}` }, halfOpen: true }),
      ),
    );
    const alive = await RawSocket.open(service.url, { query: { user_id: "half-0" }, pongs: true });
    for (const raw of dead) expect(await raw.ended).toMatchObject({ code: 4102 });
    expect((await alive.request("ping")).type).toBe("pong");
    for (const raw of [...dead, alive]) raw.destroy();
  });

  test("[ENV7] a message in one frame that is never finished is no sign of life, however its bytes trickle in", async () => {
    const raw = await RawSocket.open(service.url, { query: { user_id: "trickle" }, pongs: true });
    await raw.next("connected");
    let isOver = false;
    const ended = raw.ended.finally(() => {
      isOver = true;
    });
    // A text frame of 5 MiB, of which some bytes come now and then: nothing else can stand in between.
    const head = Buffer.alloc(14);
    head.writeUInt16BE(0x81ff);
    head.writeBigUInt64BE(BigInt(5 << 20), 2);
    raw.write(head);
    while (!isOver) {
      raw.write(Buffer.alloc(64, 0x41));
      await Promise.race([ended, Bun.sleep(50)]);
    }
    expect(await ended).toMatchObject({ code: 4102 });
  });

  test("[CON6] silence ends before authentication too", async () => {
    const tokens = await startService({
      settings: {
        AUTH__MODE: "token",
        AUTH__SECRET: "a secret of at least thirty-two bytes",
        WEBSOCKET__PING_PERIOD: "100ms",
        WEBSOCKET__PONG_WAIT: "500ms",
      },
    });
    const raw = await RawSocket.open(tokens.url);
    expect(await raw.ended).toMatchObject({ code: 4102 });
    await tokens.stop();
  });
});

describe("slowness", () => {
  // Compressed it is half of that.
  const content = randomBytes(30 * 1024).toString("hex");
  const messages = 250;

  for (const { why, settings } of [
    {
      why: "behind for longer than write_wait",
      settings: { WEBSOCKET__WRITE_WAIT: "600ms", WEBSOCKET__CLIENT_BUFFER_SIZE: "4096" },
    },
    { why: "its buffer is full", settings: { WEBSOCKET__WRITE_WAIT: "60s", WEBSOCKET__CLIENT_BUFFER_SIZE: "32" } },
    {
      why: "its buffer is full of what is compressed",
      settings: {
        WEBSOCKET__WRITE_WAIT: "60s",
        WEBSOCKET__CLIENT_BUFFER_SIZE: "16",
        WEBSOCKET__COMPRESSION: "dedicated",
      },
    },
  ]) {
    test.concurrent(`[CON7] [LOG3] a client that never reads is closed (${why}), has a gap-free prefix, and resumes; others lose nothing`, async () => {
      const service = await startService({
        settings: { WEBSOCKET__MAX_MESSAGE_SIZE: "1MiB", PRESENCE__OFFLINE_GRACE: "0s", ...settings },
      });
      try {
        await provesSlowness(service);
      } finally {
        await service.stop();
      }
    });
  }

  test.concurrent("[ENV5] [AUTH4] who is closed far behind ends at once, and reads why once it has read the rest", async () => {
    const service = await startService({ settings: { PRESENCE__OFFLINE_GRACE: "0s" } });
    const topics = { topics: ["conversation:c1"] };
    const behind = await RawSocket.open(service.url, { query: { user_id: "behind" } });
    const sender = await Client.connect(service.url, { query: { user_id: "sender", roles: "admin" } });
    await behind.request("subscribe", topics);
    await sender.ask("subscribe", topics);
    await sender.ask("subscribe", { topics: ["presence"], filters: { user_id: "behind" } });
    behind.stopReading();
    // More than the kernel takes by itself, and less than a client may be behind.
    const send = (index: number) =>
      sender.ask("message.send", { conversation_id: "c1", client_message_id: `m${index}`, content });
    for (let index = 1; index <= 150; index++) await send(index);
    await sender.ask("admin.disconnect", { user_id: "behind", reason: "goodbye" });
    await sender.next("presence.offline", ({ user_id }) => user_id === "behind");
    expect((await sender.ask("admin.connections", { user_id: "behind" })).connections).toEqual([]);
    await send(151);
    // Nothing it sends is read any more: this is no frame, and it would end with 1002.
    behind.sendFrame({ payload: "x", reserved: 4 });
    // The platform's own patience with a closed socket ends within five seconds: here time itself is what is tested.
    await Bun.sleep(5_500);
    behind.startReading();
    expect(await behind.ended).toMatchObject({ code: 4011 });
    const seqs = behind.messages.filter(({ type }) => type === "message.new").map(({ seq }) => seq);
    expect(seqs).toEqual(Array.from({ length: 150 }, (_, index) => index + 1));
    await sender.close();
    await service.stop();
  });

  async function provesSlowness(service: Service): Promise<void> {
    const topics = { topics: ["conversation:c1"] };
    const slow = await RawSocket.open(service.url, {
      query: { user_id: "slow", device_id: "phone" },
      headers: { "Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover" },
    });
    const sender = await Client.connect(service.url, { query: { user_id: "sender" } });
    const reader = await Client.connect(service.url, { query: { user_id: "reader" } });
    await slow.request("subscribe", topics);
    for (const client of [sender, reader]) await client.ask("subscribe", topics);
    await sender.ask("subscribe", { topics: ["presence"], filters: { user_id: "slow" } });
    const live = await slow.next("subscribed");
    slow.stopReading();

    const send = async (from: number, to: number) => {
      for (let index = from; index <= to; index++) {
        await sender.ask("message.send", { conversation_id: "c1", client_message_id: `m${index}`, content });
      }
    };
    // More than the kernel takes and the service keeps; the last of it once the slow one has been let go.
    await send(1, messages - 10);
    await sender.next("presence.offline", ({ user_id }) => user_id === "slow");
    await send(messages - 9, messages);
    slow.startReading();
    const { code } = await slow.ended;
    expect([4101, 1006]).toContain(code);

    const prefix = slow.messages.filter(({ type }) => type === "message.new").map(({ seq }) => seq);
    expect(prefix).toEqual(prefix.map((_, index) => index + 1));
    expect(prefix.length).toBeLessThan(messages);
    await reader.find(({ seq }) => seq === messages);
    expect(reader.all("message.new").map(({ seq }) => seq)).toEqual(Array.from({ length: messages }, (_, i) => i + 1));

    const again = await Client.connect(service.url, { query: { user_id: "slow", device_id: "phone" } });
    const seen = prefix.length === 0 ? {} : { "conversation:c1": prefix.length };
    const back = await again.ask("subscribe", { ...topics, since: { cursor: live.payload.cursor, seen } });
    expect(back.topics[0]).toMatchObject({ seq: messages, recovered: true, replayed: messages - prefix.length });
    expect(again.all("message.new").map(({ seq }) => seq)).toEqual(
      Array.from({ length: messages - prefix.length }, (_, i) => prefix.length + i + 1),
    );
    await Promise.all([sender, reader, again].map((client) => client.close()));
  }
});
