/** Nodes behind a load balancer, restarted one after another: nobody loses an event, and nobody is seen to go [DRN]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import type { ConnectionHistory, History } from "../support/checker/history.ts";
import { report } from "../support/checker/judge.ts";
import { check, type Faults } from "../support/checker/population.ts";
import { Client, type Received } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { type Ground, layGround } from "../support/ground.ts";
import { fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(120_000);

/** `TEST_SEED=<number>` plays a run again. */
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const drainWindowMs = 1_000;
const nodeCount = 3;

let ground: Ground;
let nodes: Service[] = [];
let balancer: Balancer;

const startNode = (port: number) =>
  startService({
    settings: {
      ...ground.settings,
      SERVER__PORT: String(port),
      SERVER__DRAIN_WINDOW: `${drainWindowMs}ms`,
      SERVER__DRAIN_TIMEOUT: "10s",
      PRESENCE__OFFLINE_GRACE: "10s",
      CLUSTER__DEAD_AFTER: "20s",
    },
  });

/** As an orchestrator does it: told to end, waited for, and a new one in its place. */
async function restart(index: number): Promise<void> {
  const node = nodes[index]!;
  node.signal("SIGTERM");
  expect(await node.exited).toBe(0);
  await node.stop();
  nodes[index] = await startNode(node.port);
}

beforeAll(async () => {
  ground = await layGround();
  const ports = await freePorts(nodeCount);
  nodes = await Promise.all(ports.map(startNode));
  balancer = await startBalancer(ports);
});
afterAll(async () => {
  await balancer?.stop();
  await Promise.all(nodes.map((node) => node.stop()));
  await ground?.stop();
});

/** Restarts all nodes in turn, until the run is over and each has been restarted. */
function rollingRestarts(): Faults & { count(): number } {
  let running: Promise<void> = Promise.resolve();
  let stopped = false;
  let restarts = 0;
  async function roll(): Promise<void> {
    while (!stopped || restarts < nodeCount) await restart(restarts++ % nodeCount);
  }
  return {
    start() {
      running = roll();
    },
    async stop() {
      stopped = true;
      await running;
    },
    count: () => restarts,
  };
}

const connectionsOf = (history: History) => history.devices.flatMap(({ connections }) => connections);
const messagesOf = ({ entries }: ConnectionHistory, type: string) =>
  entries.flatMap((entry) => (entry.kind === "message" && entry.message.type === type ? [entry.message] : []));

test("[DRN] [LOG3] [PRE1] nodes are restarted one after another under load: no event is lost, no presence flaps", async () => {
  const faults = rollingRestarts();
  const began = Date.now();
  const over = Promise.withResolvers<number>();
  const verdict = await check({
    urls: [balancer.url],
    seed,
    users: 24,
    conversations: 8,
    durationMs: 4_500,
    // Lets nobody leave by itself: whoever is told to be offline was there all the time.
    behaviour: { drop: 0, leave: 0, stall: 0, dropReplay: 0 },
    patienceMs: 40_000,
    faults: {
      start: (random, during) => faults.start(random, during),
      async stop() {
        await faults.stop();
        over.resolve(Date.now());
      },
    },
  });
  const endedAt = await over.promise;
  console.log(`${report(verdict)} (restarted ${faults.count()} times)`);
  expect(verdict.violations).toEqual([]);
  expect(faults.count()).toBeGreaterThanOrEqual(nodeCount);

  const connections = connectionsOf(verdict.history);
  const during = (message: Received) =>
    Date.parse(message.timestamp) >= began && Date.parse(message.timestamp) < endedAt;
  expect(connections.flatMap((connection) => messagesOf(connection, "presence.offline").filter(during))).toEqual([]);

  const sentAway = connections.filter(({ closed }) => closed?.code === 1012);
  expect(sentAway.length).toBeGreaterThanOrEqual(nodeCount);
  for (const connection of sentAway) expect(messagesOf(connection, "draining")).toHaveLength(1);
  // But for those that the service sent away, all lines held: no restart tore one.
  const torn = connections.filter(({ closed }) => closed !== null && !closed.byClient && closed.code !== 1012);
  expect(torn.filter((connection) => messagesOf(connection, "connected").length > 0)).toEqual([]);
});

