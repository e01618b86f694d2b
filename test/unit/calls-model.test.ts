/** Proves by random sequences of events what must hold of calls whatever happens [CALL1–CALL6]. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Device } from "../../src/calls/record.ts";
import type { Call } from "../../src/cluster/call.ts";
import { limits } from "../../src/protocol/limits.ts";
import { type CallWorld, callSettings, createCallWorld, deviceKey, outcomeOf } from "../support/calls.ts";

const devices: Device[] = ["ann", "bob"].flatMap((userId) =>
  [1, 2, 3].map((n) => ({ userId, deviceId: `${userId}${n}` })),
);
const stranger: Device = { userId: "eve", deviceId: "eve1" };
const callIds = [1, 2, 3].map((n) => `00000000-0000-4000-8000-00000000000${n}`);
/** Bounds how long anybody waits for `runDue`, ms. */
const tickMs = 1_000;

const request = (type: "offer" | "renegotiate" | "answer" | "ice" | "hangup") =>
  fc.record({
    type: fc.constant(type),
    from: fc.constantFrom(...devices, stranger),
    callId: fc.constantFrom(...callIds),
  });
const action = fc.oneof(
  { weight: 3, arbitrary: request("offer") },
  { weight: 1, arbitrary: request("renegotiate") },
  { weight: 4, arbitrary: request("answer") },
  { weight: 4, arbitrary: request("ice") },
  { weight: 1, arbitrary: request("hangup") },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant("flip" as const),
      device: fc.constantFrom(...devices),
      hangsUp: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("pass" as const), seconds: fc.integer({ min: 1, max: 40 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("log" as const), away: fc.boolean() }) },
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

/** Keeps what has been seen of a call, under one life of its id: ids come back once they are forgotten. */
interface Seen {
  last: Call;
  /** Devices that rang, made the call or took part in it, and how often they were told of its end. */
  told: Map<string, number>;
  winner: string | null;
}

class Observer {
  readonly #calls = new Map<string, Seen>();
  readonly #missed = new Set<string>();

  constructor(readonly world: CallWorld) {}

  /** Looks at everything that one event has brought about, and checks what must always hold. */
  async look(accepted?: { from: Device; callId: string }): Promise<void> {
    const { world } = this;
    for (const { callId } of world.missed.splice(0)) this.#missed.add(callId);
    const current = new Map<string, Call>();
    for (const callId of callIds) {
      const call = await world.registry.get(callId);
      if (call) current.set(callId, call);
    }
    for (const [callId, call] of current) this.#lookAt(callId, call);
    // Glare leaves no two calls that ring towards each other.
    const ringing = [...current.values()].filter((call) => call.state === "ringing");
    expect(new Set(ringing.map((call) => call.caller.userId)).size).toBeLessThanOrEqual(1);
    if (accepted) this.#addTold(accepted.callId, deviceKey(accepted.from));
    for (const delivery of world.deliveries.splice(0)) {
      const callId = delivery.payload.call_id;
      const key = deviceKey(delivery);
      // Nothing goes to strangers, to nobody, or to a device after its end.
      expect(delivery.userId).not.toBe("eve");
      expect(world.connected.has(key)).toBe(true);
      const seen = this.#calls.get(callId)!;
      expect(seen.told.get(key) ?? 0).toBe(0);
      if (delivery.type === "call.ended") expect(seen.told.has(key)).toBe(true);
      seen.told.set(key, delivery.type === "call.ended" ? 1 : 0);
    }
    for (const callId of [...this.#calls.keys()]) if (!current.has(callId)) this.#lookAtForgotten(callId);
  }

  /** Checks that backends are told at once where nothing rings of an offer that is acknowledged, unless the log is away [BAK3]. */
  async lookWhomToWake(callId: string): Promise<void> {
    const { registry, connected, turn, unreached } = this.world;
    await this.world.settled();
    const call = await registry.get(callId);
    const isThere = [...connected].some((key) => key.startsWith(`${call?.callee.userId} `));
    if (call?.state !== "ringing" || isThere || turn.logAway) return;
    expect(call.unreached).toBe("told");
    expect(unreached.map(({ call_id }) => call_id)).toContain(callId);
  }

  #addTold(callId: string, key: string): void {
    const told = this.#calls.get(callId)?.told;
    if (told && !told.has(key)) told.set(key, 0);
  }

  #lookAt(callId: string, call: Call): void {
    const seen = this.#calls.get(callId) ?? { last: call, told: new Map(), winner: null };
    this.#calls.set(callId, seen);
    if (seen.last.end) expect({ state: call.state, end: call.end }).toEqual({ state: "ended", end: seen.last.end });
    // One answer per call.
    if (seen.winner) expect(call.callee.deviceId).toBe(seen.winner);
    seen.winner = call.callee.deviceId;
    if (call.state === "connecting" || call.state === "active") expect(seen.winner).not.toBeNull();
    seen.last = call;
    this.#checkBounds(call);
  }

