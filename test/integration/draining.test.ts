/** Proves how the service lets everybody go: told, spread, and with nothing lost that was acknowledged [DRN]. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { once } from "node:events";
import { connect } from "node:net";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { runSql, startPostgres } from "../support/postgres.ts";
import { encodeFrame, opcodes, RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { secret } from "../support/tokens.ts";

setDefaultTimeout(60_000);
const running: Service[] = [];
afterEach(async () => {
  for (const service of running.splice(0)) await service.stop();
});
async function start(settings: Record<string, string>, folder?: string): Promise<Service> {
  const service = await startService({ settings, ...(folder === undefined ? {} : { folder }) });
  running.push(service);
  return service;
}
const handshake = [
  "GET /ws?user_id=u HTTP/1.1",
  ...["Host: x", "Upgrade: websocket", "Connection: Upgrade"],
  ...["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "\r\n"],
].join("\r\n");
const connectAll = (service: Service, count: number) =>
  Promise.all(
    Array.from({ length: count }, (_, index) => Client.connect(service.url, { query: { user_id: `u${index}` } })),
  );

test("[DRN] [REC2] an orderly stop in the middle of everything says nothing of what does not go on, and tells of what was read", async () => {
  const database = await startPostgres();
  const url = await database.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  const settings = { STORAGE__URL: url, WEBSOCKET__CLEANUP_INTERVAL: "1s", OPERATIONS__HEALTH_CACHE: "100ms" };
  const service = await start({ ...settings, SERVER__DRAIN_TIMEOUT: "5s" });
  const clients = await connectAll(service, 8);
  for (const client of clients) await client.ask("subscribe", { topics: ["conversation:c1"] });
  let isOver = false;
  const everything = clients.map(async (client, n) => {
    for (let id = 0; !isOver; id++) {
      const message = { conversation_id: "c1", client_message_id: `${n}-${id}`, content: "hello" };
      const sent = await Promise.race([client.closed, client.request("message.send", message)]);
      if (!("payload" in sent) || sent.type !== "ack") return;
      void client.request("mark.read", { conversation_id: "c1", up_to_seq: sent.payload.seq }).catch(() => {});
    }
  });
  const probes = (async () => {
    while (!isOver) await fetch(`${service.http}/health`).catch(() => {});
  })();
  await clients[0]!.next("message.read");
  const before = service.logs.length;
  service.signal("SIGTERM");
  expect(await service.exited).toBe(0);
  isOver = true;
  await Promise.all([...everything, probes]);
  expect(service.logs.slice(before).filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
  const untold = "SELECT user_id FROM ws.receipts WHERE sent_seq < seq AND kind IN ('read', 'delivered')";
  expect(await runSql(url, untold)).toEqual([]);
  await database.stop();
});

describe("drain window", () => {
  test("[DRN] [END2] [CON1] /ready and new connections are 503 at once, those that are here are served until their turn", async () => {
    const service = await start({ SERVER__DRAIN_WINDOW: "3s", SERVER__DRAIN_TIMEOUT: "10s" });
    const clients = await connectAll(service, 30);
    service.signal("SIGTERM");
    await clients[0]!.next("draining");
    const ready = await fetch(`${service.http}/ready`);
    expect([ready.status, await ready.json()]).toEqual([503, { status: "draining" }]);
    const health = await fetch(`${service.http}/health`);
    expect(((await health.json()) as any).draining).toBe(true);
    expect((await fetch(`${service.http}/live`)).status).toBe(200);
    const refusal = await RawSocket.refused(service.url, { query: { user_id: "late" } });
    expect([refusal.status, refusal.body.code]).toEqual([503, "draining"]);
    expect(Number(refusal.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);

    const told = await Promise.all(
      clients.map(async (client) => (await client.next("draining")).payload.reconnect_after_ms),
    );
    expect(Math.max(...told)).toBeLessThanOrEqual(3_000);
    expect(Math.min(...told)).toBeGreaterThanOrEqual(0);
    expect(new Set(told).size).toBeGreaterThan(15);
    // The last to go can still send.
    const last = clients[told.indexOf(Math.max(...told))]!;
    const payload = { conversation_id: "c1", client_message_id: "late", content: "still here" };
    expect((await last.request("message.send", payload)).type).toBe("ack");

    const order: number[] = [];
    const closings = clients.map(async (client, index) => {
      const { code } = await client.closed;
      order.push(told[index]);
      return code;
    });
    expect(new Set(await Promise.all(closings))).toEqual(new Set([1012]));
    // Each at its own delay: who was told less went earlier, but for those who were told nearly the same.
    for (let index = 1; index < order.length; index++) expect(order[index]!).toBeGreaterThan(order[index - 1]! - 250);
    expect(await service.exited).toBe(0);
    for (const client of clients) expect(client.all("draining").length).toBe(1);
  });

  test("[DRN] [CON2] who has not authenticated is told and let go as well", async () => {
    const service = await start({ AUTH__MODE: "token", AUTH__SECRET: secret });
    const client = await Client.open(service.url);
    await client.next("connected");
    service.signal("SIGTERM");
    await client.next("draining");
    expect((await client.closed).code).toBe(1012);
    expect(await service.exited).toBe(0);
  });

  test("[DRN] [PRE1] nobody is shown offline by it", async () => {
    const service = await start({ SERVER__DRAIN_WINDOW: "500ms", SERVER__DRAIN_TIMEOUT: "5s" });
    const clients = await connectAll(service, 12);
    for (const client of clients) await client.ask("subscribe", { topics: ["conversation:c1"] });
    for (const client of clients)
      await client.ask("subscribe", { topics: ["presence"], filters: { conversation_id: "c1" } });
    service.signal("SIGTERM");
    await Promise.all(clients.map((client) => client.closed));
    for (const client of clients) expect(client.all("presence.offline")).toEqual([]);
    expect(await service.exited).toBe(0);
  });
});

describe("nothing is lost", () => {
  test("[DRN] [LOG1] everything that was acknowledged under load is in the log, once, after the restart", async () => {
    const service = await start({ SERVER__DRAIN_WINDOW: "300ms" });
    const clients = await connectAll(service, 6);
    const acknowledged = new Map<string, number>();
    const sending = clients.map(async (client, who) => {
      for (let index = 0; ; index++) {
        const client_message_id = `${who}-${index}`;
        const payload = { conversation_id: "c1", client_message_id, content: "x" };
        const reply = await client.request("message.send", payload).catch(() => null);
        if (reply === null) return;
        if (reply.type === "ack") acknowledged.set(client_message_id, reply.payload.seq);
        if (acknowledged.size === 200) service.signal("SIGTERM");
      }
    });
    await Promise.all(sending);
    expect(await service.exited).toBe(0);
    expect(acknowledged.size).toBeGreaterThan(200);

    const again = await start({}, service.folder);
    const reader = await Client.connect(again.url, { query: { user_id: "u0" } });
    await reader.ask("subscribe", { topics: ["conversation:c1"], since: "acked" });
    const stored = reader.all("message.new");
    expect(stored.map(({ seq }) => seq)).toEqual(stored.map((_, index) => index + 1));
    const found = new Map(stored.map(({ payload, seq }) => [payload.client_message_id, seq!]));
    expect(found.size).toBe(stored.length);
    for (const [id, seq] of acknowledged) expect([id, found.get(id)]).toEqual([id, seq]);
    // A message that had been taken when the connection was closed was answered before.
    expect([...found.keys()].filter((id) => !acknowledged.has(id))).toEqual([]);
    await reader.close();
  });

  test("[DRN] [REC2] receipts that wait for their window are written before the end", async () => {
    const service = await start({ MESSAGES__RECEIPT_WINDOW: "20s" });
    const [anna, ben] = await connectAll(service, 2);
    // A member before it is said: of what was there before nobody tells that it is read.
    await ben!.ask("subscribe", { topics: ["conversation:c1"] });
    await anna!.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "x" });
    expect(await ben!.ask("mark.read", { conversation_id: "c1", up_to_seq: 1 })).toMatchObject({
      up_to_seq: 1,
      unread: 0,
    });
    service.signal("SIGTERM");
    expect(await service.exited).toBe(0);
    const again = await start({}, service.folder);
    const reader = await Client.connect(again.url, { query: { user_id: "u0" } });
    const { events } = await reader.ask("history", { topic: "conversation:c1" });
    expect(events.map(({ type }: { type: string }) => type)).toContain("message.read");
    await reader.close();
  });
});

describe("the end", () => {
  test("[DRN] a second SIGTERM ends it at once", async () => {
    const service = await start({ SERVER__DRAIN_WINDOW: "60s", SERVER__DRAIN_TIMEOUT: "60s" });
    const clients = await connectAll(service, 20);
    service.signal("SIGTERM");
    const told = await Promise.all(
      clients.map(async (client) => (await client.next("draining")).payload.reconnect_after_ms),
    );
    const last = clients[told.indexOf(Math.max(...told))]!;
    await last.settled();
    service.signal("SIGTERM");
    expect((await last.closed).code).toBe(1012);
    expect(await service.exited).toBe(0);
  });

  test("[DRN] SIGINT is the same as SIGTERM", async () => {
    const service = await start({});
    const [client] = await connectAll(service, 1);
    service.signal("SIGINT");
    expect((await client!.closed).code).toBe(1012);
    expect(await service.exited).toBe(0);
  });

  test("[DRN] drain_timeout bounds it, also where clients neither read nor leave", async () => {
    const service = await start({ SERVER__DRAIN_WINDOW: "60s", SERVER__DRAIN_TIMEOUT: "700ms" });
    const stuck = await Promise.all(
      Array.from({ length: 5 }, (_, index) =>
        RawSocket.open(service.url, { query: { user_id: `stuck${index}` }, halfOpen: true }),
      ),
    );
    for (const raw of stuck) await raw.request("subscribe", { topics: ["conversation:c1"] });
    const sender = await Client.connect(service.url, { query: { user_id: "sender" } });
    for (const raw of stuck) raw.stopReading();
    for (let index = 0; index < 40; index++) {
      const content = "x".repeat(200 * 1024);
      await sender.ask("message.send", { conversation_id: "c1", client_message_id: `m${index}`, content });
    }
    service.signal("SIGTERM");
    expect((await sender.next("draining")).payload.reconnect_after_ms).toBeLessThanOrEqual(700);
    expect((await sender.closed).code).toBe(1012);
    expect(await service.exited).toBe(0);
    for (const raw of stuck) raw.destroy();
  });

  test("[DRN] who still sends after the close, and has not read it yet, is not reset, and hears its code", async () => {
    const service = await start({ SERVER__DRAIN_WINDOW: "1ms", LOG__LEVEL: "debug" });
    // As proxies do, it gives up where its write is refused, whatever it could still read.
    const socket = connect({ port: service.port, host: "127.0.0.1", allowHalfOpen: true });
    socket.write(handshake);
    await once(socket, "data");
    socket.pause();
    service.signal("SIGTERM");
    await service.logged(({ msg }) => msg === "disconnected");
    const ended = once(socket, "end");
    // For longer than it takes to stop everything.
    for (let times = 0; times < 100; times++) {
      socket.write(encodeFrame({ opcode: opcodes.pong }));
      await Bun.sleep(2);
    }
    let heard = "";
    socket.on("data", (bytes) => (heard += bytes.toString("latin1")));
    socket.resume();
    await ended;
    expect(heard).toContain("\x03\xf4restarting");
    socket.end();
    expect(await service.exited).toBe(0);
  });

  test("[DRN] without a connection it ends at once, whatever the window", async () => {
    const service = await start({ SERVER__DRAIN_WINDOW: "60s", SERVER__DRAIN_TIMEOUT: "60s" });
    service.signal("SIGTERM");
    expect(await service.exited).toBe(0);
  });

  test("[DRN] more signals while it is stopping do no harm", async () => {
    const service = await start({ SERVER__DRAIN_WINDOW: "60s", SERVER__DRAIN_TIMEOUT: "60s" });
    const [client] = await connectAll(service, 1);
    service.signal("SIGTERM");
    await client!.next("draining");
    for (let time = 0; time < 4; time++) service.signal("SIGTERM");
    expect((await client!.closed).code).toBe(1012);
    expect(await service.exited).toBe(0);
  });
});
