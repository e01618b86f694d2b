/** Proves on the whole service, run in this process to see inside, that connections leave nothing behind. */

import { heapStats } from "bun:jsc";
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type App, startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/loader.ts";
import { routes } from "../../src/handlers/routes.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { Client } from "../support/client.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let app: App;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ws-service-"));
  const env = {
    WS__SERVER__PORT: "0",
    WS__STORAGE__URL: `sqlite:${join(folder, "ws-service.db")}`,
    WS__RATE_LIMITS__ENABLED: "false",
    WS__WEBSOCKET__CLEANUP_INTERVAL: "50ms",
    WS__PRESENCE__OFFLINE_GRACE: "10ms",
    WS__LOG__LEVEL: "silent",
    WS__LOG__RETENTION: "3s",
  };
  const { config } = await loadConfig({ env, cwd: folder });
  app = await startApp({ config, routes, logger: createLogSink(config.log).logger, version: "test" });
});
afterAll(async () => {
  await app.drain();
  rmSync(folder, { recursive: true, force: true });
});

/** Connects, subscribes, types, and goes in one of the ways in which clients go. */
function comeAndGo(n: number): Promise<void> {
  const conversations = [`c${n % 50}`, `own${n}`];
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${app.port}/ws?user_id=u${n % 100}`);
    const send = (type: string, payload: object) => socket.send(JSON.stringify({ id: type, type, payload }));
    socket.addEventListener("close", () => resolve());
    socket.addEventListener("message", ({ data }) => {
      const { type, reply_to } = JSON.parse(String(data));
      if (type === "connected") {
        send("subscribe", {
          topics: ["conversation", "typing", "presence"],
          filters: { conversation_ids: conversations },
        });
        if (n % 2 === 0) send("typing.start", { conversation_id: conversations[0]! });
        // Some are gone before they have their answer.
        if (n % 5 === 0) socket.terminate();
      } else if (reply_to === "subscribe") {
        if (n % 3 === 0) socket.terminate();
        else socket.close(n % 3 === 1 ? 1000 : 4999);
      }
    });
  });
}

test("[SUB5] after 1,500 cycles of connect, subscribe and close nothing is subscribed any more", async () => {
  const cycles = 1_500;
  let next = 0;
  const worker = async () => {
    // The later rounds change no membership: what only a change of it would tidy up stays.
    while (next < cycles) await comeAndGo(next++ % 1_000);
  };
  await Promise.all(Array.from({ length: 25 }, worker));
  // The sequencer drops a topic at a sweep only when the native tree has no subscriber of it left.
  const stats: any = await eventually(
    () => app.stats(),
    ({ hub, presence, sequencer, sessions, typing }: any) =>
      hub.connections +
        presence.devices +
        presence.leaving +
        sequencer.topics +
        sessions.cleaning_up +
        typing.typing ===
      0,
  );
  expect(stats).toMatchObject({
    hub: { connections: 0, authenticated: 0, users: 0, accepted: cycles },
    subscriptions: { catching_up: 0 },
    presence: { users: 0, devices: 0, leaving: 0 },
    sequencer: { topics: 0, waiting: 0 },
    typing: { typing: 0 },
  });
  // A client that is still remembered anywhere keeps a socket; the collector may miss a few.
  Bun.gc(true);
  expect(heapStats().objectTypeCounts.ServerWebSocket ?? 0).toBeLessThan(200);
});

test("[LOG6] devices that acknowledged and stay away for the retention leave nothing behind, who comes again stays", async () => {
  const url = `ws://127.0.0.1:${app.port}/ws`;
  const come = (device_id: string) => Client.connect(url, { query: { user_id: "anna", device_id } });
  for (const device of ["phone", "made-up-1", "made-up-2"]) {
    const client = await come(device);
    const { cursor } = await client.ask("ping");
    await client.ask("ack", { cursor });
    await client.close();
  }
  const database = new Database(join(folder, "ws-service.db"), { readonly: true });
  const devices = () => database.query("SELECT device_id FROM cursors ORDER BY device_id").values().flat();
  const left = await eventually(
    async () => {
      // It only comes: it acknowledges nothing.
      await (await come("phone")).close();
      return devices();
    },
    (ids) => ids.length < 3 && !ids.includes("made-up-2"),
  );
  database.close();
  expect(left).toEqual(["phone"]);
});
