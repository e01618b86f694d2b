/** Runs the examples of a push worker against a push service of the test's own, and kills them at random: nobody is woken twice for what was acknowledged, nobody is forgotten [BAK3]. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { blocksOf } from "../support/page.ts";
import { fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually, until } from "../support/until.ts";
import { python } from "../support/websockets/peer.ts";

setDefaultTimeout(120_000);

const examples = join(import.meta.dir, "../../examples/push-worker");
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const runs = 3;
/** Small numbers that follow from the seed. */
function createDice(): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % most;
  };
}

/** Looks again and again, while workers are answered. */
const so = (isSo: () => boolean) => until(async () => isSo(), 100_000);

interface Push {
  /** Which run of the worker has posted it: each is given an address of its own. */
  run: number;
  to: string;
  /** Of the `delivery.missed`. */
  eventId: string;
}

/** Takes what workers post, but for each sixtieth, which it answers as one that is away would. */
function startPushService() {
  const pushes: Push[] = [];
  const watchers = new Set<() => void>();
  let asked = 0;
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const { to, about } = (await request.json()) as { to: string; about: { event: string } };
      const key = request.headers.get("idempotency-key")!;
      if (++asked % 60 === 7 || about.event !== "delivery.missed") return new Response(null, { status: 503 });
      pushes.push({ run: Number(new URL(request.url).pathname.slice(1)), to, eventId: key.slice(0, key.indexOf(":")) });
      for (const watcher of watchers) watcher();
      return new Response(null, { status: 204 });
    },
  });
  const pushesOf = (run: number) => pushes.filter((it) => it.run === run).length;
  /** Resolves with the push that makes it so many more of the run. */
  const more = (run: number, count: number) =>
    new Promise<void>((resolve) => {
      const wanted = pushesOf(run) + count;
      const look = () => {
        if (pushesOf(run) < wanted) return;
        watchers.delete(look);
        resolve();
      };
      watchers.add(look);
    });
  return {
    pushes,
    more,
    urlOf: (run: number) => `http://127.0.0.1:${server.port}/${run}`,
    stop: () => server.stop(true),
  };
}

