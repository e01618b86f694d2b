/** Nodes behind a load balancer, restarted one after another: nobody loses an event, and nobody is seen to go [DRN]. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { type Balancer, startBalancer } from "../support/balancer.ts";
import type { ConnectionHistory, History } from "../support/checker/history.ts";
import { report } from "../support/checker/judge.ts";
import { check } from "../support/checker/population.ts";
import { Client, type Received } from "../support/client.ts";
import { startHaproxy } from "../support/haproxy.ts";
import { startNginx } from "../support/nginx.ts";
import { fresh } from "../support/people.ts";
import { drainWindowMs, nodeCount, type RollingNodes, startRollingNodes } from "../support/rolling.ts";

setDefaultTimeout(120_000);

/** `TEST_SEED=<number>` plays a run again. */
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));

let nodes: RollingNodes;
let balancer: Balancer;

beforeAll(async () => {
  nodes = await startRollingNodes({ SERVER__TRUSTED_PROXIES: "127.0.0.1" });
  balancer = await startBalancer(nodes.ports);
});
afterAll(async () => {
  await balancer?.stop();
  await nodes?.stop();
});

interface Front {
  url: string;
  stop?(): Promise<void>;
}

/** By the project's own files where it is a program of others. */
const fronts: { name: string; start: () => Promise<Front> }[] = [
  { name: "a balancer that asks /ready", start: async () => ({ url: balancer.url }) },
  { name: "nginx", start: () => startNginx({ nodes: nodes.ports }) },
  { name: "HAProxy", start: () => startHaproxy({ nodes: nodes.ports }) },
];

let front: Front | null = null;
afterEach(async () => {
  await front?.stop?.();
  front = null;
});

const connectionsOf = (history: History) => history.devices.flatMap(({ connections }) => connections);
const messagesOf = ({ entries }: ConnectionHistory, type: string) =>
  entries.flatMap((entry) => (entry.kind === "message" && entry.message.type === type ? [entry.message] : []));

describe.each(fronts)("behind $name", ({ start }) => {
  test("[DRN] [LOG3] [PRE1] nodes are restarted one after another under load: no event is lost, no presence flaps", async () => {
    const faults = nodes.restarts();
    front = await start();
    const began = Date.now();
    const over = Promise.withResolvers<number>();
    const verdict = await check({
      urls: [front.url],
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
});

test("[DRN] those who are sent away come back spread over the drain window, each at its own moment", async () => {
  const count = 40;
  const { url, port, exited } = nodes.node(0);
  const clients = await Promise.all(
    Array.from({ length: count }, () => Client.connect(url, { query: { user_id: fresh("user"), device_id: "d" } })),
  );
  const before = balancer.given.get(port);
  const given = exited.then(() => balancer.given.get(port));
  const restarted = nodes.restart(0);
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
  const first = await Promise.all(names.map((name, at) => connect(name, nodes.node(at).url)));
  for (const client of first) await client.ask("subscribe", { topics: [`conversation:${room}`] });
  const [ann, bob] = first as [Client, Client];
  await ann.ask("call.offer", { call_id: callId, to_user_id: names[1], media: "audio", sdp: "o" });
  await bob.next("call.incoming");
  await bob.ask("call.answer", { call_id: callId, sdp: "a" });
  await ann.next("call.answer");

  const restarted = nodes.restart(0).then(() => nodes.restart(1));
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