test("[DRN] those who are sent away come back spread over the drain window, each at its own moment", async () => {
  const count = 40;
  const { url, port, exited } = nodes[0]!;
  const clients = await Promise.all(
    Array.from({ length: count }, () => Client.connect(url, { query: { user_id: fresh("user"), device_id: "d" } })),
  );
  const before = balancer.given.get(port);
  const given = exited.then(() => balancer.given.get(port));
  const restarted = restart(0);
  const returns = clients.map(async (client) => {
    const told = await client.next("draining");
    expect((await client.closed).code).toBe(1012);
    const closedAt = Date.now();
    const query = { user_id: client.received[0]!.payload.user_id, device_id: "d" };
    const again = await Client.connect(balancer.url, { query });
    return {
      again,
      delayMs: told.payload.reconnect_after_ms as number,
      waitedMs: closedAt - Date.parse(told.timestamp),
    };
  });
  const back = await Promise.all(returns);
  await restarted;
  // By chance two may be told the same; that half of them are is beyond chance.
  expect(new Set(back.map(({ delayMs }) => delayMs)).size).toBeGreaterThan(count / 2);
  const quarters = back.map(({ delayMs }) => Math.min(3, Math.floor((delayMs / drainWindowMs) * 4)));
  expect(new Set(quarters)).toEqual(new Set([0, 1, 2, 3]));
  for (const { delayMs, waitedMs } of back) {
    expect(delayMs).toBeWithin(0, drainWindowMs + 1);
    // It is served until its turn, and not a moment less.
    expect(waitedMs).toBeGreaterThanOrEqual(delayMs - 2);
  }
  // While it drained, it was given nobody.
  expect(await given).toBe(before);
  await Promise.all(back.map(({ again }) => again.close()));
});

test("[DRN] [CALL5] a call goes on while the nodes of both parties are restarted", async () => {
  const names = [fresh("caller"), fresh("callee")] as const;
  const room = fresh("room");
  const callId = crypto.randomUUID();
  const connect = (userId: string, url = balancer.url) =>
    Client.connect(url, { query: { user_id: userId, device_id: "d" } });
  const first = await Promise.all(names.map((name, at) => connect(name, nodes[at]!.url)));
  for (const client of first) await client.ask("subscribe", { topics: [`conversation:${room}`] });
  const [ann, bob] = first as [Client, Client];
  await ann.ask("call.offer", { call_id: callId, to_user_id: names[1], media: "audio", sdp: "o" });
  await bob.next("call.incoming");
  await bob.ask("call.answer", { call_id: callId, sdp: "a" });
  await ann.next("call.answer");

  const restarted = restart(0).then(() => restart(1));
  /** Comes back whenever it is sent away, for as long as nodes are restarted. */
  async function stays(client: Client, userId: string): Promise<{ client: Client; moves: number }> {
    for (let moves = 0; ; moves++) {
      const gone = await Promise.race([client.closed, restarted]);
      if (gone === undefined) return { client, moves };
      expect(gone.code).toBe(1012);
      client = await connect(userId);
    }
  }
  const [caller, callee] = await Promise.all([stays(ann, names[0]), stays(bob, names[1])]);
  expect(Math.min(caller.moves, callee.moves)).toBeGreaterThanOrEqual(1);
  await caller.client.ask("call.ice", { call_id: callId, candidates: ["c"] });
  expect((await callee.client.next("call.ice")).payload.candidates).toEqual(["c"]);
  await callee.client.ask("call.hangup", { call_id: callId });
  expect((await caller.client.next("call.ended")).payload).toMatchObject({ reason: "hangup", ended_by: names[1] });
  await Promise.all([caller.client.close(), callee.client.close()]);
});
