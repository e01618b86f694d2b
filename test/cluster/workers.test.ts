/** Several processes on one port: one service to its clients, started again where they crash, and ended as one. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type Closed } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { type Ground, layGround } from "../support/ground.ts";
import { fresh } from "../support/people.ts";
import { program } from "../support/program.ts";
import { type LogLine, type Service, startService } from "../support/service.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

let ground: Ground;
const running: Service[] = [];
beforeAll(async () => {
  ground = await layGround();
});
afterEach(async () => {
  for (const service of running.splice(0)) await end(service);
});
afterAll(() => ground?.stop());

/** Resolves once all workers are up. */
async function up(count: number, settings: Record<string, string> = {}): Promise<Service> {
  const words = ["serve", "--workers", String(count)];
  const service = await startService({ words, settings: { ...ground.settings, ...settings } });
  await service.logged(({ msg }) => msg === "all workers are up");
  return service;
}

/** Starts those of one test, which end with it. */
async function start(count: number, settings: Record<string, string> = {}): Promise<Service> {
  const service = await up(count, settings);
  running.push(service);
  return service;
}

async function end(service: Service): Promise<void> {
  service.signal("SIGTERM");
  service.signal("SIGTERM");
  await service.exited;
  await service.stop();
}

const ups = ({ logs }: Service) => logs.filter(({ msg }) => msg === "a worker is up");
const pidOf = (service: Service, worker: number) =>
  ups(service).findLast((line) => line.worker === worker)!.pid as number;
const isFrom = (worker: number, msg: string) => (line: LogLine) => line.worker === worker && line.msg === msg;
const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** So many that none of two workers is left without, whomever the system gives them to. */
const crowdSize = 24;

async function gather(service: Service, conversation: string): Promise<Client[]> {
  const userIds = Array.from({ length: crowdSize }, () => fresh("user"));
  return Promise.all(userIds.map((user_id) => comeTo(service, { conversation, query: { user_id, device_id: "d" } })));
}

async function comeTo(
  { url }: Service,
  { conversation, query, since }: { conversation: string; query: Record<string, string>; since?: object },
): Promise<Client> {
  // Right after a crash the system may still have connections for the one that is gone.
  for (let attempt = 1; ; attempt++) {
    try {
      const client = await Client.connect(url, { query });
      await client.ask("subscribe", { topics: [`conversation:${conversation}`], ...(since && { since }) });
      return client;
    } catch (error) {
      if (attempt === 10) throw error;
    }
  }
}

const say = (from: Client, conversation_id: string, content: string) =>
  from.ask("message.send", { conversation_id, client_message_id: crypto.randomUUID(), content });
const heard = (client: Client, content: string) => client.next("message.new", (payload) => payload.content === content);

/** The /ready of as many connections as reach every worker. */
async function readiness({ http }: Service): Promise<number[]> {
  const answers = Array.from({ length: crowdSize }, async () => {
    const answer = await fetch(`${http}/ready`, { keepalive: false, signal: AbortSignal.timeout(3_000) }).catch(
      () => null,
    );
    return answer?.status ?? 0;
  });
  return [...new Set(await Promise.all(answers))].sort();
}

test("[MSG1] [LOG3] workers are one service: what one client says all others hear, in one order", async () => {
  const service = await start(3);
  expect(new Set(ups(service).map(({ pid }) => pid)).size).toBe(3);
  const conversation = fresh("c");
  const crowd = await gather(service, conversation);
  await Promise.all(crowd.map((client, index) => say(client, conversation, `m${index}`)));
  for (const [index, client] of crowd.entries()) {
    await Promise.all(crowd.map((_, other) => other !== index && heard(client, `m${other}`)));
    const seqs = client.all("message.new").map(({ seq }) => seq!);
    expect(seqs).toEqual(seqs.toSorted((one, other) => one - other));
    expect(new Set(seqs).size).toBe(crowdSize - 1);
  }
  const users = crowd.map((client) => client.received[0]!.payload.user_id as string);
  const { users: seen } = await crowd[0]!.ask("presence.query", { user_ids: users });
  expect(seen.map(({ status }: { status: string }) => status)).toEqual(users.map(() => "online"));
  expect(await readiness(service)).toEqual([200]);

  service.signal("SIGTERM");
  const closings = await Promise.all(crowd.map((client) => client.closed));
  expect(new Set(closings.map(({ code }) => code))).toEqual(new Set([1012]));
  for (const client of crowd) expect(client.all("draining")).toHaveLength(1);
  expect(await service.exited).toBe(0);
  for (const { pid } of ups(service)) expect(isAlive(pid as number)).toBeFalse();
});

