/** Steps a call as a pure state machine: calls and an event in, changed calls and deliveries out [CALL]. */
import type { Call, Side } from "../cluster/call.ts";
import { assertNever } from "../ground/assert.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { CallEvent, CallHappening, CallRequest, FirstOffer, Outcome } from "./events.ts";
import {
  callLimits,
  type Device,
  type Draft,
  deadlineOf,
  end,
  isAnswered,
  isBound,
  lostAt,
  type Moment,
  markAway,
  markHere,
  noteUnreached,
  ring,
  ringsUntil,
  sideOf,
  toldDevice,
} from "./record.ts";
import { request } from "./requests.ts";

/**
 * One event's effect. Pure: the calls given are not changed, and the same input gives the same outcome.
 * @param calls those of both users for `offer`, else at least the event's own call
 * @throws ProtocolError for the requests of clients, where they may not be [CALL1–CALL6]
 */
export function step(calls: Call[], event: CallEvent, moment: Moment): Outcome {
  if (event.type === "offer") return offer(calls, event, moment);
  const found = calls.find((call) => call.callId === event.callId);
  switch (event.type) {
    case "renegotiate":
    case "answer":
    case "ice":
    case "hangup":
      if (!found) throw unknownCall(event);
      return changed(found, moment, (draft) => request(draft, event));
    case "connected":
    case "disconnected":
    case "left":
    case "stopped":
    case "due":
    case "missed_logged":
    case "unreached_settled":
      // The call may have been forgotten since somebody decided to tell it.
      if (!found) return nothing();
      if (event.type === "due" && isOver(found, moment.now)) return { ...nothing(), forget: [found.callId] };
      return changed(found, moment, (draft) => happening(draft, event));
    default:
      return assertNever(event);
  }
}

/** With `media` it is taken for a first offer that has forgotten whom it calls. */
function unknownCall(event: CallRequest): ProtocolError {
  if (event.type === "renegotiate" && event.media !== null) return missingInOffer("to_user_id");
  return new ProtocolError("call_not_found", "There is no such call.");
}

export const missingInOffer = (field: "to_user_id" | "media") =>
  new ProtocolError("invalid_payload", `A first offer needs ${field}.`, { field: `payload.${field}` });

const nothing = (): Outcome => ({ put: [], forget: [], deliveries: [], ended: 0 });
const isOver = ({ end, missed }: Call, now: number) =>
  end !== null && missed !== "due" && now >= end.at + callLimits.endedKeptMs;

function changed(found: Call, moment: Moment, change: (draft: Draft) => void): Outcome {
  const draft: Draft = { ...moment, call: structuredClone(found), deliveries: [] };
  change(draft);
  draft.call.deadline = deadlineOf(draft.call, draft);
  const ended = found.state !== "ended" && draft.call.state === "ended" ? 1 : 0;
  return { put: [draft.call], forget: [], deliveries: draft.deliveries, ended };
}

function offer(calls: Call[], event: CallEvent & { type: "offer" }, moment: Moment): Outcome {
  const { from, offer: asked, calleeDeviceIds } = event;
  if (asked.toUserId === from.userId) {
    throw new ProtocolError("invalid_payload", "Nobody can call themselves.", { field: "payload.to_user_id" });
  }
  const calleeIsBusy = calls.some((call) => isAnswered(call.state) && sideOf(call, asked.toUserId) !== null);
  const known = calls.find((call) => call.callId === asked.callId);
  if (known) {
    if (!isRepetition(known, event)) throw new ProtocolError("call_conflict", "This call_id is another call's.");
    if (known.state === "ended") throw new ProtocolError("call_ended", "The call is over.");
    return { ...nothing(), offered: { call: known, calleeIsBusy } };
  }
  checkRoom(
    calls.filter((call) => call.caller.userId === from.userId),
    moment.now,
  );
  // Glare: both call each other, and both nodes must come to the same winner [CALL5].
  const opposite = calls.filter(
    ({ state, caller, callee }) =>
      state === "ringing" && caller.userId === asked.toUserId && callee.userId === from.userId,
  );
  const loses = opposite.some((call) => call.callId < asked.callId);
  const outcome = changed(newCall(from, asked, moment), moment, (draft) => {
    if (loses) return end(draft, { reason: "replaced" });
    for (const deviceId of calleeDeviceIds) ring(draft, deviceId);
    noteUnreached(draft);
  });
  outcome.offered = { call: outcome.put[0]!, calleeIsBusy };
  if (loses) return outcome;
  for (const call of opposite) {
    const replaced = changed(call, moment, (draft) => end(draft, { reason: "replaced" }));
    outcome.put.push(...replaced.put);
    outcome.ended += replaced.ended;
    outcome.deliveries.unshift(...replaced.deliveries);
  }
  return outcome;
}