/** Takes connections and what is posted, and does not answer until it is told to. */
function startSilentPushService() {
  const [asked, answering] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch() {
      asked.resolve();
      await answering.promise;
      return new Response(null, { status: 204 });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}/`,
    asked: asked.promise,
    answer: () => answering.resolve(),
    stop: () => server.stop(true),
  };
}

/** Says what a worker prints while the push service is silent, until it does not come back, and from there on. */
async function linesUntilAnswered(
  silent: { answer(): void },
  worker: { stderr: ReadableStream<Uint8Array> },
): Promise<string[]> {
  let said = "";
  for await (const chunk of worker.stderr.pipeThrough(new TextDecoderStream() as never)) {
    said += chunk;
    // Posts that are under way may keep it for a moment.
    if (said.includes("not coming back")) silent.answer();
  }
  return said.trimEnd().split("\n");
}

describe.each([
  ["TypeScript", () => [process.execPath, join(examples, "push-worker.ts")]],
  ["Python", () => [python(), join(examples, "push_worker.py")]],
])("%s", (language, command) => {
  const deviceId = `worker-${language}`;
  let service: Service;
  let settings: Record<string, string>;
  let push: ReturnType<typeof startPushService>;
  const dice = createDice();
  beforeAll(async () => {
    const [port] = await freePorts(1);
    settings = { PUSH__AFTER: "100ms", SERVER__PORT: String(port) };
    service = await startService({ settings });
    push = startPushService();
  });
  afterAll(async () => {
    await service?.stop();
    await push?.stop();
  });

  const startWorker = (run: number) =>
    Bun.spawn(command(), {
      env: { PATH: process.env.PATH, WS_URL: addressOf(deviceId), PUSH_URL: push.urlOf(run) },
      stdout: "ignore",
      stderr: "inherit",
    });
  const addressOf = (device: string) => `${service.url}?user_id=push&roles=service&device_id=${device}`;
  /** Starts a worker of which only what it says matters; what it is told of meanwhile is taken from it. */
  const startSpeaker = (url: string, pushUrl = push.urlOf(Number.MAX_SAFE_INTEGER)) =>
    Bun.spawn(command(), {
      env: { PATH: process.env.PATH, WS_URL: url, PUSH_URL: pushUrl },
      stdout: "ignore",
      stderr: "pipe",
    });

  /** Up to which position the device has acknowledged the log; 0 where it never has. */
  function acknowledged(device = deviceId): number {
    using database = new Database(join(service.folder, "data/ws-service.db"), { readonly: true });
    const query = database.query<{ position: number }, [string]>("SELECT position FROM cursors WHERE device_id = ?");
    return query.get(device)?.position ?? 0;
  }

  const connect = (user_id: string, query: Record<string, string> = {}) =>
    Client.connect(service.url, { query: { user_id, ...query }, patienceMs: 60_000 });

  test.concurrent("[BAK3] [LOG6] killed again and again, the worker wakes everybody, and nobody for what it had acknowledged before", async () => {
    console.log(`TEST_SEED=${seed}`);
    const members = ["u1", "u2", "u3"];
    const c = fresh("c");
    const admin = await connect("root", { roles: "admin" });
    await admin.ask("admin.users.upsert", { user_ids: members });
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: members });
    let judge = await connect("judge", { roles: "service", device_id: "judge" });
    await judge.ask("subscribe", { topics: ["missed"] });
    let sender = await connect("sender");
    const sent: string[] = [];
    const send = async () => {
      const acks = await sendAll(
        sender,
        c,
        Array.from({ length: 3 + dice(8) }, (_, n) => `m${n}`),
      );
      sent.push(...acks.map(({ message_id }) => message_id));
    };
    const acknowledgedBefore: number[] = [];
    for (let run = 0; run < runs; run++) {
      acknowledgedBefore.push(acknowledged());
      const worker = startWorker(run);
      await send();
      // Every other one lives long enough to acknowledge something.
      if (run % 2 === 0) await so(() => acknowledged() > acknowledgedBefore[run]!);
      const more = push.more(run, 1 + dice(10));
      await send();
      await more;
      worker.kill("SIGKILL");
      await worker.exited;
    }
    acknowledgedBefore.push(acknowledged());
    const last = startWorker(runs);
    // The service is killed under it, and back in a moment.
    await send();
    const { folder } = service;
    await service.kill();
    service = await startService({ settings, folder });
    [sender, judge] = await Promise.all([
      connect("sender"),
      connect("judge", { roles: "service", device_id: "judge" }),
    ]);
    await judge.ask("subscribe", { topics: ["missed"], since: "acked" });
    await send();

    const positions = await judge.until(() => {
      const told = new Map(judge.all("delivery.missed").map(({ id, position }) => [id, position!]));
      return told.size >= sent.length ? told : undefined;
    });
    expect(judge.all("delivery.missed").map(({ payload }) => payload.event_id)).toEqual(sent);
    const end = Math.max(...positions.values());
    await so(() => acknowledged() >= end);
    last.kill("SIGKILL");
    await last.exited;

    const woken = new Set(push.pushes.map(({ eventId, to }) => `${eventId} ${to}`));
    expect([...positions.keys()].flatMap((id) => members.filter((to) => !woken.has(`${id} ${to}`)))).toEqual([]);
    const again = push.pushes.filter(({ run, eventId }) => positions.get(eventId)! <= acknowledgedBefore[run]!);
    expect(again).toEqual([]);
    expect(acknowledgedBefore.at(-1)).toBeGreaterThan(0);
    await Promise.all([admin, sender, judge].map((client) => client.close()));
  });

  test.concurrent("[BAK3] a worker that is refused says why once, and not its token", async () => {
    const stub = startStub({ status: 401 });
    const worker = startSpeaker(stub.url);
    await so(() => stub.tried >= 3);
    worker.kill("SIGKILL");
    expect(await new Response(worker.stderr).text()).toMatch(/^coming back: .*401.*\n$/);
    await stub.stop();
    const nobody = startSpeaker(stub.url);
    const { value } = await nobody.stderr.getReader().read();
    nobody.kill("SIGKILL");
    expect(new TextDecoder().decode(value)).toMatch(/^coming back: .*onnect.*\n$/);
    await Promise.all([worker.exited, nobody.exited]);
  });

  test.concurrent("[BAK3] a worker that may not subscribe says why once; one whose line breaks says that, and nothing of what it was about to send", async () => {
    const refusing = startStub({
      message: (socket) => refusing.reply(socket, "subscribed", { payload: { rejected: [{ code: "forbidden" }] } }),
    });
    const breaking = startStub({
      message(socket, type) {
        breaking.reply(socket, type === "ping" ? "pong" : "ack", { reply_to: type, payload: { cursor: "c" } });
        if (type === "ack") socket.terminate();
      },
    });
    const [refused, broken] = [startSpeaker(refusing.url), startSpeaker(breaking.url)];
    await so(() => refusing.tried >= 3 && breaking.tried >= 3);
    for (const worker of [refused, broken]) worker.kill("SIGKILL");
    expect(await new Response(refused.stderr).text()).toMatch(/^coming back: .*forbidden.*\n$/);
    const told = (await new Response(broken.stderr).text()).trimEnd().split("\n");
    expect(told.filter((line) => !line.startsWith("coming back: "))).toEqual([]);
    await Promise.all([refused.exited, broken.exited, refusing.stop(), breaking.stop()]);
  });

  test.concurrent("[BAK3] a worker whose line breaks while its push service does not answer comes back, and has acknowledged nothing", async () => {
    const silent = startSilentPushService();
    const types: string[] = [];
    const event = { payload: { user_ids: ["u1"] } };
    const stub = startStub({
      message(socket, type) {
        types.push(type);
        if (stub.tried > 1) return socket.close(4010, "another one");
        stub.reply(socket, "delivery.missed", event);
        void silent.asked.then(() => socket.terminate());
      },
    });
    const worker = startSpeaker(stub.url, silent.url);
    expect(await linesUntilAnswered(silent, worker)).toEqual([
      expect.stringMatching(/^coming back: /),
      expect.stringMatching(/^not coming back: .*4010/),
    ]);
    expect(await worker.exited).toBe(1);
    expect(types.filter((type) => type !== "ping")).toEqual(["subscribe", "subscribe"]);
    await Promise.all([stub.stop(), silent.stop()]);
  });

  test("[BAK3] [ENV5] a worker in whose place another one has come ends, and says so, also while its push service does not answer", async () => {
    const silent = startSilentPushService();
    const admin = await connect("root", { roles: "admin" });
    const judge = await connect("judge", { roles: "service", device_id: "second-judge" });
    await judge.ask("subscribe", { topics: ["missed"] });
    const [sender, c] = [await connect("sender"), fresh("c")];
    await admin.ask("admin.users.upsert", { user_ids: ["u1"] });
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: ["u1"] });
    // More than a library keeps by itself for who does not read.
    await sendAll(sender, c, Array.from({ length: 40 }, String));
    const missed = await judge.until(() => {
      const all = judge.all("delivery.missed");
      return all.length >= 40 ? all : undefined;
    });
    const workers = [startSpeaker(addressOf("busy"), silent.url), startSpeaker(addressOf("idle"))];
    await eventually(
      () => admin.ask("admin.connections", { user_id: "push" }),
      ({ connections }) => connections.some(({ device_id }: any) => device_id === "idle"),
    );
    await silent.asked;
    const others = await Promise.all(
      ["busy", "idle"].map((device_id) => connect("push", { roles: "service", device_id })),
    );
    for (const worker of workers) {
      expect(await linesUntilAnswered(silent, worker)).toEqual([expect.stringMatching(/^not coming back: .*4010/)]);
      expect(await worker.exited).toBe(1);
    }
    expect(acknowledged("busy")).toBeLessThan(missed[0]!.position!);
    await Promise.all([admin, judge, sender, ...others].map((client) => client.close()));
    await silent.stop();
  });
});

/** Takes connections of workers and does to each what is given; `tried` counts them. */
function startStub(answer: { status: number } | { message(socket: Bun.ServerWebSocket<unknown>, type: string): void }) {
  const reply = (socket: Bun.ServerWebSocket<unknown>, type: string, more: object) =>
    socket.send(JSON.stringify({ id: "1", type, payload: {}, ...more }));
  const stub = {
    tried: 0,
    reply,
    url: "",
    stop: () => server.stop(true),
  };
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request, it) {
      stub.tried++;
      if ("status" in answer) return new Response(null, answer);
      return it.upgrade(request) ? undefined : new Response(null, { status: 400 });
    },
    websocket: {
      open: (socket) => void reply(socket, "connected", {}),
      message(socket, text) {
        if ("message" in answer) answer.message(socket, JSON.parse(String(text)).type);
      },
    },
  });
  stub.url = `ws://127.0.0.1:${server.port}/ws?token=hidden`;
  return stub;
}

