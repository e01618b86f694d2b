/** Defines a call as all nodes see it [CALL]: plain JSON data, changed only by the state machine in `calls/`. */
import type { EndReason } from "../protocol/fields.ts";
import type { ServerPayload } from "../protocol/server.ts";

export type CallState = "ringing" | "connecting" | "active" | "ended";
export type Side = "caller" | "callee";

/** Signal that one bound device sends the other. */
export type Signal = {
  [Type in "call.offer" | "call.answer" | "call.ice"]: { type: Type; payload: ServerPayload<Type> };
}["call.offer" | "call.answer" | "call.ice"];

export interface Party {
  userId: string;
  /** The bound device; the callee has none before it answers. */
  deviceId: string | null;
  /** Signals that wait for this side until the devices are bound, or until its bound device is back; bounded [CALL3] [CALL5]. */
  kept: (Signal & { fromDeviceId: string })[];
  /** This side has sent a renegotiation offer that the other has not answered. */
  offering: boolean;
  /** When (ms) that offer was sent to the other's device: a page that was loaded since knows nothing of it [CALL7]. */
  offeredAt?: number;
  /** The answer that this side has given last, to know its repetition. */
  answerSdp?: string;
}

/** A device that was told of the call, or has made it. */
export interface ToldDevice {
  side: Side;
  deviceId: string;
  /** Since when (ms) it has been away; null while it is here [CALL5]. */
  awaySince: number | null;
  /** The node that its newest connection came to, where that is known. */
  nodeId?: string;
  /** `owed`: the call is over for it, and the node that has it by then is still to tell it so [CALL4]. */
  state: "on" | "owed" | "ended";
  /** Why it is over for this device; null while it goes on. */
  reason: EndReason | null;
}

export interface Call {
  callId: string;
  state: CallState;
  media: "audio" | "video";
  conversationId: string | null;
  caller: Party & { deviceId: string };
  callee: Party;
  /** The first offer, for devices that connect while it rings. */
  sdp: string;
  createdAt: number;
  answeredAt: number | null;
  /**
   * When somebody must look at it next (ms): ring timeout, a device that stays away, whether bound devices are still
   * connected, a missed call that is to be logged, or forgetting an ended call. Every call has one.
   */
  deadline: number;
  /** In the order in which they were told. */
  told: ToldDevice[];
  end: { reason: EndReason; endedBy: string | null; at: number } | null;
  /** Whether the callee's log must hold the call as missed [CALL6], and whether it does. */
  missed: "no" | "due" | "logged";
  /** Nothing rings at the callee, and backends are to hear of it, or have heard, so that they wake its devices [BAK3]. */
  unreached?: "due" | "told" | undefined;
}
