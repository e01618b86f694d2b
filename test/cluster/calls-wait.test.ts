/** Proves that a node says once that calls wait for Redis and once that they go on, however often it tries in between. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Redis } from "ioredis";
import { Client } from "../support/client.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type LogLine, type Service, startClusterNode } from "../support/service.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

let redis: RedisServer;
let service: Service;

beforeAll(async () => {
  redis = await startRedis();
  service = await startClusterNode(redis.url, {
    settings: { CLUSTER__HEARTBEAT: "200ms" },
  });
});
afterAll(async () => {
  await service?.stop();
  await redis?.stop();
});

/** The lines from there on until calls go on again, which is told after some of the rounds in which they do not. */
async function untilCallsGoOn(from: number): Promise<LogLine[]> {
  const isAfter = (line: LogLine) => service.logs.indexOf(line) >= from;
  await service.logged((line) => isAfter(line) && line.msg === "calls go on");
  return service.logs.slice(from);
}

const isOfCalls = ({ msg }: LogLine) => /\bcalls?\b/.test(msg);

test("[CALL2] that calls wait is said once, in one line, while nodes put back what Redis has lost", async () => {
  const from = service.logs.length;
  const operator = new Redis(redis.url);
  // Before its first look a node knows of nothing that could be lost.
  await until(async () => (await operator.keys("ws:*:{calls}:epoch")).length === 1);
  await operator.flushall();
  operator.disconnect();
  const lines = await untilCallsGoOn(from);
  expect(lines.filter(isOfCalls)).toEqual([
    expect.objectContaining({
      level: "warn",
      msg: "calls wait",
      err: expect.objectContaining({ type: "Unavailable", part: "cluster" }),
    }),
    expect.objectContaining({ level: "info", msg: "calls go on" }),
  ]);
  expect(JSON.stringify(lines)).not.toContain("stack");
});

test("[CALL2] the same while Redis is away, also the second time", async () => {
  const from = service.logs.length;
  await redis.kill();
  await service.logged((line) => service.logs.indexOf(line) >= from && line.msg === "calls wait");
  await redis.restart();
  const lines = await untilCallsGoOn(from);
  expect(lines.filter(isOfCalls).map(({ msg }) => msg)).toEqual(["calls wait", "calls go on"]);
  expect(JSON.stringify(lines)).not.toContain("stack");
});

test("[CALL2] [SUB5] who leaves while Redis is away is told once for all, and that it is over", async () => {
  const from = service.logs.length;
  const settled = (msg: string) => service.logged((line) => service.logs.indexOf(line) >= from && line.msg === msg);
  const leave = async (name: string) => {
    const places = Array.from({ length: 20 }, (_, at) => ({ query: { user_id: `${name}${at}` } }));
    const clients = await Promise.all(places.map((place) => Client.connect(service.url, place)));
    return () => Promise.all(clients.map((client) => client.close()));
  };
  const [early, late, last] = [await leave("early"), await leave("late"), await leave("last")];
  await redis.kill();
  await settled("calls wait");
  await early();
  await late();
  await settled("clean-up of a connection failed");
  await redis.restart();
  await settled("calls go on");
  await last();
  await settled("connections are cleaned up again");
  const warnings = service.logs.slice(from).filter(({ level }) => level !== "info");
  const texts = warnings.map(({ msg }) => msg);
  expect(texts).toContain("clean-up of a connection failed");
  expect(texts).toEqual([...new Set(texts)]);
});
