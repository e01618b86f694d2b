/** Runs calls on this node: the requests of clients, devices that come and go, and deadlines [CALL]. */
import type { Call } from "../cluster/call.ts";
import type { CallRegistry } from "../cluster/ports.ts";
import { type AtOnce, atOnce, type Steps } from "../ground/at-once.ts";
import { nextTurn } from "../ground/next-turn.ts";
import type { Timers } from "../ground/timers.ts";
import { Unavailable } from "../ground/unavailable.ts";
import type { ClientPayload } from "../protocol/client.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { CallView, ServerPayload } from "../protocol/server.ts";
import { type Outage, type OutageLogger, warnsOnce } from "../telemetry/outage.ts";
import type { NodeStats } from "../telemetry/stats.ts";
import { DeviceChanges } from "./device-changes.ts";
import { EndsTold } from "./ends-told.ts";
import type { CallEvent, FirstOffer, Outcome } from "./events.ts";
import { missingInOffer, step } from "./machine.ts";
import {
  type CallSettings,
  type Delivery,
  type Device,
  isUnreached,
  missedPayload,
  unreachedPayload,
  viewOf,
} from "./record.ts";

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
  /** Whether backends are to hear of callees without a device [BAK3]. */
  wakes: boolean;
  /** Whether the user has a connected device on any node; @throws Unavailable where some may not be known, as after a loss. */
  hasDevice(userId: string): Promise<boolean>;
  /** Logs for backends that a callee has no device, once for each `call_id`; resolves when it is durable [BAK3]. */
  logUnreached(payload: ServerPayload<"call.unreached">): Promise<void>;
  /** Milliseconds since 1970. */
  now(): number;
  settings: CallSettings;
  logger: OutageLogger;
}

/** A device, and the connection that speaks for it: since when (ms) it has been here, left out: always; and whether it has gone. */
type Caller = Device & { connectedAt?: number; readonly isClosed?: boolean };

const dueIntervalMs = 500;
const dueBatch = 64;
/** Batches of one round; what is due beyond them waits for the next. */
const dueBatchesMax = 16;

export class CallService {
  readonly #endsTold: EndsTold;
  readonly #deviceChanges: DeviceChanges;
  readonly #waiting: Outage;
  readonly #logging: Outage;
  readonly #counts = { offered: 0, ended: 0, due_failures: 0 };
  /** Follows from requests that are answered already. */
  readonly #settling = new Set<Promise<void>>();
  #cancelTimer: (() => void) | null = null;
  #round: Promise<void> = Promise.resolve();
  #isRunning = false;

