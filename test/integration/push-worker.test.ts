/** Runs the examples of a push worker against a push service of the test's own, and kills them at random: nobody is woken twice for what was acknowledged, nobody is forgotten [BAK3]. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
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
      env: {
        PATH: process.env.PATH,
        WS_URL: `${service.url}?user_id=push&roles=service&device_id=${deviceId}`,
        PUSH_URL: push.urlOf(run),
      },
      stdout: "ignore",
      stderr: "inherit",
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
});

test("[BAK3] the examples have 40 lines each", () => {
  for (const file of ["push-worker.ts", "push_worker.py"]) {
    const lines = readFileSync(join(examples, file), "utf8").split("\n");
    const code = lines.filter((line) => !/^\s*($|\/\/|\/\*\*|#|""")/.test(line));
    expect([file, code.length <= 40]).toEqual([file, true]);
  }
});
