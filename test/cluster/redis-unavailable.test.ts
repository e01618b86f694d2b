/** Proves that without Redis every request is either served or `unavailable`, an `authenticate` among them, and how late /health says so. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startClusterNode } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";
import { unavailableTypes } from "../support/unavailable.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

let redis: RedisServer;
let service: Service;

beforeAll(async () => {
  redis = await startRedis();
  service = await start({ AUTH__MODE: "token", AUTH__SECRET: secret, PRESENCE__MAX_DEVICES: "1" });
});
afterAll(async () => {
  await service?.stop();
  await redis?.stop();
});

/** A node on that Redis. */
const start = (settings: Record<string, string>) =>
  startClusterNode(redis.url, {
    settings,
  });

const tokenOf = (sub: string, ...roles: string[]) =>
  signToken({ sub, roles, exp: Math.floor(Date.now() / 1_000) + 3_600 });

test("[AUTH1] [ENV4] [CON3] without Redis whatever cannot be had is unavailable, and nothing is a fault", async () => {
  const token = await tokenOf("u1", "service", "admin");
  const client = await Client.connect(service.url, { query: { token } });
  const broken = await Client.connect(service.url, { query: { token: await tokenOf("u3") } });
  // Its entry stays for the grace, and Redis cannot let go of it now: what comes here counts here all the same.
  broken.socket.terminate();
  const newcomer = await Client.open(service.url);
  await redis.kill();

  const answer = await newcomer.request("authenticate", { token: await tokenOf("u3") });
  expect(answer).toMatchObject({ type: "auth.success", payload: { user_id: "u3" } });
  const found = await unavailableTypes([client], {
    examplesMax: 4,
    filledIn: { authenticate: { token, device_id: undefined } },
  });
  // A backend is answered truly of anybody, and of who is elsewhere nobody knows now [BAK1].
  expect(found).toEqual(["call.answer", "call.hangup", "call.ice", "call.offer", "presence.query"]);
  expect(service.logs.filter(({ level }) => level === "error" || level === "fatal")).toEqual([]);
});

test("[END2] an answer that all is well is good for operations.health_cache", async () => {
  await redis.restart();
  const lasting = await start({ OPERATIONS__HEALTH_CACHE: "1h" });
  const status = async ({ http }: Service) =>
    ((await (await fetch(`${http}/health`)).json()) as { status: string }).status;
  for (const node of [lasting, service]) await until(async () => (await status(node)) === "up");
  await redis.kill();
  await until(async () => (await status(service)) === "degraded");
  expect(await status(lasting)).toBe("up");
  await lasting.stop();
});
