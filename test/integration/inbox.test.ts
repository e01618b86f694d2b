/** Proves what happens to requests that wait for their turn, on the whole service, with handlers that the test holds back. */
import { afterAll, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type App, startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/loader.ts";
import type { Routes } from "../../src/handlers/context.ts";
import { routes } from "../../src/handlers/routes.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { Client } from "../support/client.ts";

setDefaultTimeout(60_000);

let app: App;
let folder: string;
let url: string;
/** Ids of the requests whose handling has begun; the first waits until it is released. */
let begun: string[];
let held: PromiseWithResolvers<void>;
let onBegun: () => void;

const heldRoutes: Routes = {
  ...routes,
  async "typing.stop"({ id }) {
    begun.push(id);
    onBegun();
    await held.promise;
    return { type: "ack", payload: {} };
  },
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ws-service-"));
  const env = {
    WS__SERVER__PORT: "0",
    WS__STORAGE__URL: `sqlite:${join(folder, "ws-service.db")}`,
    WS__RATE_LIMITS__ENABLED: "false",
    WS__LOG__LEVEL: "silent",
  };
  const { config } = await loadConfig({ env, cwd: folder });
  app = await startApp({ config, routes: heldRoutes, logger: createLogSink(config.log).logger, version: "test" });
  url = `ws://127.0.0.1:${app.port}/ws`;
});
afterAll(async () => {
  await app.drain();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => {
  begun = [];
  held = Promise.withResolvers();
  onBegun = () => {};
});

/** Resolves once so many requests have begun. */
function whenBegun(count: number): Promise<void> {
  return new Promise((resolve) => {
    onBegun = () => begun.length === count && resolve();
    onBegun();
  });
}

/** Sends five requests in one go, of which the first is being handled and the others wait. */
async function sendFive(client: Client): Promise<void> {
  for (let n = 0; n < 5; n++) client.send("typing.stop", { conversation_id: "c1" });
  await whenBegun(1);
}

test("[ENV7] [AUTH4] what waits when the service ends a connection is not handled any more", async () => {
  const admin = await Client.connect(url, { query: { user_id: "root", roles: "admin" } });
  const client = await Client.connect(url, { query: { user_id: "u1" } });
  await sendFive(client);
  expect(await admin.ask("admin.disconnect", { user_id: "u1" })).toMatchObject({ disconnected: 1 });
  expect(await client.closed).toMatchObject({ code: 4011 });
  held.resolve();
  // One that comes later has its turn later, so that what would be handled has been.
  const other = await Client.connect(url, { query: { user_id: "u2" } });
  await other.ask("typing.stop", { conversation_id: "c1" });
  expect(begun).toHaveLength(2);
});

test("[ENV7] what waits when a client leaves is handled: it has sent it", async () => {
  const client = await Client.connect(url, { query: { user_id: "u3" } });
  await sendFive(client);
  await client.close();
  held.resolve();
  await whenBegun(5);
});