test("[BAK2] [ENV5] the archive of the page for backends says why it cannot connect or subscribe, once each, and ends where it is not wanted back", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ws-archive-"));
  const page = readFileSync(join(import.meta.dir, "../../docs/backends.md"), "utf8");
  const { text } = blocksOf(page).find(({ role }) => role === "file archive.js")!;
  writeFileSync(join(folder, "shop.token"), "hidden");
  /** Runs it for so many connections; tells what it said, and how it ended where it did by itself. */
  const archive = async (answer: Parameters<typeof startStub>[0], tries: number) => {
    const stub = startStub(answer);
    const file = join(folder, `${fresh("archive")}.mjs`);
    writeFileSync(file, text.replace(/'ws:[^']*'/, `'${stub.url}'`));
    const running = Bun.spawn([process.execPath, file], { cwd: folder, stdout: "ignore", stderr: "pipe" });
    await so(() => stub.tried >= tries);
    if (tries > 1) running.kill("SIGKILL");
    await running.exited;
    await stub.stop();
    return { said: await new Response(running.stderr).text(), code: running.exitCode };
  };
  const answer = JSON.stringify({ type: "subscribed", payload: { topics: [], rejected: [{ code: "forbidden" }] } });
  const [refused, rejected, replaced] = await Promise.all([
    archive({ status: 401 }, 3),
    archive({ message: (socket) => void socket.send(answer) }, 3),
    archive({ message: (socket) => socket.close(4010, "another one") }, 1),
  ]);
  expect(refused.said).toMatch(/^archive: .*401.*\n$/);
  expect(rejected.said).toMatch(/^archive: .*forbidden.*\n$/);
  expect(replaced).toEqual({ said: "archive: 4010 another one\n", code: 1 });
  rmSync(folder, { recursive: true });
});