  #checkBounds(call: Call): void {
    const { now } = this.world.turn;
    expect(call.told.length).toBeLessThanOrEqual(devices.length);
    for (const { kept } of [call.caller, call.callee]) {
      for (const { deviceId } of devices) {
        const candidates = kept
          .filter((signal) => signal.fromDeviceId === deviceId && signal.type === "call.ice")
          .reduce((sum, { payload }) => sum + ("candidates" in payload ? (payload.candidates?.length ?? 1) : 0), 0);
        expect(candidates).toBeLessThanOrEqual(limits.iceCandidatesKept);
      }
      expect(kept.filter((signal) => signal.type !== "call.ice").length).toBeLessThanOrEqual(3);
    }
    if (call.state === "ringing") expect(now).toBeLessThan(call.createdAt + callSettings.ring_timeout + tickMs);
    if (call.end && call.missed !== "due") {
      // One that had to wait for the log may be older by any length of time; the end of each run shows that it goes.
      const slack = call.missed === "logged" ? Number.POSITIVE_INFINITY : tickMs;
      expect(now).toBeLessThan(call.end.at + 60_000 + slack);
      expect([call.caller.kept, call.callee.kept]).toEqual([[], []]);
    }
  }

  #lookAtForgotten(callId: string): void {
    const { last, told } = this.#calls.get(callId)!;
    this.#calls.delete(callId);
    expect(last.state).toBe("ended");
    for (const [key, ends] of told) if (this.world.connected.has(key)) expect({ key, ends }).toEqual({ key, ends: 1 });
    const isMissed = last.answeredAt === null && ["timeout", "cancelled", "connection_lost"].includes(last.end!.reason);
    expect(this.#missed.delete(callId)).toBe(isMissed);
  }
}

async function run(actions: Action[], ending: "hang up" | "leave"): Promise<void> {
  const world = createCallWorld([...devices.filter((_, index) => index !== 5), stranger]);
  const observer = new Observer(world);
  for (const next of actions) {
    switch (next.type) {
      case "flip":
        if (world.connected.has(deviceKey(next.device))) await world.disconnect(next.device, next);
        else await world.connect(next.device);
        await observer.look();
        break;
      case "pass":
        for (let second = 0; second < next.seconds; second++) {
          await world.pass(tickMs);
          await observer.look();
        }
        break;
      case "log":
        world.turn.logAway = next.away;
        break;
      default: {
        if (!world.connected.has(deviceKey(next.from))) break;
        const outcome = await outcomeOf(send(world, next));
        // Candidates come in bursts, or their limit would never be met.
        for (let more = 0; more < 4 && next.type === "ice" && outcome === "ok"; more++)
          await outcomeOf(send(world, next));
        if (next.from === stranger) expect(outcome).not.toBe("ok");
        // An offer that the log keeps from being answered is there all the same.
        await observer.look(outcome === "ok" || outcome === "unavailable" ? next : undefined);
        if (next.type === "offer" && outcome === "ok") await observer.lookWhomToWake(next.callId);
      }
    }
  }
  // All leave for good, or hang up, learn of ends that they have missed and hang up what was theirs alone to end; and the
  // log is back. In the end nothing is kept.
  world.turn.logAway = false;
  const isConnected = (device: Device) => world.connected.has(deviceKey(device));
  const hangUpAll = async () => {
    for (const device of devices.filter(isConnected)) {
      for (const callId of callIds) await outcomeOf(world.service.hangup(device, { call_id: callId }));
    }
    await observer.look();
  };
  if (ending === "hang up") {
    await hangUpAll();
    for (const device of devices) if (!isConnected(device)) await world.connect(device);
    await hangUpAll();
  } else {
    for (const device of devices) if (isConnected(device)) await world.disconnect(device);
  }
  for (let second = 0; second < 130; second++) {
    await world.pass(tickMs);
    await observer.look();
  }
  expect(await world.registry.stats()).toEqual({ calls: 0 });
}

function send(
  { service }: CallWorld,
  { type, from, callId }: Action & { from: Device; callId: string },
): Promise<unknown> {
  switch (type) {
    case "offer":
      // The stranger may call nobody here, so it tries to take part in the others' calls instead.
      if (from === stranger) return service.offer(from, { call_id: callId, sdp: "mine" });
      return service.offer(from, {
        call_id: callId,
        to_user_id: from.userId === "ann" ? "bob" : "ann",
        media: "audio",
        sdp: `offer of ${from.deviceId}`,
      });
    case "renegotiate":
      return service.offer(from, { call_id: callId, sdp: "again" });
    case "answer":
      return service.answer(from, { call_id: callId, sdp: `answer of ${from.deviceId}` });
    case "ice":
      return service.ice(from, { call_id: callId, candidates: Array.from({ length: 30 }, () => "candidate") });
    default:
      return service.hangup(from, { call_id: callId });
  }
}

test("[CALL1] [CALL2] [CALL3] [CALL4] [CALL5] [CALL6] whatever happens, in any order", async () => {
  const seed = Number(Bun.env.TEST_SEED ?? Date.now() % 2 ** 31);
  console.info(`calls model: TEST_SEED=${seed}`);
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 60 }), fc.constantFrom("hang up", "leave"), run),
    { seed, numRuns: 300 },
  );
}, 60_000);
