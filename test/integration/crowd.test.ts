/** Proves that a crowd, a flood and dead connections leave the service up and everybody else served [CON7] [ENV7] [LIM]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let service: Service;
let witness: Client;
beforeAll(async () => {
  service = await startService({
    settings: { PRESENCE__OFFLINE_GRACE: "0s", PRESENCE__MAX_DEVICES: "1000", PRESENCE__VISIBLE_TO: "everyone" },
  });
  witness = await Client.connect(service.url, { query: { user_id: "witness" } });
});
afterAll(async () => {
  await witness.settled();
  expect(service.logs.filter(({ level }) => level === "error")).toEqual([]);
  await service.stop();
});

/** Opens `count` connections, so many at a time. */
async function crowd(count: number, query: (index: number) => Record<string, string>): Promise<RawSocket[]> {
  const raws: RawSocket[] = [];
  const atOnce = 500;
  for (let from = 0; from < count; from += atOnce) {
    const batch = Array.from({ length: Math.min(atOnce, count - from) }, (_, index) =>
      RawSocket.open(service.url, { query: query(from + index) }),
    );
    raws.push(...(await Promise.all(batch)));
  }
  return raws;
}

describe("crowd", () => {
  test("[CON1] [SUB5] 10,000 connections at once are let in, hear what is said to all, and leave no trace", async () => {
    const count = 10_000;
    // As many users as one query asks about, with twenty devices each.
    const users = 500;
    const raws = await crowd(count, (index) => ({ user_id: `c${index % users}`, device_id: `d${index}` }));
    await Promise.all(raws.map((raw) => raw.next("subscribed")));
    await witness.settled();
    const backend = await Client.connect(service.url, { query: { user_id: "backend", roles: "service" } });
    await backend.ask("publish", { all: true, type: "maintenance", payload: { text: "soon" } });
    await Promise.all([...raws.map((raw) => raw.next("maintenance")), witness.next("maintenance")]);
    expect((await fetch(`${service.http}/ready`)).status).toBe(200);
    const user_ids = Array.from({ length: users }, (_, index) => `c${index}`);
    const online = async () => {
      const { users } = await backend.ask("presence.query", { user_ids });
      return users.filter(({ status }: { status: string }) => status !== "offline").length;
    };
    expect(await online()).toBe(users);
    for (const raw of raws) raw.destroy();
    // Each user's last device that leaves takes the user offline; then all are gone.
    while ((await online()) > 0);
    await backend.close();
  });
});

describe("floods", () => {
  test("[ENV7] clients that send without reading their answers do not keep others waiting", async () => {
    const flooders = await crowd(10, (index) => ({ user_id: `flood${index}` }));
    for (const raw of flooders) {
      raw.stopReading();
      for (let index = 0; index < 3_000; index++) raw.send("presence.query", { user_ids: ["witness"] });
    }
    for (let index = 0; index < 50; index++) await witness.settled();
    for (const raw of flooders) raw.destroy();
    await witness.settled();
  });

  test("[LIM] with limits as shipped a flood of messages ends with 4103 or 4001, and is nobody else's", async () => {
    const limited = await startService({
      settings: { RATE_LIMITS__ENABLED: "true", RATE_LIMITS__ABUSE_WINDOW: "500ms" },
    });
    try {
      const other = await Client.connect(limited.url, { query: { user_id: "other" } });
      for (const [text, code] of [
        ['{"id":"f","type":"ping"}', 4103],
        ['{"id":"f","type":"typing.start","payload":{"conversation_id":"c1"}}', 4103],
        ["garbage", 4001],
      ] as const) {
        const raw = await RawSocket.open(limited.url, { query: { user_id: "flooder" } });
        let heard = 0;
        while (!raw.isEnded) {
          for (let index = 0; index < 20; index++) raw.sendText(text);
          const enough = heard + 1;
          await raw.until(() => (raw.messages.length > enough ? true : undefined)).catch(() => {});
          heard = raw.messages.length;
        }
        expect([text, (await raw.ended).code]).toEqual([text, code]);
        await other.settled();
      }
      await other.close();
    } finally {
      await limited.stop();
    }
  });

  test("[CON1] connections that are opened and dropped at once, before, while and after the handshake, leave no trace", async () => {
    for (let round = 0; round < 5; round++) {
      await Promise.all(
        Array.from({ length: 100 }, async (_, index) => {
          const query = { user_id: "dropper", device_id: `d${index}` };
          if (index % 2 === 0) return (await RawSocket.dial(service.url, { query })).destroy();
          const socket = await Bun.connect({
            hostname: "127.0.0.1",
            port: service.port,
            socket: { data() {}, error() {}, close() {} },
          });
          const request = `GET /ws?user_id=dropper&device_id=d${index} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
          socket.write(index % 4 === 1 ? request : request.slice(0, index));
          socket.terminate();
        }),
      );
    }
    const survivor = await Client.connect(service.url, { query: { user_id: "dropper", device_id: "survivor" } });
    const devices = async () => (await survivor.ask("presence.query", { user_ids: ["dropper"] })).users[0].devices;
    while ((await devices()) > 1);
    await survivor.close();
  });
});
