/** Proves what the service is and says while Redis is away, full, deaf or refuses: it serves by the log, and tells it once, in the words of Redis [END2]. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Redis } from "ioredis";
import { Client } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { type Ground, layGround } from "../support/ground.ts";
import { fresh } from "../support/people.ts";
import { program } from "../support/program.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type LogLine, type Service, startService } from "../support/service.ts";
import { eventually, until } from "../support/until.ts";

setDefaultTimeout(60_000);

let ground: Ground;
let redis: RedisServer;
let full: RedisServer;
let operator: Redis;
let atFull: Redis;
const running: Service[] = [];
beforeAll(async () => {
  ground = await layGround();
  [redis, full] = await Promise.all([startRedis(), startRedis()]);
  operator = new Redis(redis.url);
  atFull = new Redis(full.url);
});
afterEach(async () => void (await Promise.all(running.splice(0).map((service) => service.stop()))));
afterAll(async () => {
  for (const client of [operator, atFull]) client?.disconnect();
  await Promise.all([ground?.stop(), redis?.stop(), full?.stop()]);
});

async function start(url: string, settings: Record<string, string> = {}): Promise<Service> {
  // Each answer is how it is now, and not how it was as it started.
  const uncached = { OPERATIONS__HEALTH_CACHE: "1ms" };
  const service = await startService({ settings: { ...ground.settings, ...uncached, CLUSTER__URL: url, ...settings } });
  running.push(service);
  return service;
}
/** Asks both at once, so that they speak of the same: whoever is asked while the parts are waits for one answer. */
const healthOf = async (service: Service) => {
  const ask = async () => {
    const [health, ready] = await Promise.all(["/health", "/ready"].map((path) => fetch(service.http + path)));
    return { code: health!.status, readyCode: ready!.status, ...((await health!.json()) as any) };
  };
  // No answer by the deadline, on a machine that has much to do, tells nothing of Redis.
  const isLate = ({ error }: { error?: string }) => error?.startsWith("no answer within") === true;
  return eventually(ask, ({ checks }) => !Object.values<{ error?: string }>(checks).some(isLate));
};
const becomes = (service: Service, status: string) =>
  until(async () => (await healthOf(service)).status === status, 30_000);
const isOfRedis = ({ msg }: LogLine) => /Redis/.test(msg);
const told = (service: Service, from = 0) => service.logs.slice(from).filter(isOfRedis);

/** A message from one to another, both on this service. */
async function expectServed(service: Service): Promise<void> {
  const [anna, ben] = await Promise.all(
    ["anna", "ben"].map((name) => Client.connect(service.url, { query: { user_id: fresh(name) } })),
  );
  const c = fresh("c");
  for (const client of [anna!, ben!]) await client.ask("subscribe", { topics: [`conversation:${c}`] });
  await anna!.ask("message.send", { conversation_id: c, client_message_id: "m", content: "served" });
  await ben!.next("message.new", ({ content }) => content === "served");
  await Promise.all([anna!.close(), ben!.close()]);
}

/** Reads what is said on standard error by a service that does not start. */
async function refusalOf(url: string): Promise<string> {
  const settings = { ...ground.settings, SERVER__PORT: "0", LOG__LEVEL: "silent", CLUSTER__URL: url };
  const child = Bun.spawn([...program, "serve"], {
    env: Object.fromEntries(Object.entries(settings).map(([name, value]) => [`WS__${name}`, value])),
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const [stderr, code] = await Promise.all([child.stderr.text(), child.exited]);
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^ws-service: cluster\.url: [^\n]+\n$/) });
  return stderr;
}

const urlOf = (user: string, password = "x") => `redis://${user}:${password}@127.0.0.1:${redis.port}`;

test("[END2] a node starts while Redis is away, serves, is degraded, joins once it is there, and tells of its policy", async () => {
  const [port] = await freePorts(1);
  const service = await start(`redis://127.0.0.1:${port}`);
  expect(await healthOf(service)).toMatchObject({
    code: 200,
    readyCode: 200,
    status: "degraded",
    checks: { storage: { status: "up" }, cluster: { status: "degraded", error: "failed: ECONNREFUSED" } },
  });
  await expectServed(service);
  const late = await startRedis({ port: port!, settings: ["--maxmemory-policy", "allkeys-lru"] });
  try {
    await becomes(service, "up");
    const other = await start(`redis://127.0.0.1:${port}`);
    const admin = await Client.connect(other.url, { query: { user_id: "root", roles: "admin" } });
    await until(async () => (await admin.ask("admin.nodes")).nodes.length === 2);
    await admin.close();
    expect(told(service).map(({ level, msg }) => [level, msg])).toEqual([
      ["warn", "Redis is away"],
      ["info", "Redis is here"],
      ["warn", "Redis may throw away who is here: its maxmemory-policy should be noeviction"],
    ]);
    expect(told(service)[0]).toMatchObject({ setting: "cluster.url", reason: expect.stringContaining("ECONNREFUSED") });
  } finally {
    await late.stop();
  }
});

test("[END2] cluster.required: without Redis a node is down and not ready, and starts all the same", async () => {
  const [port] = await freePorts(1);
  const service = await start(`redis://127.0.0.1:${port}`, { CLUSTER__REQUIRED: "true" });
  expect(await healthOf(service)).toMatchObject({
    code: 503,
    readyCode: 503,
    status: "down",
    checks: { cluster: { status: "down" } },
  });
});

test("[END2] no Sentinel that answers is no reason not to start", async () => {
  const [port] = await freePorts(1);
  const service = await start(`redis+sentinel://127.0.0.1:${port}/main`);
  expect(await healthOf(service)).toMatchObject({ code: 200, readyCode: 200, status: "degraded" });
  await expectServed(service);
});

