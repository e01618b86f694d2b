/** Defines the parts of a call that every transition is made of: who was told, what waits for whom, and how it ends. */
import type { Call, CallState, Party, Side, Signal, ToldDevice } from "../cluster/call.ts";
import type { Config } from "../config/schema.ts";
import { assertNever } from "../ground/assert.ts";
import { momentText } from "../ground/moments.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { EndReason } from "../protocol/fields.ts";
import { limits } from "../protocol/limits.ts";
import type { CallView, ServerPayload } from "../protocol/server.ts";

/** How long a call rings and a bound device may stay away, ms [CALL5]; and whether callers are told of the busy. */
export type CallSettings = Pick<Config["calls"], "ring_timeout" | "reconnect_timeout" | "busy">;

export interface Device {
  userId: string;
  deviceId: string;
}

type DeliveryType = "call.incoming" | "call.offer" | "call.answer" | "call.ice" | "call.ended";

/** One message to one device; whoever sends it finds the connection. */
export type Delivery = {
  [Type in DeliveryType]: Device & {
    type: Type;
    payload: ServerPayload<Type>;
    /** For another node, which is to claim it first: what is on its way may come late, twice, or to where the device was. */
    owed?: "first" | "again";
  };
}[DeliveryType];

/** Where and when something is decided on a call. */
export interface Moment {
  /** Milliseconds since 1970. */
  now: number;
  settings: CallSettings;
  nodeId: string;
  /** Whether backends are to hear of callees without a device [BAK3]. */
  wakes: boolean;
  /** Whether the device is connected to this node. */
  isHere(device: Device): boolean;
}

/** A call while one event changes it, and what that event makes known. */
export interface Draft extends Moment {
  call: Call;
  deliveries: Delivery[];
}

export const callLimits = {
  /** An ended call answers `call_ended` and tells devices that come back for so long (ms). */
  endedKeptMs: 60_000,
  /** A call that was answered is looked at so often (ms): a node that died cannot say which devices went with it. */
  presenceCheckMs: 30_000,
  /** Offers what is owed to a device that should be here to its node again after so long (ms), then ever more rarely. */
  owedAgainMs: 2_000,
  /** Where nobody has told backends of an unreached callee for so long (ms), whichever node looks does. */
  unreachedAgainMs: 2_000,
  /** A call that rings somewhere is looked at so often (ms): devices may have gone with their node, while there is time to wake others. */
  ringCheckMs: 10_000,
  /** Devices of one call that are told of it; those that come later are not. */
  devicesTold: 64,
  /** Characters of JSON that the candidates waiting for one side take up, beside the limit on their number. */
  keptLength: 512 * 1024,
  /** Calls that one user has made and that are kept, ended ones included. */
  callsPerCaller: 64,
} as const;

export const otherSide = (side: Side): Side => (side === "caller" ? "callee" : "caller");

/** The side of a user; null for a stranger. The two parties are never the same user. */
export function sideOf(call: Call, userId: string): Side | null {
  if (call.caller.userId === userId) return "caller";
  return call.callee.userId === userId ? "callee" : null;
}

export const isAnswered = (state: CallState) => state === "connecting" || state === "active";
export const isBound = (call: Call, device: { side: Side; deviceId: string }) =>
  call[device.side].deviceId === device.deviceId;

export const toldDevice = (call: Call, side: Side, deviceId: string): ToldDevice | undefined =>
  call.told.find((device) => device.side === side && device.deviceId === deviceId);

/** The device's entry, made where there is none; null where the call has told as many devices as it may. */
export function addTold(call: Call, side: Side, deviceId: string): ToldDevice | null {
  const known = toldDevice(call, side, deviceId);
  if (known) return known;
  if (call.told.length >= callLimits.devicesTold) return null;
  const added: ToldDevice = { side, deviceId, awaySince: null, state: "on", reason: null };
  call.told.push(added);
  return added;
}

/** Rings a device of the callee, again where it had rung before [CALL1]. */
export function ring(draft: Draft, deviceId: string): void {
  const { call, settings } = draft;
  const device = addTold(call, "callee", deviceId);
  if (device?.state !== "on") return;
  device.awaySince = null;
  if (call.unreached === "due") call.unreached = undefined;
  draft.deliveries.push({
    userId: call.callee.userId,
    deviceId,
    type: "call.incoming",
    payload: {
      call_id: call.callId,
      from_user_id: call.caller.userId,
      from_device_id: call.caller.deviceId,
      ...(call.conversationId === null ? {} : { conversation_id: call.conversationId }),
      media: call.media,
      sdp: call.sdp,
      expires_at: momentText(ringsUntil(call, settings)),
    },
  });
}