test("[LOG1] [LOG4] a worker that is killed is started again; its clients come back to what they missed", async () => {
  const service = await start(2);
  const conversation = fresh("c");
  const crowd = await gather(service, conversation);
  const gone: { client: Client; closed: Closed }[] = [];
  for (const client of crowd) void client.closed.then((closed) => gone.push({ client, closed }));
  await say(crowd[0]!, conversation, "before");
  const pid = pidOf(service, 1);
  process.kill(pid, "SIGKILL");
  const ended = await service.logged(({ msg }) => msg === "a worker has ended and is started again");
  expect(ended).toMatchObject({ worker: 1, pid, code: null, signal: "SIGKILL" });
  expect(ended.delay_ms).toBeWithin(50, 101);
  await service.logged((line) => line.msg === "a worker is up" && line.worker === 1 && line.pid !== pid);
  // A client that is still there is served by the other, and whoever was on the killed one knows it by now.
  const left: Client[] = [];
  for (const client of crowd) {
    const isHere = await client.settled().then(
      () => true,
      () => false,
    );
    if (isHere) left.push(client);
  }
  expect(left.length).toBeWithin(1, crowdSize);
  expect(gone.length).toBe(crowdSize - left.length);
  expect(new Set(gone.map(({ closed }) => closed.code))).toEqual(new Set([1006]));
  await say(left[0]!, conversation, "meanwhile");

  const back = await Promise.all(
    gone.map(({ client }) => {
      const { user_id, device_id } = client.received[0]!.payload;
      const cursor = client.received.findLast(({ payload }) => payload.cursor !== undefined)!.payload.cursor;
      return comeTo(service, { conversation, query: { user_id, device_id }, since: { cursor } });
    }),
  );
  for (const client of back) await heard(client, "meanwhile");
  const everybody = [...left, ...back];
  await say(back[0]!, conversation, "after");
  for (const client of everybody) if (client !== back[0]) await heard(client, "after");
  await until(async () => (await readiness(service)).join() === "200");
});

test("[DRN] a second SIGTERM ends all workers at once", async () => {
  const service = await start(2, { SERVER__DRAIN_WINDOW: "60s", SERVER__DRAIN_TIMEOUT: "60s" });
  const crowd = await gather(service, fresh("c"));
  service.signal("SIGTERM");
  await Promise.all(crowd.map((client) => client.next("draining")));
  service.signal("SIGTERM");
  for (const client of crowd) expect([1012, 1006, 1001]).toContain((await client.closed).code);
  expect(await service.exited).toBe(0);
});

test("[DRN] signals that reach the workers as well, as those of a terminal do, drain them once", async () => {
  const service = await start(2, { SERVER__DRAIN_WINDOW: "500ms", SERVER__DRAIN_TIMEOUT: "20s" });
  const crowd = await gather(service, fresh("c"));
  for (const { pid } of ups(service)) process.kill(pid as number, "SIGINT");
  service.signal("SIGINT");
  for (const client of crowd) {
    expect((await client.closed).code).toBe(1012);
    expect(client.all("draining")).toHaveLength(1);
  }
  expect(await service.exited).toBe(0);
});

test("[DRN] workers whose supervisor is killed drain and end", async () => {
  const service = await start(2);
  const crowd = await gather(service, fresh("c"));
  await service.kill();
  for (const client of crowd) expect((await client.closed).code).toBe(1012);
  const pids = ups(service).map(({ pid }) => pid as number);
  await until(async () => !pids.some(isAlive));
});

test("[DRN] a worker that crashes while all drain makes the exit code 1", async () => {
  const service = await start(2, { SERVER__DRAIN_WINDOW: "10s", SERVER__DRAIN_TIMEOUT: "10s" });
  const crowd = await gather(service, fresh("c"));
  service.signal("SIGTERM");
  await Promise.all(crowd.map((client) => client.next("draining")));
  process.kill(pidOf(service, 1), "SIGKILL");
  await service.logged(({ msg }) => msg === "a worker did not end as it should");
  service.signal("SIGTERM");
  expect(await service.exited).toBe(1);
});