test("[BAK3] after a push that took long the worker in TypeScript acknowledges once, and not once for each second", async () => {
  const silent = startSilentPushService();
  const types: string[] = [];
  const count = (wanted: string) => types.filter((type) => type === wanted).length;
  const stub = startStub({
    message(socket, type) {
      types.push(type);
      if (type === "subscribe") stub.reply(socket, "delivery.missed", { payload: { user_ids: ["u1"] } });
      if (type === "ping") stub.reply(socket, "pong", { reply_to: type, payload: { cursor: "c" } });
    },
  });
  const env = { PATH: process.env.PATH, WS_URL: stub.url, PUSH_URL: silent.url };
  const worker = Bun.spawn([process.execPath, join(examples, "push-worker.ts")], { env, stderr: "inherit" });
  await so(() => count("ping") === 2);
  expect(count("ack")).toBe(0);
  silent.answer();
  await so(() => count("ack") > 0);
  const before = count("ping");
  await so(() => count("ping") > before);
  expect(count("ack")).toBe(1);
  worker.kill("SIGKILL");
  await Promise.all([worker.exited, stub.stop(), silent.stop()]);
});

test("[BAK3] the examples have 40 lines each, at most", () => {
  for (const file of ["push-worker.ts", "push_worker.py"]) {
    const lines = readFileSync(join(examples, file), "utf8").split("\n");
    const code = lines.filter((line) => !/^\s*($|\/\/|\/\*\*|#|""")/.test(line));
    expect([file, code.length <= 40]).toEqual([file, true]);
  }
});
