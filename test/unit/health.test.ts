/** The health endpoints: what they answer, and that no probe can make them wait. */
import { describe, expect, test } from "bun:test";
import pino from "pino";
import { createLocalCluster } from "../../src/cluster/local/cluster.ts";
import { createRedisCluster } from "../../src/cluster/redis/cluster.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { type Checker, clusterChecker, storageChecker } from "../../src/health/checkers.ts";
import { createHealthHandler } from "../../src/health/handler.ts";
import { createHealthManager } from "../../src/health/manager.ts";
import { createSqliteStorage } from "../../src/storage/sqlite/storage.ts";
import { createCallsUnderWay } from "../support/calls-under-way.ts";
import { freePorts } from "../support/free-ports.ts";
import { createHandClock } from "../support/hand-clock.ts";

function managerOf(checkers: Checker[]) {
  const clock = createHandClock({ settled: createCallsUnderWay().settled });
  const logger = pino({ level: "silent" });
  return { clock, manager: createHealthManager({ checkers, now: clock.now, after: clock.after, logger }) };
}

/** A checker that answers when the test lets it. */
function heldChecker(name = "held") {
  const probes: PromiseWithResolvers<void>[] = [];
  const check = () => {
    const probe = Promise.withResolvers<void>();
    probes.push(probe);
    return probe.promise;
  };
  return { probes, checker: { name, check } };
}

const required = { isRequired: true };

describe("the manager", () => {
  test("[END2] one entry for each checker, with its status, latency and error", async () => {
    const { probes, checker } = heldChecker("slow");
    const failing = {
      name: "failing",
      check: () => Promise.reject(Object.assign(new Error("secret"), { code: "EBUSY" })),
    };
    const { clock, manager } = managerOf([checker, failing]);
    const report = manager.report();
    await clock.pass(40);
    probes[0]!.resolve();
    expect(await report).toEqual({
      status: "down",
      checks: {
        slow: { status: "up", latency_ms: 40 },
        failing: { status: "down", latency_ms: 0, error: "failed: EBUSY" },
      },
    });
  });

  test("[END2] what is in doubt since it was well is asked at once, and no more often than anything else while it is not", async () => {
    let isInDoubt = false;
    let isWell = true;
    let asked = 0;
    const check = async () => {
      asked++;
      if (!isWell) throw new Error("full");
      isInDoubt = false;
    };
    const { clock, manager } = managerOf([{ name: "storage", check, isInDoubt: () => isInDoubt }]);
    const statuses: string[] = [];
    const ask = async () => statuses.push((await manager.report()).status);
    await ask();
    await ask();
    [isInDoubt, isWell] = [true, false];
    await ask();
    await ask();
    expect([statuses, asked]).toEqual([["up", "up", "down", "down"], 2]);
    isWell = true;
    await clock.pass(1_000);
    await ask();
    expect([statuses.at(-1), asked]).toEqual(["up", 3]);
  });

  test("[END2] what a driver says is not told to the public", async () => {
    const check = async () => {
      throw new Unavailable("storage", "postgres://user:password@10.0.0.5 refused");
    };
    const { manager } = managerOf([{ name: "storage", check }]);
    expect((await manager.report()).checks.storage).toMatchObject({ status: "down", error: "failed" });
  });

  test("[END2] of what an engine's trouble comes is told by its code, however it was wrapped", async () => {
    const cause = Object.assign(new Error("connect ECONNREFUSED 10.0.0.5:5432"), { code: "ECONNREFUSED" });
    const check = async () => {
      throw new Unavailable("storage", "PostgreSQL: connect ECONNREFUSED 10.0.0.5:5432", { cause });
    };
    const circular: Error = new Error("of itself");
    circular.cause = circular;
    const { manager } = managerOf([
      { name: "storage", check },
      { name: "circular", check: () => Promise.reject(circular) },
    ]);
    expect((await manager.report()).checks).toMatchObject({
      storage: { status: "down", error: "failed: ECONNREFUSED" },
      circular: { status: "down", error: "failed" },
    });
  });

  test("[END2] a Redis that refuses connections is told as that", async () => {
    const [port] = await freePorts(1);
    const logger = pino({ level: "silent" });
    const url = `redis://127.0.0.1:${port}`;
    const cluster = createRedisCluster({
      url,
      installation: "test",
      nodeId: "n1",
      version: "0.0.0",
      now: Date.now,
      logger,
    });
    await cluster.start();
    const { manager } = managerOf([clusterChecker(cluster, required)]);
    expect((await manager.report()).checks.cluster).toMatchObject({ status: "down", error: "failed: ECONNREFUSED" });
    const lenient = managerOf([clusterChecker(cluster, { isRequired: false })]);
    expect(await lenient.manager.report()).toMatchObject({
      status: "degraded",
      checks: { cluster: { status: "degraded" } },
    });
    await cluster.stop();
  });

  test("[END2] a checker that throws is down like one that rejects", async () => {
    const check = () => {
      throw new Error("at once");
    };
    const { manager } = managerOf([{ name: "broken", check }]);
    expect(await manager.report()).toMatchObject({ status: "down", checks: { broken: { status: "down" } } });
  });

  test("[END2] requests at the same time share one probe, and its answer is good for five seconds", async () => {
    const { probes, checker } = heldChecker();
    const { clock, manager } = managerOf([checker]);
    const reports = Promise.all([manager.report(), manager.report(), manager.report()]);
    expect(probes).toHaveLength(1);
    probes[0]!.resolve();
    expect((await reports).map((report) => report.status)).toEqual(["up", "up", "up"]);
    await clock.pass(4_999);
    expect((await manager.report()).status).toBe("up");
    expect(probes).toHaveLength(1);
    await clock.pass(1);
    const next = manager.report();
    expect(probes).toHaveLength(2);
    probes[1]!.reject(new Error("away"));
    expect((await next).status).toBe("down");
    // A part that is not well is asked again after a second.
    await clock.pass(999);
    expect((await manager.report()).status).toBe("down");
    await clock.pass(1);
    const mended = manager.report();
    probes[2]!.resolve();
    expect((await mended).status).toBe("up");
    expect(clock.waiting()).toBe(0);
  });

  test("[END2] a probe that hangs is down after its deadline, and no second one is started", async () => {
    const { probes, checker } = heldChecker();
    const { clock, manager } = managerOf([checker]);
    const report = manager.report();
    await clock.pass(1_000);
    expect((await report).checks.held).toEqual({
      status: "down",
      latency_ms: 1_000,
      error: "no answer within 1000 ms",
    });
    await clock.pass(59_000);
    expect((await manager.report()).checks.held).toMatchObject({ status: "down", latency_ms: 60_000 });
    expect(probes).toHaveLength(1);
    probes[0]!.resolve();
    await clock.pass(0);
    const next = manager.report();
    probes[1]!.resolve();
    expect((await next).status).toBe("up");
  });
});