/** Runs the program to its end, in a folder of its own. */
async function refused(words: string[], settings: Record<string, string> = {}) {
  const cwd = mkdtempSync(join(tmpdir(), "ws-workers-"));
  const env = Object.fromEntries(Object.entries(settings).map(([name, value]) => [`WS__${name}`, value]));
  const child = Bun.spawn([...program, "serve", ...words], {
    cwd,
    env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  rmSync(cwd, { recursive: true, force: true });
  return { stdout, stderr, code };
}

test("[OPS2] what workers cannot share is refused with 78, all of it at once", async () => {
  const alone = await refused(["--workers", "2"]);
  expect(alone).toMatchObject({ code: 78, stdout: "" });
  expect(alone.stderr).toContain("cluster.url: null must be redis://… with --workers 2");
  expect(alone.stderr).toContain("storage.url: sqlite:data/ws-service.db must be postgres://… with --workers 2");
  expect(alone.stderr).not.toContain("    at ");
  const withoutRedis = await refused(["--workers", "3"], { STORAGE__URL: ground.settings.STORAGE__URL! });
  expect(withoutRedis.code).toBe(78);
  expect(withoutRedis.stderr).toContain("cluster.url");
  expect(withoutRedis.stderr).not.toContain("storage.url");
  const highest = await refused(["--workers", "2"], { ...ground.settings, OPERATIONS__LISTEN: "127.0.0.1:65535" });
  expect(highest).toMatchObject({ code: 78, stdout: "" });
  expect(highest.stderr).toContain("operations.listen");
});

test("[OPS1] a number of workers that makes no sense is refused with 2", async () => {
  for (const number of ["0", "-1", "2.5", "many", "1000", ""]) {
    const { code, stderr } = await refused([`--workers=${number}`]);
    expect({ number, code }).toEqual({ number, code: 2 });
    expect(stderr).toContain("--workers must be a whole number from 1 to 256, or auto");
  }
});

describe("two workers that go on", () => {
  let service: Service;
  /** Of their internal listeners. */
  let firstPort: number;
  beforeAll(async () => {
    firstPort = await freePair();
    service = await up(2, { CLUSTER__NODE_ID: "host", OPERATIONS__LISTEN: `127.0.0.1:${firstPort}` });
  });
  afterAll(() => service && end(service));

  test("[ADM1] each worker is a node of its own", async () => {
    const admin = await Client.connect(service.url, { query: { user_id: fresh("admin"), roles: "admin" } });
    await until(async () => {
      const { nodes } = await admin.ask("admin.nodes");
      const ids = nodes.map(({ node_id }: { node_id: string }) => node_id);
      return ids.includes("host-1") && ids.includes("host-2");
    });
    await admin.close();
  });

  test("[END3] each worker has its own figures, at a port of its own from the configured one upwards", async () => {
    for (const port of [firstPort, firstPort + 1]) {
      const metrics = await fetch(`http://127.0.0.1:${port}/metrics`);
      expect(metrics.status).toBe(200);
      expect(await metrics.text()).toContain("ws_connections");
    }
    expect((await fetch(`${service.http}/metrics`)).status).toBe(404);
  });

  test("[OPS4] SIGHUP has all workers read certificates and keys again", async () => {
    service.signal("SIGHUP");
    for (const worker of [1, 2]) await service.logged(isFrom(worker, "certificates and keys read again"));
  });

  test("[OPS2] what keeps the first worker from starting ends the whole with 1: Redis that refuses, or a port that is taken", async () => {
    const stranger = Object.assign(new URL(ground.settings.CLUSTER__URL!), { username: "nobody", password: "x" }).href;
    const away = await refused(["--workers", "2"], { ...ground.settings, CLUSTER__URL: stranger });
    expect(away.code).toBe(1);
    const taken = await refused(["--workers", "2"], { ...ground.settings, SERVER__PORT: String(service.port) });
    expect(taken.code).toBe(1);
    expect(taken.stderr).toMatch(/EADDRINUSE|in use/);
  });

  test("[DRN] one worker that is told to end drains, and a new one takes its place", async () => {
    const pid = pidOf(service, 2);
    process.kill(pid, "SIGTERM");
    const ended = await service.logged(({ msg }) => msg === "a worker has ended and is started again");
    expect(ended).toMatchObject({ worker: 2, pid, code: 0, delay_ms: 0 });
    await service.logged((line) => line.msg === "a worker is up" && line.worker === 2 && line.pid !== pid);
  });

  test("[END2] a probe reaches any worker, and each answers for all of them", async () => {
    expect(await readiness(service)).toEqual([200]);
    const pid = pidOf(service, 2);
    // It neither ends nor answers: only the other can be asked, and says that not all is well.
    process.kill(pid, "SIGSTOP");
    try {
      await until(async () => {
        const seen = await readiness(service);
        return seen.includes(503) && !seen.includes(200);
      }, 60_000);
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await until(async () => (await readiness(service)).join() === "200", 40_000);
  });
});

/** A free port below a free port. */
async function freePair(): Promise<number> {
  for (;;) {
    const [port] = await freePorts(1);
    try {
      Bun.listen({ hostname: "127.0.0.1", port: port! + 1, socket: { data() {} } }).stop(true);
      return port!;
    } catch {
      // Taken by somebody else: another one.
    }
  }
}
