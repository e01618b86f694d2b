/** Proves what every call registry must do, whatever it is made of [CALL2]. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Call } from "../../src/cluster/call.ts";
import { type CallRegistry, dueLeaseMs } from "../../src/cluster/ports.ts";

export interface OpenRegistries {
  /** Two nodes' views of the same, empty registry; a node that is alone gives the same one twice. */
  one: CallRegistry;
  other: CallRegistry;
  close(): Promise<void>;
}

export function callRegistryContract(name: string, open: () => Promise<OpenRegistries>): void {
  describe(`call registry: ${name}`, () => {
    let opened: OpenRegistries;
    let one: CallRegistry;
    let other: CallRegistry;
    beforeEach(async () => {
      opened = await open();
      ({ one, other } = opened);
    });
    afterEach(() => opened.close());

    const put = (registry: CallRegistry, ...calls: Call[]) =>
      registry.transact({ callId: calls[0]!.callId, userIds: [] }, () => ({ put: calls, result: null }));

    test("[CALL] what one node puts, the other gets, whole and by each of its users", async () => {
      const call = exampleCall({ callerId: "ann/1", calleeId: "bob:2", sdp: 'v=0\r\n"quoted" ✓' });
      await put(one, call);
      expect(await other.get(call.callId)).toEqual(call);
      expect(await other.callsOf("ann/1")).toEqual([call]);
      expect(await other.callsOf("bob:2")).toEqual([call]);
      expect(await other.callsOf("ann")).toEqual([]);
      expect(await other.get(crypto.randomUUID())).toBeNull();
      expect(await other.stats()).toEqual({ calls: 1 });
    });

    test("[CALL] a put replaces the call, and stats count calls, not puts", async () => {
      const call = exampleCall();
      await put(one, call);
      await put(other, { ...call, state: "active", answeredAt: 5 });
      expect(await one.get(call.callId)).toMatchObject({ state: "active", answeredAt: 5 });
      expect(await one.callsOf("ann")).toHaveLength(1);
      expect(await one.stats()).toEqual({ calls: 1 });
    });

    test("[CALL] a step sees the call it names and every call of the users it names, each once, and no other", async () => {
      const named = exampleCall({ callerId: "eve", calleeId: "fay" });
      const between = exampleCall();
      const withAnn = exampleCall({ callerId: "cid", calleeId: "ann" });
      const stranger = exampleCall({ callerId: "cid", calleeId: "dan" });
      await put(one, named, between, withAnn, stranger);
      const seen = await other.transact({ callId: named.callId, userIds: ["ann", "bob"] }, (calls) => ({
        put: [],
        result: calls.map((call) => call.callId),
      }));
      expect(seen.sort()).toEqual([named.callId, between.callId, withAnn.callId].sort());
      const alone = await other.transact({ callId: between.callId, userIds: [] }, (calls) => ({
        put: [],
        result: calls.map((call) => call.callId),
      }));
      expect(alone).toEqual([between.callId]);
    });

    test("[CALL2] steps on one call run alone, from both nodes: no change is lost", async () => {
      const call = exampleCall();
      await put(one, call);
      const turns = Array.from({ length: 40 }, (_, index) =>
        (index % 2 ? one : other).transact({ callId: call.callId, userIds: [] }, ([found]) => ({
          put: [{ ...found!, told: [...found!.told, told(`d${index}`)] }],
          result: found!.told.length,
        })),
      );
      const lengths = await Promise.all(turns);
      expect(lengths.sort((a, b) => a - b)).toEqual(turns.map((_, index) => index + 1));
      expect((await one.get(call.callId))!.told).toHaveLength(41);
    });

    test("[CALL2] of many who answer at once, one wins", async () => {
      const call = exampleCall();
      await put(one, call);
      const wins = await Promise.all(
        Array.from({ length: 10 }, (_, index) =>
          (index % 2 ? one : other).transact({ callId: call.callId, userIds: [] }, ([found]) =>
            found!.callee.deviceId === null
              ? { put: [{ ...found!, callee: { ...found!.callee, deviceId: `d${index}` } }], result: true }
              : { put: [], result: false },
          ),
        ),
      );
      expect(wins.filter(Boolean)).toHaveLength(1);
    });

    test("[CALL5] two who call each other at once see each other's call in one order", async () => {
      const calls = [exampleCall(), exampleCall({ callerId: "bob", calleeId: "ann" })];
      const seen = await Promise.all(
        calls.map((call, index) =>
          (index ? one : other).transact({ callId: call.callId, userIds: ["ann", "bob"] }, (found) => ({
            put: [call],
            result: found.length,
          })),
        ),
      );
      expect(seen.sort()).toEqual([0, 1]);
    });

    test("[CALL] a step that throws stores nothing, and its own error comes out", async () => {
      const call = exampleCall();
      await put(one, call);
      const refusal = new Error("refused");
      const attempt = one.transact({ callId: call.callId, userIds: [] }, ([found]) => {
        found!.state = "ended";
        throw refusal;
      });
      expect(await attempt.catch((error) => error)).toBe(refusal);
      expect((await other.get(call.callId))!.state).toBe("ringing");
      // The next one is not held up by the one that failed.
      await put(other, { ...call, state: "active" });
    });

    test("[CALL] what is given out is a copy", async () => {
      const call = exampleCall();
      await put(one, call);
      call.told.push(told("later"));
      (await one.get(call.callId))!.state = "ended";
      (await one.callsOf("ann"))[0]!.state = "ended";
      expect(await one.get(call.callId)).toMatchObject({ state: "ringing", told: [told("d0")] });
    });

    test("[CALL4] a forgotten call is gone for both nodes and both users, and from what is due", async () => {
      const call = exampleCall({ deadline: 1_000 });
      await put(one, call);
      await one.transact({ callId: call.callId, userIds: [] }, () => ({
        put: [],
        forget: [call.callId, crypto.randomUUID()],
        result: null,
      }));
      expect(await other.get(call.callId)).toBeNull();
      expect(await other.callsOf("ann")).toEqual([]);
      expect(await other.callsOf("bob")).toEqual([]);
      expect(await other.takeDue(2_000, 10)).toEqual([]);
      expect(await other.stats()).toEqual({ calls: 0 });
    });

    test("[CALL5] a call is due from its deadline on, the earliest first, at most as many as asked for", async () => {
      const calls = [3_000, 1_000, 2_000].map((deadline) => exampleCall({ deadline }));
      for (const call of calls) await put(one, call);
      expect(await one.takeDue(999, 10)).toEqual([]);
      expect(await one.takeDue(3_000, 2)).toEqual([calls[1]!.callId, calls[2]!.callId]);
      expect(await other.takeDue(3_000, 2)).toEqual([calls[0]!.callId]);
    });

    test("[CALL5] a due call is given to one caller, and again after its lease", async () => {
      const call = exampleCall({ deadline: 1_000 });
      await put(one, call);
      const taken = await Promise.all([one.takeDue(1_000, 10), other.takeDue(1_000, 10), one.takeDue(1_000, 10)]);
      expect(taken.flat()).toEqual([call.callId]);
      expect(await other.takeDue(1_000 + dueLeaseMs - 1, 10)).toEqual([]);
      expect(await other.takeDue(1_000 + dueLeaseMs, 10)).toEqual([call.callId]);
    });

    test("[CALL5] a put sets the deadline anew, lease or not", async () => {
      const call = exampleCall({ deadline: 1_000 });
      await put(one, call);
      expect(await one.takeDue(1_000, 10)).toEqual([call.callId]);
      await put(other, { ...call, deadline: 1_500 });
      expect(await one.takeDue(1_499, 10)).toEqual([]);
      expect(await one.takeDue(1_500, 10)).toEqual([call.callId]);
    });
  });
}

const told = (deviceId: string) => ({ side: "callee", deviceId, awaySince: null, state: "on", reason: null }) as const;

function exampleCall({ callerId = "ann", calleeId = "bob", sdp = "offer", deadline = 60_000 } = {}): Call {
  return {
    callId: crypto.randomUUID(),
    state: "ringing",
    media: "audio",
    conversationId: null,
    caller: { userId: callerId, deviceId: "a1", kept: [], offering: false },
    callee: { userId: calleeId, deviceId: null, kept: [], offering: false },
    sdp,
    createdAt: 0,
    answeredAt: null,
    deadline,
    told: [told("d0")],
    end: null,
    missed: "no",
  };
}