const ringsSomewhere = (call: Call) => call.told.some(({ side, awaySince }) => side === "callee" && awaySince === null);

/** Notes where nothing rings at the callee, or nothing any more; once for each call [BAK3]. */
export function noteUnreached({ call, wakes }: Draft, rings = ringsSomewhere(call)): void {
  if (wakes && !rings) call.unreached ??= "due";
}

/** Whether backends are still to be told that nothing rings. Of a call that is over the log has that it was missed. */
export const isUnreached = (call: Call) => call.state === "ringing" && call.unreached === "due";

export function unreachedPayload(call: Call, settings: CallSettings): ServerPayload<"call.unreached"> {
  return {
    call_id: call.callId,
    from_user_id: call.caller.userId,
    to_user_id: call.callee.userId,
    media: call.media,
    expires_at: momentText(ringsUntil(call, settings)),
  };
}

/**
 * Sends one side's signal to the other's bound device, or keeps it until that is bound or back [CALL3].
 * @throws ProtocolError `limit_exceeded` where too much waits already
 */
export function relay(draft: Draft, from: { side: Side; deviceId: string }, signal: Signal): void {
  const { call, deliveries } = draft;
  const party = call[otherSide(from.side)];
  const deviceId = isAnswered(call.state) ? party.deviceId : null;
  if (deviceId !== null && toldDevice(call, otherSide(from.side), deviceId)?.awaySince === null) {
    deliveries.push({ userId: party.userId, deviceId, ...signal });
  } else {
    keep(party, from.deviceId, signal);
  }
}

function keep(party: Party, fromDeviceId: string, signal: Signal): void {
  // An offer that its sender has replaced would only be answered in vain.
  if (signal.type === "call.offer") party.kept = party.kept.filter((kept) => kept.type !== "call.offer");
  party.kept.push({ ...signal, fromDeviceId });
  // Each device of a callee gathers by itself; what one of them sends must not use up the others' room.
  const ice = party.kept.filter((kept) => kept.type === "call.ice");
  const candidates = ice
    .filter((kept) => kept.fromDeviceId === fromDeviceId)
    .reduce((sum, kept) => sum + (kept.payload.candidates?.length ?? 1), 0);
  // Descriptions need no limit of their own: of one side wait at most an offer, the answer and one more answer.
  if (candidates > limits.iceCandidatesKept || JSON.stringify(ice).length > callLimits.keptLength) {
    throw new ProtocolError("limit_exceeded", "Too much waits for the other side of this call.");
  }
}

/** Sends a bound device that is here what waits for it. */
export function flushKept(draft: Draft, side: Side): void {
  const { call, deliveries } = draft;
  const { userId, deviceId, kept } = call[side];
  if (!isAnswered(call.state) || deviceId === null || toldDevice(call, side, deviceId)?.awaySince !== null) return;
  for (const { fromDeviceId: _, ...signal } of kept) deliveries.push({ userId, deviceId, ...signal });
  if (kept.some(({ type }) => type === "call.offer")) call[otherSide(side)].offeredAt = draft.now;
  call[side].kept = [];
}

/** Notes that a device is away; signals for it wait, and so does the news of the end. */
export function markAway(draft: Draft, device: ToldDevice): void {
  device.awaySince ??= draft.now;
}

/** Notes that a device is here and sends it what waited for it. */
export function markHere(draft: Draft, device: ToldDevice): void {
  device.awaySince = null;
  if (device.state === "owed") tellEnd(draft, device, device.reason!);
  else if (isBound(draft.call, device)) flushKept(draft, device.side);
}

/** Makes the call over for one device: told now where it is on this node, else by the node that has it or gets it [CALL4]. */
export function tellEnd(draft: Draft, device: ToldDevice, reason: EndReason): void {
  const { call, deliveries, nodeId } = draft;
  const { side, deviceId, awaySince } = device;
  const { userId } = call[side];
  const owed = device.state === "owed" ? "again" : "first";
  // The one here may be a connection that is not known yet to be the older one; not for long.
  const isNewest = owed === "again" || (device.nodeId ?? nodeId) === nodeId;
  const isHere = isNewest && draft.isHere({ userId, deviceId });
  device.reason = reason;
  device.state = awaySince === null && isHere ? "ended" : "owed";
  if (awaySince !== null) return;
  const payload = endedPayload(call, reason);
  deliveries.push({ userId, deviceId, type: "call.ended", payload, ...(isHere ? {} : { owed }) });
}

