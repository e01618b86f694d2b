/** Applies what the parties of a call may ask for, state by state. */
import type { Call, Side } from "../cluster/call.ts";
import { assertNever } from "../ground/assert.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { EndReason, HangupReason } from "../protocol/fields.ts";
import type { ServerPayload } from "../protocol/server.ts";
import type { CallRequest } from "./events.ts";
import {
  addTold,
  type Device,
  type Draft,
  end,
  flushKept,
  isBound,
  otherSide,
  relay,
  sideOf,
  tellEnd,
} from "./record.ts";

/**
 * A request in a call that exists; those who are no party to it are turned away here.
 * @throws ProtocolError with the calls' own codes [CALL2] [CALL3] [CALL4]
 */
export function request(draft: Draft, event: CallRequest): void {
  const { call } = draft;
  const side = sideOf(call, event.from.userId);
  if (side === null) throw notAParty();
  const from = { side, ...event.from };
  switch (call.state) {
    case "ringing":
      // The caller's other devices know nothing of the call; each of the callee's may take it.
      if (side === "caller" && !isBound(call, from)) throw notAParty();
      whileRinging(draft, event, from);
      return;
    case "connecting":
    case "active":
      if (!isBound(call, from)) {
        if (event.type === "answer" && side === "callee") throw alreadyAnswered();
        throw notAParty();
      }
      onceAnswered(draft, event, from);
      return;
    case "ended":
      throw new ProtocolError("call_ended", "The call is over.");
    default:
      assertNever(call.state);
  }
}

type Sender = Device & { side: Side };

function whileRinging(draft: Draft, event: CallRequest, from: Sender): void {
  switch (event.type) {
    case "renegotiate":
      throw new ProtocolError("call_conflict", "The call has not been answered yet.");
    case "answer":
      if (from.side === "caller") throw notAParty();
      bind(draft, from, event.sdp);
      return;
    case "ice":
      // A callee's device may gather before it answers; only what the one that answers has sent is delivered.
      mustKnow(draft, from);
      relay(draft, from, iceSignal(draft.call, from, event.candidates));
      return;
    case "hangup":
      mustKnow(draft, from);
      if (from.side === "caller") end(draft, { reason: "cancelled", endedBy: from.userId });
      else decline(draft, from, event.reason === "busy" ? "busy" : "declined");
      return;
    default:
      assertNever(event);
  }
}

/** The first answer wins: its device and the caller's are bound, the callee's other devices are done [CALL2]. */
function bind(draft: Draft, from: Sender, sdp: string): void {
  const { call, now } = draft;
  mustKnow(draft, from);
  call.state = "connecting";
  call.answeredAt = now;
  call.callee.answerSdp = sdp;
  call.callee.deviceId = from.deviceId;
  const early = call.caller.kept.filter((kept) => kept.fromDeviceId === from.deviceId);
  call.caller.kept = [];
  relay(draft, from, {
    type: "call.answer",
    payload: { call_id: call.callId, from_user_id: from.userId, from_device_id: from.deviceId, sdp },
  });
  for (const { fromDeviceId: _, ...signal } of early) relay(draft, from, signal);
  flushKept(draft, "callee");
  for (const device of call.told) {
    if (device.side === "callee" && device.deviceId !== from.deviceId) tellEnd(draft, device, "answered_elsewhere");
  }
}

function decline(draft: Draft, from: Sender, reason: "declined" | "busy"): void {
  end(draft, { reason, endedBy: from.userId }, (device) =>
    device.side === "caller" || device.deviceId === from.deviceId ? reason : "declined_elsewhere",
  );
}

function onceAnswered(draft: Draft, event: CallRequest, from: Sender): void {
  const { call, now } = draft;
  const peer = call[otherSide(from.side)];
  switch (event.type) {
    case "renegotiate":
      // An offer to a page before this one is lost with it, and will never be answered.
      if (peer.offering && (peer.offeredAt ?? 0) >= event.connectedAt) {
        throw new ProtocolError("call_conflict", "The other side has made an offer already: answer that one.");
      }
      peer.offering = false;
      Object.assign(call[from.side], { offering: true, offeredAt: now });
      if (event.media !== null) call.media = event.media;
      relay(draft, from, {
        type: "call.offer",
        payload: {
          call_id: call.callId,
          from_user_id: from.userId,
          ...(event.media === null ? {} : { media: event.media }),
          sdp: event.sdp,
        },
      });
      break;
    case "answer":
      if (peer.offering) {
        peer.offering = false;
        call[from.side].answerSdp = event.sdp;
        relay(draft, from, {
          type: "call.answer",
          payload: {
            call_id: call.callId,
            from_user_id: from.userId,
            from_device_id: from.deviceId,
            sdp: event.sdp,
          },
        });
        break;
      }
      // It asks again because it missed its reply.
      if (event.sdp === call[from.side].answerSdp) return;
      throw new ProtocolError("call_conflict", "There is no offer to answer.");
    case "ice":
      relay(draft, from, iceSignal(call, from, event.candidates));
      break;
    case "hangup":
      end(draft, { reason: reasonOnceAnswered(event.reason), endedBy: from.userId });
      return;
    default:
      assertNever(event);
  }
  // The first signal after the answer proves that the two devices have found each other.
  call.state = "active";
}

function reasonOnceAnswered(reason: HangupReason | null): EndReason {
  switch (reason) {
    case "ice_failed":
    case "media_failed":
    case "error":
      return reason;
    case "hangup":
    case "cancelled":
    case "declined":
    case "busy":
    case null:
      return "hangup";
    default:
      return assertNever(reason);
  }
}

/** A callee's device that takes part in the call is one that was told, even where it was not. */
function mustKnow({ call }: Draft, from: Sender): void {
  if (!addTold(call, from.side, from.deviceId)) throw new ProtocolError("limit_exceeded", "Too many devices.");
}

const iceSignal = (call: Call, from: Sender, candidates: ServerPayload<"call.ice">["candidates"]) =>
  ({ type: "call.ice", payload: { call_id: call.callId, from_user_id: from.userId, candidates } }) as const;

const notAParty = () => new ProtocolError("not_a_party", "This device is not in the call.");
const alreadyAnswered = () => new ProtocolError("call_already_answered", "Another device has answered.");
