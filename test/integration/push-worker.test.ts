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
import { eventually } from "../support/until.ts";
import { python } from "../support/websockets/peer.ts";

setDefaultTimeout(120_000);

const examples = join(import.meta.dir, "../../examples/push-worker");
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const runs = 4;
/** Small numbers that follow from the seed. */
function createDice(): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % most;
  };
}

/** Looks again with each turn of the loop, in which workers are answered. */
async function turns(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
}

interface Push {
  /** Which run of the worker has posted it: each is given an address of its own. */
  run: number;
  to: string;
  /** Of the `delivery.missed`. */
  eventId: string;
}

/** Takes what workers post, but for some that it answers as one that is away would. */
function startPushService(dice: (most: number) => number) {
  const pushes: Push[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const { to, about } = (await request.json()) as { to: string; about: { event: string } };
      const key = request.headers.get("idempotency-key")!;
      if (dice(100) < 2 || about.event !== "delivery.missed") return new Response(null, { status: 503 });
      pushes.push({ run: Number(new URL(request.url).pathname.slice(1)), to, eventId: key.slice(0, key.indexOf(":")) });
      return new Response(null, { status: 204 });
    },
  });
  return { pushes, urlOf: (run: number) => `http://127.0.0.1:${server.port}/${run}`, stop: () => server.stop(true) };
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
    push = startPushService(dice);
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
  const startSpeaker = (url: string) =>
    Bun.spawn(command(), {
      env: { PATH: process.env.PATH, WS_URL: url, PUSH_URL: push.urlOf(Number.MAX_SAFE_INTEGER) },
      stdout: "ignore",
      stderr: "pipe",
    });

  /** Up to which position the worker has acknowledged the log; 0 where it never has. */
  function acknowledged(): number {
    using database = new Database(join(service.folder, "data/ws-service.db"), { readonly: true });
    const query = database.query<{ position: number }, [string]>("SELECT position FROM cursors WHERE device_id = ?");
    return query.get(deviceId)?.position ?? 0;
  }

  const connect = (user_id: string, query: Record<string, string> = {}) =>
    Client.connect(service.url, { query: { user_id, ...query }, patienceMs: 60_000 });

  test("[BAK3] [LOG6] killed again and again, the worker wakes everybody, and nobody for what it had acknowledged before", async () => {
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
        Array.from({ length: 5 + dice(20) }, (_, n) => `m${n}`),
      );
      sent.push(...acks.map(({ message_id }) => message_id));
    };
    const acknowledgedBefore: number[] = [];
    const pushesOf = (run: number) => push.pushes.filter((it) => it.run === run).length;
    for (let run = 0; run < runs; run++) {
      acknowledgedBefore.push(acknowledged());
      const worker = startWorker(run);
      await send();
      // Every other one lives long enough to acknowledge something.
      if (run % 2 === 0) await turns(() => acknowledged() > acknowledgedBefore[run]!);
      await send();
      const more = pushesOf(run) + 1 + dice(10);
      await turns(() => pushesOf(run) >= more);
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
    await turns(() => acknowledged() >= end);
    last.kill("SIGKILL");
    await last.exited;

    const woken = new Set(push.pushes.map(({ eventId, to }) => `${eventId} ${to}`));
    expect([...positions.keys()].flatMap((id) => members.filter((to) => !woken.has(`${id} ${to}`)))).toEqual([]);
    const again = push.pushes.filter(({ run, eventId }) => positions.get(eventId)! <= acknowledgedBefore[run]!);
    expect(again).toEqual([]);
    expect(acknowledgedBefore.at(-1)).toBeGreaterThan(0);
    await Promise.all([admin, sender, judge].map((client) => client.close()));
  });

  test("[BAK3] [ENV5] a worker in whose place another one has come ends, and says so", async () => {
    const first = startSpeaker(addressOf("twice"));
    const admin = await connect("root", { roles: "admin" });
    await eventually(
      () => admin.ask("admin.connections", { user_id: "push" }),
      ({ connections }) => connections.some(({ device_id }: any) => device_id === "twice"),
    );
    const second = await connect("push", { roles: "service", device_id: "twice" });
    expect(await first.exited).toBe(1);
    expect(await new Response(first.stderr).text()).toMatch(/^not coming back: .*4010.*\n$/);
    await Promise.all([admin, second].map((client) => client.close()));
  });

  test("[BAK3] a worker that is refused says why once, and not its token", async () => {
    const stub = startStub({ status: 401 });
    const worker = startSpeaker(stub.url);
    await turns(() => stub.tried >= 4);
    worker.kill("SIGKILL");
    expect(await new Response(worker.stderr).text()).toMatch(/^coming back: .*401.*\n$/);
    await stub.stop();
    const nobody = startSpeaker(stub.url);
    const { value } = await nobody.stderr.getReader().read();
    nobody.kill("SIGKILL");
    expect(new TextDecoder().decode(value)).toMatch(/^coming back: .*onnect.*\n$/);
    await Promise.all([worker.exited, nobody.exited]);
  });

  test("[BAK3] a worker that may not subscribe says why once; one whose line breaks says that, and nothing of what it was about to send", async () => {
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
    await turns(() => refusing.tried >= 4 && breaking.tried >= 4);
    for (const worker of [refused, broken]) worker.kill("SIGKILL");
    expect(await new Response(refused.stderr).text()).toMatch(/^coming back: .*forbidden.*\n$/);
    const told = (await new Response(broken.stderr).text()).trimEnd().split("\n");
    expect(told.filter((line) => !line.startsWith("coming back: "))).toEqual([]);
    await Promise.all([refused.exited, broken.exited, refusing.stop(), breaking.stop()]);
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
    writeFileSync(join(folder, "archive.mjs"), text.replace(/'ws:[^']*'/, `'${stub.url}'`));
    const running = Bun.spawn([process.execPath, "archive.mjs"], { cwd: folder, stdout: "ignore", stderr: "pipe" });
    await turns(() => stub.tried >= tries);
    if (tries > 1) running.kill("SIGKILL");
    await running.exited;
    await stub.stop();
    return { said: await new Response(running.stderr).text(), code: running.exitCode };
  };
  expect((await archive({ status: 401 }, 3)).said).toMatch(/^archive: .*401.*\n$/);
  const rejected = JSON.stringify({ type: "subscribed", payload: { topics: [], rejected: [{ code: "forbidden" }] } });
  expect((await archive({ message: (socket) => void socket.send(rejected) }, 3)).said).toMatch(
    /^archive: .*forbidden.*\n$/,
  );
  const replaced = await archive({ message: (socket) => socket.close(4010, "another one") }, 1);
  expect(replaced).toEqual({ said: "archive: 4010 another one\n", code: 1 });
  rmSync(folder, { recursive: true });
});

test("[BAK3] the examples have about 40 lines each", () => {
  for (const file of ["push-worker.ts", "push_worker.py"]) {
    const lines = readFileSync(join(examples, file), "utf8").split("\n");
    const code = lines.filter((line) => !/^\s*($|\/\/|\/\*\*|#|""")/.test(line));
    expect([file, code.length <= 45]).toEqual([file, true]);
  }
});