function endedPayload(call: Call, reason: EndReason): ServerPayload<"call.ended"> {
  // Answered elsewhere, the call goes on: its end is not this device's business.
  const end = reason === "answered_elsewhere" ? null : call.end;
  return {
    call_id: call.callId,
    reason,
    ...(end?.endedBy ? { ended_by: end.endedBy } : {}),
    ...(end && call.answeredAt !== null ? { duration_ms: Math.max(0, end.at - call.answeredAt) } : {}),
  };
}

/** Writes what the callee's `user` topic keeps of a missed call: `timeout` or `cancelled` [CALL6]. */
export function missedPayload(call: Call): ServerPayload<"call.ended"> {
  return {
    call_id: call.callId,
    reason: call.end?.reason === "timeout" ? "timeout" : "cancelled",
    from_user_id: call.caller.userId,
    ...(call.conversationId === null ? {} : { conversation_id: call.conversationId }),
    media: call.media,
  };
}

/** Ends the call for good and tells every device that was told of it, each its own reason where they differ. */
export function end(
  draft: Draft,
  how: { reason: EndReason; endedBy?: string },
  reasonFor: (device: ToldDevice) => EndReason = () => how.reason,
): void {
  const { call, now } = draft;
  const wasRinging = call.state === "ringing";
  call.state = "ended";
  call.end = { reason: how.reason, endedBy: how.endedBy ?? null, at: now };
  call.caller.kept = [];
  call.callee.kept = [];
  if (wasRinging && isMissed(how.reason)) call.missed = "due";
  // Where the call was over for a device before, it stays over for that reason.
  for (const device of call.told) if (device.state === "on") tellEnd(draft, device, reasonFor(device));
}

/** A caller who vanished has not been answered either; the log calls it `cancelled`. */
const isMissed = (reason: EndReason) => reason === "timeout" || reason === "cancelled" || reason === "connection_lost";

/** Shows a call to one device that is in it or rings for it; null for any other device, and once it is over [CALL7]. */
export function viewOf(call: Call, { userId, deviceId }: Device, settings: CallSettings): CallView | null {
  const side = sideOf(call, userId);
  if (side === null || call.state === "ended") return null;
  const rings = call.state === "ringing" && side === "callee" && toldDevice(call, side, deviceId)?.state !== "ended";
  if (!rings && !isBound(call, { side, deviceId })) return null;
  const peer = call[otherSide(side)];
  return {
    call_id: call.callId,
    state: call.state,
    peer_user_id: peer.userId,
    ...(peer.deviceId === null ? {} : { peer_device_id: peer.deviceId }),
    media: call.media,
    ...(call.conversationId === null ? {} : { conversation_id: call.conversationId }),
    ...(call.state === "ringing" ? { expires_at: momentText(ringsUntil(call, settings)) } : {}),
  };
}

export const ringsUntil = (call: Call, settings: CallSettings) => call.createdAt + settings.ring_timeout;

/** When (ms) a bound device has been away for too long; infinite while both are here. */
export function lostAt(call: Call, settings: CallSettings): number {
  const since = call.told
    .filter((device) => device.awaySince !== null && isBound(call, device))
    .map((device) => device.awaySince! + settings.reconnect_timeout);
  return Math.min(Number.POSITIVE_INFINITY, ...since);
}

/** When (ms) the end is offered again to devices that are somewhere, and whose node may not have heard of it; infinite: none. */
function offeredAgainAt(call: Call, now: number): number {
  const isOffered = call.told.some(({ state, awaySince }) => state === "owed" && awaySince === null);
  const since = call.end?.at ?? call.answeredAt ?? now;
  return isOffered ? now + Math.max(callLimits.owedAgainMs, now - since) : Number.POSITIVE_INFINITY;
}

/** When (ms) it is to be looked at whether backends must be told that nothing rings; infinite: they know, or need not [BAK3]. */
function unreachedAt(call: Call, { now, wakes }: Pick<Moment, "now" | "wakes">): number {
  if (!wakes || call.unreached === "told") return Number.POSITIVE_INFINITY;
  return now + (call.unreached === "due" ? callLimits.unreachedAgainMs : callLimits.ringCheckMs);
}

export function deadlineOf(call: Call, moment: Pick<Moment, "now" | "settings" | "wakes">): number {
  const { now, settings } = moment;
  switch (call.state) {
    case "ringing":
      return Math.min(ringsUntil(call, settings), lostAt(call, settings), unreachedAt(call, moment));
    case "connecting":
    case "active":
      return Math.min(now + callLimits.presenceCheckMs, lostAt(call, settings), offeredAgainAt(call, now));
    case "ended":
      if (call.missed === "due") return call.end!.at;
      return Math.min(call.end!.at + callLimits.endedKeptMs, offeredAgainAt(call, now));
    default:
      return assertNever(call.state);
  }
}
