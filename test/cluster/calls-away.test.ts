/** Proves what becomes of calls while Redis is away, silent, or back without what it held. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { Redis } from "ioredis";
import type { Call } from "../../src/cluster/call.ts";
import type { Cluster } from "../../src/cluster/ports.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { isDown, isUp, keys, startNodes, startPair } from "../support/cluster.ts";
import { exampleCall } from "../support/example-call.ts";
import { startProxy } from "../support/proxy.ts";
import type { RedisServer } from "../support/redis.ts";
import { until } from "../support/until.ts";

let redis: RedisServer;
let one: Cluster;
let other: Cluster;
let close: () => Promise<void>;
beforeEach(async () => {
  ({ redis, one, other, close } = await startPair());
});
afterEach(() => close());

/** Changes a call on the first node; Redis falls silent once the call is read, and the answer to the write is lost. */
async function changeUnanswered(call: Call, change: (found: Call) => { put: Call[]; forget?: string[] }) {
  const isSilent = Promise.withResolvers<void>();
  const changed = one.calls.transact({ callId: call.callId, userIds: [] }, ([found]) => {
    redis.pause();
    isSilent.resolve();
    return { ...change(found!), result: "changed" };
  });
  const outcome = changed.catch((error: Error) => error.name);
  await isSilent.promise;
  // Asked later than the write, it is given up later.
  await expect(one.calls.get(call.callId)).rejects.toBeInstanceOf(Unavailable);
  return { outcome };
}

/** The answer, once Redis serves this node again. */
async function served<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
    }
  }
}

test("[CALL2] [CALL4] a change of a call whose answer is lost is known to who made it, once Redis is back", async () => {
  const call = exampleCall();
  await one.calls.transact({ callId: call.callId, userIds: [] }, () => ({ put: [call], result: null }));
  const answered = await changeUnanswered(call, (found) => ({ put: [{ ...found, state: "active" }] }));
  redis.resume();
  expect(await answered.outcome).toBe("changed");
  expect((await served(() => other.calls.get(call.callId)))!.state).toBe("active");
  const forgotten = await changeUnanswered(call, () => ({ put: [], forget: [call.callId] }));
  redis.resume();
  expect(await forgotten.outcome).toBe("changed");
  expect(await served(() => other.calls.get(call.callId))).toBeNull();
}, 60_000);

test("[CALL2] call_version: a change that is older than what it was made of is told, and not put back after a loss", async () => {
  const counts = new Counts();
  const third = await startNodes(redis.url, ["n3"], { counts });
  const [node] = third.nodes as [Cluster];
  const call = exampleCall();
  const change = () =>
    node.calls.transact({ callId: call.callId, userIds: [] }, () => ({ put: [call], result: "changed" }));
  await change();
  const client = new Redis(redis.url);
  const key = `${keys.callsPrefix}call:${call.callId}`;
  await client.hset(key, "version", String(Number.MAX_SAFE_INTEGER));
  expect(counts.broken.call_version).toBe(0);
  expect(await change()).toBe("changed");
  expect(counts.broken.call_version).toBe(1);
  expect(Number(await client.hget(key, "version"))).toBeLessThan(Number.MAX_SAFE_INTEGER);
  client.disconnect();
  await third.close();
});

test("[CALL2] call_version: what is written as it was, where the first try never came to Redis, is not older than it was", async () => {
  const proxy = await startProxy(redis.port);
  const counts = new Counts();
  const { nodes, close: closeNode } = await startNodes(`redis://127.0.0.1:${proxy.port}`, ["n3"], { counts });
  const call = exampleCall();
  const key = { callId: call.callId, userIds: [] };
  await nodes[0]!.calls.transact(key, () => ({ put: [call], result: null }));
  const changed = nodes[0]!.calls.transact(key, ([found]) => {
    proxy.cut();
    setTimeout(() => proxy.heal());
    return { put: [found!], result: "changed" };
  });
  expect(await changed).toBe("changed");
  expect(counts.broken.call_version).toBe(0);
  await closeNode();
  await proxy.stop();
}, 60_000);

test("[CALL2] a change whose answer is lost is refused where somebody else has changed the call since", async () => {
  const call = exampleCall();
  await one.calls.transact({ callId: call.callId, userIds: [] }, () => ({ put: [call], result: null }));
  const lost = await changeUnanswered(call, (found) => ({ put: [{ ...found, sdp: "one" }] }));
  const rival = new Redis(redis.port);
  const changed = rival.hset(`${keys.callsPrefix}call:${call.callId}`, "version", "1000", "json", JSON.stringify(call));
  redis.resume();
  await changed;
  rival.disconnect();
  expect(await lost.outcome).toBe("Unavailable");
}, 60_000);