  constructor(private readonly deps: CallServiceDeps) {
    const { registry, devicesOf, now, logger } = deps;
    this.#endsTold = new EndsTold(now);
    this.#deviceChanges = new DeviceChanges({
      registry,
      devicesOf,
      apply: async (event) => {
        const { put } = await this.#apply(event.callId, [], event);
        await this.#settle(put[0]);
      },
    });
    // Every round is refused while Redis is away or calls are put back.
    this.#waiting = warnsOnce(logger, "calls wait", "calls go on");
    this.#logging = warnsOnce(logger, "a call is not logged yet", "calls are logged again");
  }

  /**
   * Takes a first offer, or a renegotiation where it calls nobody [CALL1].
   * @returns whether the callee is in another call, where callers are told so
   */
  async offer(from: Caller, payload: ClientPayload<"call.offer">): Promise<{ isBusy: boolean }> {
    const { call_id: callId, to_user_id: toUserId, media = null, sdp } = payload;
    if (toUserId !== undefined) return this.#offerFirst(from, firstOffer({ ...payload, to_user_id: toUserId }));
    const event = { type: "renegotiate", from, connectedAt: from.connectedAt ?? 0, callId, sdp, media } as const;
    await this.#apply(callId, [], event);
    return { isBusy: false };
  }

  async answer(from: Caller, { call_id: callId, sdp }: ClientPayload<"call.answer">): Promise<void> {
    await this.#whileHere(from, () => this.#apply(callId, [], { type: "answer", from, callId, sdp }));
  }

  async ice(from: Device, { call_id: callId, candidates }: ClientPayload<"call.ice">): Promise<void> {
    await this.#apply(callId, [], { type: "ice", from, callId, candidates });
  }

  async hangup(from: Device, payload: ClientPayload<"call.hangup">): Promise<void> {
    const { call_id: callId, reason = null } = payload;
    const { put } = await this.#apply(callId, [], { type: "hangup", from, callId, reason });
    await this.#settle(put[0]);
  }

  /**
   * To be called once the device can be delivered to and `devicesOf` names it [CALL5]. Where calls are unavailable it
   * rejects, and they are told with the next `runDue` that finds them; so is the other one.
   * @param once what is on by now is told when what it gives resolves: a call that is offered meanwhile has told the device itself
   */
  deviceConnected(device: Device, once?: () => Promise<void>): AtOnce<void> {
    return this.#deviceChanges.tell({ device, type: "connected", once });
  }

  /** To be called when the device's last connection here has gone and `devicesOf` does not name it for that one any more. */
  deviceDisconnected(device: Device, { hangsUp }: { hangsUp: boolean } = { hangsUp: false }): AtOnce<void> {
    return this.#deviceChanges.tell({ device, type: hangsUp ? "left" : "disconnected" });
  }

  /** Tells a device of this node the end of a call that another node owes it, unless somebody else has [CALL4]. */
  tellOwed(device: Device, callId: string): AtOnce<void> {
    return this.#deviceChanges.tell({ device, type: "connected", callId });
  }

  /** Says whether the device is in the call or it rings there, as far as can be told. */
  async isOn(device: Device, callId: string): Promise<boolean> {
    const { registry, settings } = this.deps;
    try {
      const call = await registry.get(callId);
      return call !== null && viewOf(call, device, settings) !== null;
    } catch (error) {
      if (error instanceof Unavailable) return true;
      throw error;
    }
  }

  /** Reads the calls that the device is in or rings for; null while calls are unavailable [CALL7]. */
  snapshotOf(device: Device): AtOnce<CallView[] | null> {
    return atOnce(this.#snapshotOf(device));
  }

  *#snapshotOf(device: Device): Steps<CallView[] | null> {
    const { registry, settings } = this.deps;
    try {
      const reading = registry.callsOf(device.userId);
      const calls = reading instanceof Promise ? yield reading : reading;
      return calls.flatMap((call) => viewOf(call, device, settings) ?? []);
    } catch (error) {
      if (error instanceof Unavailable) return null;
      throw error;
    }
  }

  /** Ends what would end with this node, tells everybody, and logs the missed ones; calls that outlive it go on [CALL5]. */
  async endAll(): Promise<void> {
    for (const callId of this.deps.registry.endingWithNode?.() ?? []) {
      const { put } = await this.#apply(callId, [], { type: "stopped", callId });
      await this.#settle(put[0]);
    }
  }

  /** Ends what somebody is in, calls or is called by who will not come back; the others are told at once. @throws Unavailable */
  async endOf(userId: string): Promise<void> {
    for (const { callId } of await this.deps.registry.callsOf(userId)) {
      const { put } = await this.#apply(callId, [], { type: "stopped", callId });
      await this.#settle(put[0]);
    }
  }

  /** Works on every call whose deadline has come, and tells calls of devices they have not heard of. Never rejects. */
  async runDue(): Promise<void> {
    const { registry, now } = this.deps;
    await this.#deviceChanges.repeat();
    const refusals: Unavailable[] = [];
    const noteFailure = (error: unknown, message: string, callId?: string) => {
      this.#counts.due_failures++;
      if (error instanceof Unavailable) refusals.push(error);
      else this.deps.logger.warn({ err: error, callId }, message);
    };
    try {
      for (let batch = 0; batch < dueBatchesMax; batch++) {
        const callIds = await registry.takeDue(now(), dueBatch);
        const results = await Promise.allSettled(callIds.map((callId) => this.#workOn(callId)));
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
    if (refusal !== undefined) this.#waiting.began(refusal);
    else this.#waiting.ended();
  }

  start(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#scheduleRound();
  }

  /** Resolves once nothing of `runDue` is on the way any more, nor of what nobody waits for. */
  async stop(): Promise<void> {
    this.#isRunning = false;
    this.#cancelTimer?.();
    await Promise.all([this.#round, ...this.#settling]);
  }

  /** Counts `calls` that are kept, ended ones included, over all nodes, and what this node has seen since it started. */
  async stats(): Promise<Required<NodeStats["calls"]>> {
    return { ...(await this.deps.registry.stats()), ...this.#counts };
  }

  async #offerFirst(from: Caller, offer: FirstOffer): Promise<{ isBusy: boolean }> {
    const { devicesOf, mayCall, settings } = this.deps;
    const { callId, toUserId, conversationId } = offer;
    if (toUserId !== from.userId && !(await mayCall(from.userId, toUserId, conversationId ?? undefined))) {
      throw new ProtocolError("forbidden", "You cannot call this user.");
    }
    const calleeDeviceIds = await devicesOf(toUserId);
    const event = { type: "offer", from, offer, calleeDeviceIds } as const;
    const { put, offered } = await this.#whileHere(from, () => this.#apply(callId, [from.userId, toUserId], event));
    const { call, calleeIsBusy } = offered!;
    if (put.length > 0) this.#counts.offered++;
    if (call.state !== "ringing") return { isBusy: false };
    // A device that came in between has seen no call, and the call has not seen it.
    for (const deviceId of put.length > 0 ? await devicesOf(toUserId) : []) {
      if (calleeDeviceIds.includes(deviceId)) continue;
      await this.#apply(callId, [], { type: "connected", device: { userId: toUserId, deviceId }, callId });
    }
    // The caller does not wait for it, or it would learn who is offline and who only is invisible [CALL5]. It is due in the record.
    if (isUnreached(call)) this.#settleLater(call);
    return { isBusy: settings.busy && calleeIsBusy };
  }

  /**
   * Lets a device into a call: one that has gone while its request waited has been seen off already, and nobody would ever
   * notice that it is not there [CALL5].
   */
  async #whileHere<Result>(from: Caller, enter: () => Promise<Result>): Promise<Result> {
    if (from.isClosed) throw new ProtocolError("call_ended", "Its connection has gone.");
    const result = await enter();
    if (from.isClosed) await this.deviceDisconnected({ userId: from.userId, deviceId: from.deviceId });
    return result;
  }

  async #workOn(callId: string): Promise<void> {
    const { registry, devicesOf } = this.deps;
    const call = await registry.get(callId);
    if (!call) return;
    if (call.missed === "due") return this.#settle(call);
    const [caller, callee] = await Promise.all([devicesOf(call.caller.userId), this.#calleeDevices(call)]);
    const { put } = await this.#apply(callId, [], { type: "due", callId, connected: { caller, callee } });
    await this.#settle(put[0]);
  }

  /** Ids of the callee's devices; none while it rings where they went with their node, which is known of nodes before it is of devices. */
  async #calleeDevices({ state, callee: { userId } }: Call): Promise<string[]> {
    const { devicesOf, hasDevice, wakes } = this.deps;
    const deviceIds = await devicesOf(userId);
    if (state !== "ringing" || !wakes || deviceIds.length === 0) return deviceIds;
    try {
      return (await hasDevice(userId)) ? deviceIds : [];
    } catch (error) {
      if (error instanceof Unavailable) return deviceIds;
      throw error;
    }
  }

  /** Settles it once its request is answered. */
  #settleLater(call: Call): void {
    const settling: Promise<void> = nextTurn()
      .then(() => this.#settle(call))
      .finally(() => this.#settling.delete(settling));
    this.#settling.add(settling);
  }

  /** Logs what is due of the call; where the log is away its deadline stays due, and `runDue` comes again. Never rejects. */
  async #settle(call: Call | undefined): Promise<void> {
    if (call === undefined || (call.missed !== "due" && !isUnreached(call))) return;
    try {
      await this.#log(call);
      this.#logging.ended();
    } catch (error) {
      this.#counts.due_failures++;
      this.#logging.began(error, { callId: call.callId });
    }
  }

  /** @throws Unavailable where the log is away, or calls are */
  async #log(call: Call): Promise<void> {
    const { hasDevice, logMissed, logUnreached, settings } = this.deps;
    const { callId, callee } = call;
    if (call.missed === "due") {
      await logMissed(callee.userId, missedPayload(call), callId);
      await this.#apply(callId, [], { type: "missed_logged", callId });
    }
    if (isUnreached(call)) {
      // One that has come meanwhile rings.
      const isTold = !(await hasDevice(callee.userId));
      if (isTold) await logUnreached(unreachedPayload(call, settings));
      await this.#apply(callId, [], { type: "unreached_settled", callId, isTold });
    }
  }

  async #apply(callId: string, userIds: string[], event: CallEvent): Promise<Outcome> {
    const { registry, now, settings, nodeId, wakes, isHere, deliver } = this.deps;
    const outcome = await registry.transact({ callId, userIds }, (calls) => {
      const result = step(calls, event, { now: now(), settings, nodeId, wakes, isHere });
      return { put: result.put, forget: result.forget, result };
    });
    this.#counts.ended += outcome.ended;
    for (const delivery of outcome.deliveries) {
      const isToldHere = delivery.type === "call.ended" && delivery.owed === undefined;
      if (!isToldHere || this.#endsTold.note(delivery)) deliver(delivery);
    }
    return outcome;
  }

  #scheduleRound(): void {
    this.#cancelTimer = this.deps.after(dueIntervalMs, () => {
      this.#round = this.runDue().then(() => {
        if (this.#isRunning) this.#scheduleRound();
      });
    });
  }
}

function firstOffer(payload: ClientPayload<"call.offer"> & { to_user_id: string }): FirstOffer {
  const { call_id: callId, to_user_id: toUserId, conversation_id: conversationId = null, media, sdp } = payload;
  if (media === undefined) throw missingInOffer("media");
  return { callId, toUserId, conversationId, media, sdp };
}