/** Bounds what is kept of one caller: calls that go on, and those that ended just now. @throws ProtocolError */
function checkRoom(made: Call[], now: number): void {
  if (made.length < callLimits.callsPerCaller) return;
  const ends = made.flatMap(({ end }) => (end === null ? [] : [end.at]));
  if (ends.length === 0) throw new ProtocolError("limit_exceeded", "Too many calls at once: end some of yours first.");
  const retryAfterMs = Math.max(1, Math.min(...ends) + callLimits.endedKeptMs - now);
  throw new ProtocolError("rate_limited", "Too many calls within a minute.", { retryAfterMs });
}

function isRepetition(known: Call, { from, offer: asked }: CallEvent & { type: "offer" }): boolean {
  return (
    known.caller.userId === from.userId &&
    known.caller.deviceId === from.deviceId &&
    known.callee.userId === asked.toUserId &&
    known.conversationId === asked.conversationId &&
    known.media === asked.media &&
    known.sdp === asked.sdp
  );
}

function newCall({ userId, deviceId }: Device, asked: FirstOffer, { now }: Moment): Call {
  return {
    callId: asked.callId,
    state: "ringing",
    media: asked.media,
    conversationId: asked.conversationId,
    caller: { userId, deviceId, kept: [], offering: false },
    callee: { userId: asked.toUserId, deviceId: null, kept: [], offering: false },
    sdp: asked.sdp,
    createdAt: now,
    answeredAt: null,
    deadline: now,
    told: [{ side: "caller", deviceId, awaySince: null, state: "on", reason: null }],
    end: null,
    missed: "no",
  };
}

function happening(draft: Draft, event: CallHappening): void {
  const { call } = draft;
  switch (event.type) {
    case "connected":
    case "disconnected":
    case "left": {
      const side = sideOf(call, event.device.userId);
      if (side !== null) cameOrWent(draft, side, event);
      return;
    }
    case "stopped":
      if (call.state !== "ended") end(draft, { reason: "connection_lost" });
      return;
    case "due":
      due(draft, event.connected);
      return;
    case "missed_logged":
      if (call.missed === "due") call.missed = "logged";
      return;
    case "unreached_settled":
      if (call.unreached === "due") call.unreached = event.isTold ? "told" : undefined;
      return;
    default:
      assertNever(event);
  }
}

function cameOrWent(
  draft: Draft,
  side: Side,
  { type, device: { userId, deviceId } }: CallHappening & { type: "connected" | "disconnected" | "left" },
): void {
  const { call } = draft;
  const device = toldDevice(call, side, deviceId);
  const isParty = device !== undefined && call.state !== "ended" && isBound(call, device);
  if (type === "connected") {
    if (device) {
      // Any node may say it of a device that moves.
      if (draft.isHere({ userId, deviceId })) device.nodeId = draft.nodeId;
      markHere(draft, device);
    }
    if (call.state === "ringing" && side === "callee") ring(draft, deviceId);
    return;
  }
  if (device) markAway(draft, device);
  if (call.state === "ringing" && side === "callee") noteUnreached(draft);
  // A device that was only rung leaves the call to its other devices, and to those that come.
  if (type === "left" && isParty)
    end(draft, { reason: isAnswered(call.state) ? "hangup" : "cancelled", endedBy: userId });
}

function due(draft: Draft, connected: Record<Side, string[]>): void {
  const { call, now, settings } = draft;
  for (const device of call.told) {
    if (connected[device.side].includes(device.deviceId)) markHere(draft, device);
    // Only what the call depends on is taken for gone: a registry that has just lost its memory names nobody.
    else if (isAnswered(call.state) && isBound(call, device)) markAway(draft, device);
  }
  const lost = lostAt(call, settings);
  switch (call.state) {
    case "ringing":
      if (lost <= now && lost < ringsUntil(call, settings)) end(draft, { reason: "connection_lost" });
      else if (ringsUntil(call, settings) <= now) end(draft, { reason: "timeout" });
      else noteUnreached(draft, connected.callee.length > 0);
      return;
    case "connecting":
    case "active":
      if (lost <= now) end(draft, { reason: "connection_lost" });
      return;
    case "ended":
      return;
    default:
      assertNever(call.state);
  }
}