/** Two nodes whose heartbeats are rare; the second one's way to Redis can be cut. */
async function startApart(options: { settlingMs: number }) {
  const proxy = await startProxy(redis.port);
  const rarely = { heartbeatMs: 600_000, commandTimeoutMs: 300, watchTimeoutMs: 300, ...options };
  const prompt = await startNodes(redis.url, ["n3"], rarely);
  const late = await startNodes(`redis://127.0.0.1:${proxy.port}`, ["n4"], rarely);
  return {
    proxy,
    prompt: prompt.nodes[0]!,
    late: late.nodes[0]!,
    closeLate: late.close,
    async close() {
      await Promise.all([prompt.close(), late.close()]);
      await proxy.stop();
    },
  };
}

/** Sets what is named of a call, with what the node finds of it in Redis. */
const changeOn = (node: Cluster, call: Call, changed: Partial<Call>) =>
  node.calls.transact({ callId: call.callId, userIds: [] }, (calls) => ({
    put: [{ ...(calls[0] ?? call), ...changed }],
    result: null,
  }));
const answer = { state: "connecting", sdp: "the first answer" } as const;

test("[CALL2] nobody decides on a call that Redis has lost before every node could put back what it knows", async () => {
  const { proxy, prompt, late, close } = await startApart({ settlingMs: 3_000 });
  const call = exampleCall();
  try {
    await changeOn(prompt, call, { state: "ringing" });
    await changeOn(late, call, answer);
    proxy.cut();
    await redis.kill();
    await until(() => isDown(prompt));
    await redis.restart();
    await until(() => isUp(prompt));
    await expect(changeOn(prompt, call, { sdp: "another answer" })).rejects.toMatchObject({
      name: "Unavailable",
      retryAfterMs: 1_000,
    });
    await expect(prompt.calls.callsOf(call.callee.userId)).rejects.toBeInstanceOf(Unavailable);
    await expect(prompt.calls.takeDue(call.deadline, 1)).rejects.toBeInstanceOf(Unavailable);
    proxy.heal();
    await until(async () => (await prompt.calls.get(call.callId).catch(() => null)) !== null);
    expect(await prompt.calls.get(call.callId)).toMatchObject(answer);
    await until(() => isUp(late));
    expect(await late.calls.takeDue(call.deadline, 1)).toEqual([call.callId]);
  } finally {
    await close();
  }
}, 60_000);

test("[CALL2] a node that is asked before its heartbeat notices by itself that calls were lost", async () => {
  const { prompt, late, close } = await startApart({ settlingMs: 100 });
  const call = exampleCall();
  const flusher = new Redis(redis.port);
  try {
    await changeOn(prompt, call, { state: "ringing" });
    await changeOn(late, call, answer);
    await flusher.flushall();
    await expect(prompt.calls.get(call.callId)).rejects.toBeInstanceOf(Unavailable);
    await until(async () => (await late.calls.get(call.callId).catch(() => null)) !== null);
    await until(async () => (await prompt.calls.get(call.callId).catch(() => null)) !== null);
    expect(await prompt.calls.get(call.callId)).toMatchObject(answer);
  } finally {
    flusher.disconnect();
    await close();
  }
}, 60_000);

test.each<{ title: string; before: Partial<Call>[]; changed: Partial<Call>; expected: Partial<Call> }>([
  {
    title: "is not undone by a node that puts back much later what was before",
    before: ["one", "two", "three"].map((sdp) => ({ state: "ringing", sdp })),
    changed: answer,
    expected: answer,
  },
  {
    title: "is undone where it was made of a state that had been left behind: who was answered does not ring again",
    before: [answer],
    changed: { state: "ringing", sdp: "changed" },
    expected: answer,
  },
  {
    title: "is undone where the call had ended",
    before: [answer, { state: "ended" }],
    changed: answer,
    expected: { state: "ended" },
  },
])(
  "[CALL2] [CALL4] what is changed of a call once Redis is back $title",
  async ({ before, changed, expected }) => {
    const { proxy, prompt, late, closeLate, close } = await startApart({ settlingMs: 1 });
    const call = exampleCall();
    try {
      await changeOn(prompt, call, { state: "ringing" });
      for (const change of before) await changeOn(late, call, change);
      proxy.cut();
      await redis.kill();
      await until(() => isDown(prompt));
      await redis.restart();
      await until(async () => (await prompt.calls.get(call.callId).catch(() => null)) !== null);
      await changeOn(prompt, call, changed);
      proxy.heal();
      await until(() => isUp(late));
      // It has put back all that it knows before it stops.
      await closeLate();
      expect(await prompt.calls.get(call.callId)).toMatchObject(expected);
    } finally {
      await close();
    }
  },
  30_000,
);

test("[CALL5] a node does not put back a call that another has changed or forgotten since", async () => {
  const call = exampleCall();
  const key = { callId: call.callId, userIds: [] };
  await one.calls.transact(key, () => ({ put: [call], result: null }));
  await other.calls.transact(key, () => ({ put: [{ ...call, state: "active" }], result: null }));
  await redis.kill();
  await until(() => isDown(one));
  await redis.restart();
  await until(async () => (await one.calls.get(call.callId).catch(() => null))?.state === "active");
  await other.calls.transact(key, () => ({ put: [], forget: [call.callId], result: null }));
  expect(await one.calls.get(call.callId)).toBeNull();
}, 60_000);