test("[END2] what Redis refuses is told at the start in one sentence, with the setting and its words", async () => {
  const refused: [rules: string[], words: RegExp][] = [
    [["on", ">right", "~*", "&*", "+@all"], /WRONGPASS/],
    [["on", ">x", "~*", "&*", "-@all", "+hello", "+auth", "+info"], /NOPERM/],
    [["on", ">x", "~*", "&*", "+@all", "-@scripting"], /NOPERM/],
    [["on", ">x", "~*", "&*", "+@all", "-zadd"], /permission|can't run|ACL/],
    [["on", ">x", "~other:*", "&*", "+@all"], /NOPERM/],
    // As Redis 7 makes users.
    [["on", ">x", "~*", "resetchannels", "+@all"], /NOPERM.*channels/],
  ];
  await Promise.all(
    refused.map(async ([rules, words]) => {
      const user = fresh("user");
      await operator.call("ACL", "SETUSER", user, "reset", ...rules);
      expect(await refusalOf(urlOf(user))).toMatch(words);
    }),
  );
});

test("[END2] a replica, and a database that is not there, are told at the start as what they are", async () => {
  expect(await refusalOf(`${redis.url}/99`)).toContain("DB index is out of range");
  const replica = await startRedis({ settings: ["--replicaof", "127.0.0.1", String(redis.port)] });
  try {
    expect(await refusalOf(replica.url)).toContain("READONLY");
  } finally {
    await replica.stop();
  }
});

/** Redis refuses from `take` to `give`: the node is degraded, serves, and says each of the two once. */
async function expectToldOnce(
  service: Service,
  refuses: { take(): Promise<unknown>; give(): Promise<unknown>; code: string },
) {
  const from = service.logs.length;
  await refuses.take();
  await service.logged(({ msg }) => msg === "Redis refuses");
  expect(await healthOf(service)).toMatchObject({
    code: 200,
    readyCode: 200,
    status: "degraded",
    checks: { cluster: { status: "degraded", error: `failed: ${refuses.code}` } },
  });
  await expectServed(service);
  await refuses.give();
  await service.logged(({ msg }) => msg === "Redis serves again");
  const lines = told(service, from).filter(({ msg }) => msg !== "Redis is away" && msg !== "Redis is here");
  expect(lines.map(({ level, msg }) => [level, msg])).toEqual([
    ["warn", "Redis refuses"],
    ["info", "Redis serves again"],
  ]);
  expect(lines[0]).toMatchObject({ setting: "cluster.url", err: { message: expect.stringContaining(refuses.code) } });
  expect(JSON.stringify(service.logs.slice(from))).not.toContain('"stack"');
}

test("[END2] a Redis that is full, or takes away rights or the password, degrades the node, which says so once and once that it is over", async () => {
  const lost: [take: string[], give: string[], code: string][] = [
    [["resetkeys", "~other:*"], ["~*"], "NOPERM"],
    [["resetchannels"], ["&*"], "NOPERM"],
    [["resetpass", ">other"], ["resetpass", ">x"], "WRONGPASS"],
  ];
  const isFull = async () =>
    expectToldOnce(await start(full.url), {
      take: () => atFull.config("SET", "maxmemory", "1"),
      give: () => atFull.config("SET", "maxmemory", "0"),
      code: "OOM",
    });
  await Promise.all([
    isFull(),
    ...lost.map(async ([take, give, code]) => {
      const user = fresh("user");
      const set = (...rules: string[]) => operator.call("ACL", "SETUSER", user, ...rules);
      await set("on", ">x", "~*", "&*", "+@all");
      await expectToldOnce(await start(urlOf(user)), {
        take: async () => {
          await set(...take);
          await operator.call("CLIENT", "KILL", "USER", user);
        },
        give: () => set(...give),
        code,
      });
    }),
  ]);
});

test("[END2] what Redis refuses is what the health says, also while the connection that hears is not back", async () => {
  const user = fresh("user");
  const crowded = await startRedis();
  const atCrowded = new Redis(crowded.url);
  try {
    await atCrowded.call("ACL", "SETUSER", user, "on", ">x", "~*", "&*", "+@all");
    const service = await start(`redis://${user}:x@127.0.0.1:${crowded.port}`);
    // There is room for the two that stay.
    await atCrowded.config("SET", "maxclients", "2");
    await atCrowded.call("CLIENT", "KILL", "TYPE", "pubsub");
    await atCrowded.call("ACL", "SETUSER", user, "resetkeys", "~other:*");
    await service.logged(({ msg }) => msg === "Redis refuses");
    expect(await healthOf(service)).toMatchObject({
      status: "degraded",
      checks: { cluster: { status: "degraded", error: "failed: NOPERM" } },
    });
  } finally {
    atCrowded.disconnect();
    await crowded.stop();
  }
});

test("[END2] that the connection that hears alone is refused is said once, and once that it is over", async () => {
  const user = fresh("user");
  await operator.call("ACL", "SETUSER", user, "on", ">x", "~*", "&*", "+@all");
  const service = await start(urlOf(user));
  await expectToldOnce(service, {
    take: async () => {
      await operator.call("ACL", "SETUSER", user, "resetpass", ">other");
      // The one for commands stays, and is whose it was.
      await operator.call("CLIENT", "KILL", "TYPE", "pubsub", "USER", user);
    },
    give: () => operator.call("ACL", "SETUSER", user, "resetpass", ">x"),
    code: "WRONGPASS",
  });
});
