/** Runs calls on this node: the requests of clients, devices that come and go, and deadlines [CALL]. */
import type { Call } from "../cluster/call.ts";
import type { CallRegistry } from "../cluster/ports.ts";
import type { Timers } from "../ground/timers.ts";
import { Unavailable } from "../ground/unavailable.ts";
import type { ClientPayload } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { CallView, ServerPayload } from "../protocol/server.ts";
import { type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { NodeStats } from "../telemetry/stats.ts";
import { createDeviceChanges } from "./device-changes.ts";
import { createEndsTold } from "./ends-told.ts";
import type { CallEvent, FirstOffer, Outcome } from "./events.ts";
import { step } from "./machine.ts";
import { type CallSettings, type Delivery, type Device, missedPayload, viewOf } from "./record.ts";

export interface CallServiceDeps extends Timers {
  registry: CallRegistry;
  nodeId: string;
  /** Whether the device is connected to this node. */
  isHere(device: Device): boolean;
  /** Sends to one device, wherever it is connected; never throws, never waits. */
  deliver(delivery: Delivery): void;
  /** Ids of the user's devices that are connected to any node. */
  devicesOf(userId: string): Promise<string[]>;
  /** Whether the first user may call the second; false for one who does not exist, too. */
  mayCall(fromUserId: string, toUserId: string, conversationId: string | undefined): Promise<boolean>;
  /** Logs a missed call on the callee's `user` topic, once for each `callId`; resolves when it is durable [CALL6]. */
  logMissed(userId: string, payload: ServerPayload<"call.ended">, callId: string): Promise<void>;
  /** Milliseconds since the epoch. */
  now(): number;
  settings: CallSettings;
  logger: OutageLogger;
}

/** A device, and since when (ms) the connection that speaks for it has been here; left out: always. */
type Caller = Device & { connectedAt?: number };

export interface CallService {
  /** A first offer, or a renegotiation where neither `to_user_id` nor `media` is given [CALL1]. */
  offer(from: Caller, payload: ClientPayload<"call.offer">): Promise<void>;
  answer(from: Device, payload: ClientPayload<"call.answer">): Promise<void>;
  ice(from: Device, payload: ClientPayload<"call.ice">): Promise<void>;
  hangup(from: Device, payload: ClientPayload<"call.hangup">): Promise<void>;
  /**
   * To be called once the device can be delivered to and `devicesOf` names it [CALL5]. Where calls are unavailable it
   * rejects, and they are told with the next `runDue` that finds them; so is the other one.
   */
  deviceConnected(device: Device): Promise<void>;
  /** To be called when the device's last connection here has gone and `devicesOf` does not name it for that one any more. */
  deviceDisconnected(device: Device, how?: { hangsUp: boolean }): Promise<void>;
  /** Another node owes the device, which is on this one, the end of a call: tells it unless somebody else has [CALL4]. */
  tellOwed(device: Device, callId: string): Promise<void>;
  /** Whether the device is in the call or it rings there, as far as can be told. */
  isOn(device: Device, callId: string): Promise<boolean>;
  /** Reads the calls that the device is in or rings for; null while calls are unavailable [CALL7]. */
  snapshotOf(device: Device): Promise<CallView[] | null>;
  /** Ends what would end with this node, tells everybody, and logs the missed ones; calls that outlive it go on [CALL5]. */
  endAll(): Promise<void>;
  /** Works on every call whose deadline has come, and tells calls of devices they have not heard of. Never rejects. */
  runDue(): Promise<void>;
  start(): void;
  /** Resolves once nothing of `runDue` is on the way any more. */
  stop(): Promise<void>;
  /** `calls` are those that are kept, ended ones included, over all nodes; the others are what this node has seen since it started. */
  stats(): Promise<Required<NodeStats["calls"]>>;
}

const dueIntervalMs = 500;
const dueBatch = 64;
/** Batches of one round; what is due beyond them waits for the next. */
const dueBatchesMax = 16;

export function createCallService(deps: CallServiceDeps): CallService {
  const { registry, settings, logger, nodeId, isHere } = deps;
  const counts = { offered: 0, ended: 0, dueFailures: 0 };
  const endsTold = createEndsTold(deps.now);
  let cancelTimer: (() => void) | null = null;
  let round: Promise<void> = Promise.resolve();
  let running = false;
  /** Every round is refused while Redis is away or calls are put back. */
  const waiting = warnsOnce(logger, "calls wait", "calls go on");
  const logging = warnsOnce(logger, "a missed call is not logged yet", "missed calls are logged again");

  async function apply(callId: string, userIds: string[], event: CallEvent): Promise<Outcome> {
    const outcome = await registry.transact({ callId, userIds }, (calls) => {
      const result = step(calls, event, { now: deps.now(), settings, nodeId, isHere });
      return { put: result.put, forget: result.forget, result };
    });
    counts.ended += outcome.ended;
    for (const delivery of outcome.deliveries) {
      const isToldHere = delivery.type === "call.ended" && delivery.owed === undefined;
      if (!isToldHere || endsTold.note(delivery)) deps.deliver(delivery);
    }
    return outcome;
  }

  const deviceNews = createDeviceChanges({
    registry,
    devicesOf: deps.devicesOf,
    apply: (event) => apply(event.callId, [], event),
  });

  /** Where the log is away the deadline stays due, and `runDue` comes again. */
  async function settleMissed(call: Call): Promise<void> {
    if (call.missed !== "due") return;
    try {
      await deps.logMissed(call.callee.userId, missedPayload(call), call.callId);
      logging.ended();
      await apply(call.callId, [], { type: "missed_logged", callId: call.callId });
    } catch (error) {
      counts.dueFailures++;
      logging.began(error, { callId: call.callId });
    }
  }

  async function offer(from: Caller, payload: ClientPayload<"call.offer">): Promise<void> {
    const { call_id: callId, sdp } = payload;
    if (payload.to_user_id === undefined && payload.media === undefined) {
      await apply(callId, [], { type: "renegotiate", from, connectedAt: from.connectedAt ?? 0, callId, sdp });
      return;
    }
    const asked = firstOffer(payload);
    const { toUserId } = asked;
    if (toUserId !== from.userId && !(await deps.mayCall(from.userId, toUserId, asked.conversationId ?? undefined))) {
      throw new ProtocolError("forbidden", "You cannot call this user.");
    }
    const calleeDeviceIds = await deps.devicesOf(toUserId);
    const { put } = await apply(callId, [from.userId, toUserId], {
      type: "offer",
      from,
      offer: asked,
      calleeDeviceIds,
    });
    const stored = put.find((call) => call.callId === callId);
    if (!stored) return;
    counts.offered++;
    if (stored.state !== "ringing") return;
    // A device that came in between has seen no call, and the call has not seen it.
    for (const deviceId of await deps.devicesOf(toUserId)) {
      if (calleeDeviceIds.includes(deviceId)) continue;
      await apply(callId, [], { type: "connected", device: { userId: toUserId, deviceId }, callId });
    }
  }

  async function workOn(callId: string): Promise<void> {
    const call = await registry.get(callId);
    if (!call) return;
    if (call.missed === "due") return settleMissed(call);
    const [caller, callee] = await Promise.all([
      deps.devicesOf(call.caller.userId),
      deps.devicesOf(call.callee.userId),
    ]);
    const { put } = await apply(callId, [], { type: "due", callId, connected: { caller, callee } });
    if (put[0]?.state === "ended") await settleMissed(put[0]);
  }

  async function runDue(): Promise<void> {
    await deviceNews.repeat();
    const refusals: Unavailable[] = [];
    const noteFailure = (error: unknown, message: string, callId?: string) => {
      counts.dueFailures++;
      if (error instanceof Unavailable) refusals.push(error);
      else logger.warn({ err: error, callId }, message);
    };
    try {
      for (let batch = 0; batch < dueBatchesMax; batch++) {
        const callIds = await registry.takeDue(deps.now(), dueBatch);
        const results = await Promise.allSettled(callIds.map(workOn));
        for (const [index, result] of results.entries()) {
          if (result.status === "rejected")
            noteFailure(result.reason, "a call's deadline is left for later", callIds[index]);
        }
        if (callIds.length < dueBatch) break;
      }
    } catch (error) {
      noteFailure(error, "cannot tell which calls are due");
    }
    const [refusal] = refusals;
    if (refusal !== undefined) waiting.began(refusal);
    else waiting.ended();
  }

  function scheduleRound(): void {
    cancelTimer = deps.after(dueIntervalMs, () => {
      round = runDue().then(() => {
        if (running) scheduleRound();
      });
    });
  }

  return {
    offer,
    async answer(from, { call_id: callId, sdp }) {
      await apply(callId, [], { type: "answer", from, callId, sdp });
    },
    async ice(from, { call_id: callId, candidates }) {
      await apply(callId, [], { type: "ice", from, callId, candidates });
    },
    async hangup(from, { call_id: callId, reason = null }) {
      const { put } = await apply(callId, [], { type: "hangup", from, callId, reason });
      await settleMissed(put[0]!);
    },
    deviceConnected: (device) => deviceNews.tell({ device, type: "connected" }),
    deviceDisconnected: (device, { hangsUp } = { hangsUp: false }) =>
      deviceNews.tell({ device, type: hangsUp ? "left" : "disconnected" }),
    tellOwed: (device, callId) => deviceNews.tell({ device, type: "connected", callId }),
    async isOn(device, callId) {
      try {
        const call = await registry.get(callId);
        return call !== null && viewOf(call, device, settings) !== null;
      } catch (error) {
        if (error instanceof Unavailable) return true;
        throw error;
      }
    },
    async snapshotOf(device) {
      try {
        const calls = await registry.callsOf(device.userId);
        return calls.flatMap((call) => viewOf(call, device, settings) ?? []);
      } catch (error) {
        if (error instanceof Unavailable) return null;
        throw error;
      }
    },
    async endAll() {
      for (const callId of registry.endingWithNode?.() ?? []) {
        const { put } = await apply(callId, [], { type: "stopped", callId });
        await settleMissed(put[0]!);
      }
    },
    runDue,
    start() {
      if (running) return;
      running = true;
      scheduleRound();
    },
    async stop() {
      running = false;
      cancelTimer?.();
      await round;
    },
    stats: async () => ({ ...(await registry.stats()), ...counts }),
  };
}

function firstOffer(payload: ClientPayload<"call.offer">): FirstOffer {
  const { call_id: callId, to_user_id: toUserId, conversation_id: conversationId = null, media, sdp } = payload;
  if (toUserId === undefined) throw missing("to_user_id");
  if (media === undefined) throw missing("media");
  return { callId, toUserId, conversationId, media, sdp };
}

const missing = (field: string) =>
  new ProtocolError("invalid_payload", `A first offer needs ${field}.`, { field: `payload.${field}` });
