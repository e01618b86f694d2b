/** Two users' devices around a call service of its own: a clock that is turned by hand, and everything delivered. */
import { expect } from "bun:test";
import type { Delivery, Device } from "../../src/calls/record.ts";
import { CallService } from "../../src/calls/service.ts";
import type { Call } from "../../src/cluster/call.ts";
import { LocalCallRegistry } from "../../src/cluster/local/call-registry.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import { ProtocolError } from "../../src/protocol/errors.ts";
import type { ServerPayload } from "../../src/protocol/server.ts";

export const callSettings = { ring_timeout: 60_000, reconnect_timeout: 30_000, busy: true };

/** Runs every step twice, as a registry does that meets a conflict, and insists on the same outcome. */
class RepeatingRegistry extends LocalCallRegistry {
  override transact<Result>(
    key: { callId: string; userIds: string[] },
    step: (calls: Call[]) => { put: Call[]; forget?: string[]; result: Result },
  ): Promise<Result> {
    return super.transact(key, (calls) => {
      const before = structuredClone(calls);
      const first = step(calls);
      expect(calls).toEqual(before);
      expect(step(calls)).toEqual(first);
      return first;
    });
  }
}

export interface CallWorld {
  service: CallService;
  registry: LocalCallRegistry;
  /** Everything delivered, in order; tests may empty it. */
  deliveries: Delivery[];
  missed: { userId: string; payload: ServerPayload<"call.ended">; callId: string }[];
  /** Tells what backends have heard of callees without a device. */
  unreached: ServerPayload<"call.unreached">[];
  /** Turned by tests: the time (ms), whether the log is away, who may call, whether backends want to hear of the unreached, whether devices may be missing, until when the log takes nothing. */
  turn: {
    now: number;
    logAway: boolean;
    mayCall: boolean;
    wakes: boolean;
    partial: boolean;
    logStalls?: Promise<void> | undefined;
  };
  /** Called while the service looks for a user's devices. */
  onDevicesOf: { hook: (userId: string) => Promise<void> };
  connected: Set<string>;
  /** Devices among them that are on another node. */
  elsewhere: Set<string>;
  /** Devices among them whose node has died, of which nothing else is known yet. */
  died: Set<string>;
  connect(device: Device): Promise<void>;
  disconnect(device: Device, how?: { hangsUp: boolean }): Promise<void>;
  /** Lets time pass and works on what has come due. */
  pass(ms: number): Promise<void>;
  /** Resolves once what follows from requests that are answered is done; what runs by itself is stopped. */
  settled(): Promise<void>;
  /** Runs what the service has asked to be run later. */
  fireTimer(): void;
  timers(): number;
}

export const deviceKey = ({ userId, deviceId }: Device) => `${userId} ${deviceId}`;

export function createCallWorld(devices: Device[]): CallWorld {
  const turn: CallWorld["turn"] = { now: 1_000_000, logAway: false, mayCall: true, wakes: true, partial: false };
  const registry = new RepeatingRegistry();
  const deliveries: Delivery[] = [];
  const missed: CallWorld["missed"] = [];
  const unreached: CallWorld["unreached"] = [];
  const connected = new Set(devices.map(deviceKey));
  const onDevicesOf: CallWorld["onDevicesOf"] = { hook: async () => {} };
  const elsewhere = new Set<string>();
  const died = new Set<string>();
  const timers = new Set<() => void>();
  const service = new CallService({
    nodeId: "n1",
    isHere: (device) => !elsewhere.has(deviceKey(device)),
    registry,
    deliver: (delivery) => deliveries.push(delivery),
    async devicesOf(userId) {
      const found = [...connected].filter((key) => key.startsWith(`${userId} `)).map((key) => key.split(" ")[1]!);
      await onDevicesOf.hook(userId);
      return found;
    },
    mayCall: async () => turn.mayCall,
    async logMissed(userId, payload, callId) {
      if (turn.logAway) throw new Error("the log is away");
      missed.push({ userId, payload, callId });
    },
    async hasDevice(userId) {
      if (turn.partial) throw new Unavailable("cluster", "It is not known who is here.");
      return [...connected].some((key) => key.startsWith(`${userId} `) && !died.has(key));
    },
    get wakes() {
      return turn.wakes;
    },
    async logUnreached(payload) {
      await turn.logStalls;
      if (turn.logAway) throw new Unavailable("storage", "The log is away.");
      // As by its key in the log.
      if (!unreached.some(({ call_id }) => call_id === payload.call_id)) unreached.push(payload);
    },
    now: () => turn.now,
    after(_delayMs, run) {
      timers.add(run);
      return () => timers.delete(run);
    },
    settings: callSettings,
    logger: { info: () => {}, warn: () => {}, error: () => {} },
  });
  return {
    service,
    registry,
    deliveries,
    missed,
    unreached,
    turn,
    onDevicesOf,
    connected,
    elsewhere,
    died,
    async connect(device) {
      connected.add(deviceKey(device));
      await service.deviceConnected(device);
    },
    async disconnect(device, how) {
      connected.delete(deviceKey(device));
      await service.deviceDisconnected(device, how);
    },
    async pass(ms) {
      turn.now += ms;
      await service.runDue();
    },
    settled: () => service.stop(),
    fireTimer() {
      const [run] = timers;
      if (!run) throw new Error("no timer is set");
      timers.delete(run);
      run();
    },
    timers: () => timers.size,
  };
}

/** Tells what came of a request: `ok`, or the code it was refused with. */
export async function outcomeOf(request: Promise<unknown>): Promise<string> {
  try {
    await request;
    return "ok";
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    if (error instanceof Unavailable) return "unavailable";
    throw error;
  }
}