describe("the endpoints", () => {
  async function serve(checkers: Checker[], state: { draining: boolean } = { draining: false }) {
    const { manager } = managerOf(checkers);
    const handler = createHealthHandler({ manager, draining: () => state.draining });
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: async (request) => (await handler.handle(request)) ?? new Response(null, { status: 404 }),
    });
    return {
      ask: (path: string, method = "GET") => fetch(new URL(path, server.url), { method }),
      [Symbol.asyncDispose]: () => server.stop(true),
    };
  }
  const up: Checker = { name: "storage", check: async () => {} };
  const down: Checker = { name: "cluster", check: () => Promise.reject(new Error("away")) };

  test("[END2] /live asks nobody", async () => {
    await using server = await serve([heldChecker().checker, down], { draining: true });
    const answer = await server.ask("/live");
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({ status: "ok" });
  });

  test("[END2] /ready only while every checker is up", async () => {
    await using ready = await serve([up]);
    expect((await ready.ask("/ready")).status).toBe(200);
    await using unready = await serve([up, down]);
    expect((await unready.ask("/ready")).status).toBe(503);
  });

  test("[END2] what is degraded serves: 200 on both, and told; what is down besides counts more", async () => {
    const degraded: Checker = { ...down, failure: "degraded" };
    await using server = await serve([up, degraded]);
    expect((await server.ask("/ready")).status).toBe(200);
    const answer = await server.ask("/health");
    expect([answer.status, await answer.json()]).toMatchObject([
      200,
      { status: "degraded", checks: { storage: { status: "up" }, cluster: { status: "degraded", error: "failed" } } },
    ]);
    await using worse = await serve([degraded, { ...down, name: "storage" }]);
    expect([(await worse.ask("/ready")).status, (await worse.ask("/health")).status]).toEqual([503, 503]);
  });

  test("[DRN] /ready is 503 at once when draining begins", async () => {
    const state = { draining: false };
    await using server = await serve([up], state);
    expect((await server.ask("/ready")).status).toBe(200);
    state.draining = true;
    expect((await server.ask("/ready")).status).toBe(503);
    expect((await server.ask("/health")).status).toBe(200);
  });

  test("[END2] /health has every checker by name, and is never cached on the way", async () => {
    await using server = await serve([up, down]);
    const answer = await server.ask("/health?verbose=1");
    expect(answer.status).toBe(503);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    expect(answer.headers.get("content-type")).toBe("application/json");
    expect(await answer.json()).toMatchObject({
      status: "down",
      checks: { storage: { status: "up" }, cluster: { status: "down", error: "failed" } },
    });
  });

  test("[END1] other methods are 405 and say which are not, other paths are not ours", async () => {
    await using server = await serve([up]);
    for (const path of ["/live", "/ready", "/health"]) {
      const answer = await server.ask(path, "POST");
      expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
      const head = await server.ask(path, "HEAD");
      expect([head.status, await head.text()]).toEqual([200, ""]);
    }
    for (const path of ["/", "/live/", "/toString", "/healthz"]) expect((await server.ask(path)).status).toBe(404);
  });

  test("[END2] the real storage and the real cluster are asked", async () => {
    const storage = createSqliteStorage({ path: ":memory:" });
    await storage.start();
    const cluster = createLocalCluster({ now: Date.now });
    await using server = await serve([storageChecker(storage), clusterChecker(cluster, required)]);
    expect((await server.ask("/ready")).status).toBe(200);
    await storage.stop();
    await using later = await serve([storageChecker(storage), clusterChecker(cluster, required)]);
    expect((await later.ask("/ready")).status).toBe(503);
  });
});
