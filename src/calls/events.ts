/** Declares what happens to calls, and what comes of it. */
import type { Call, Side } from "../cluster/call.ts";
import type { HangupReason } from "../protocol/fields.ts";
import type { ServerPayload } from "../protocol/server.ts";
import type { Delivery, Device } from "./record.ts";

export interface FirstOffer {
  callId: string;
  toUserId: string;
  conversationId: string | null;
  media: "audio" | "video";
  sdp: string;
}

/** Events that move a call: requests of clients, and what happens to their devices and to time. Every event but `offer` is about one call. */
export type CallEvent =
  | { type: "offer"; from: Device; offer: FirstOffer; calleeDeviceIds: string[] }
  | {
      type: "renegotiate";
      from: Device;
      connectedAt: number;
      callId: string;
      sdp: string;
      media: "audio" | "video" | null;
    }
  | { type: "answer"; from: Device; callId: string; sdp: string }
  | { type: "ice"; from: Device; callId: string; candidates: ServerPayload<"call.ice">["candidates"] }
  | { type: "hangup"; from: Device; callId: string; reason: HangupReason | null }
  | { type: "connected"; device: Device; callId: string }
  | { type: "disconnected"; device: Device; callId: string }
  /** The device has closed its connection with 1000: it means to be gone [CALL5]. */
  | { type: "left"; device: Device; callId: string }
  /** The only node that knows the call stops [CALL5]. */
  | { type: "stopped"; callId: string }
  /** The call's deadline has come; `connected` are the devices that each party has on any node. */
  | { type: "due"; callId: string; connected: Record<Side, string[]> }
  | { type: "missed_logged"; callId: string }
  /** Backends have been told that the callee has no device, or it has one by now [BAK3]. */
  | { type: "unreached_settled"; callId: string; isTold: boolean };

export interface Outcome {
  put: Call[];
  /** Ids of calls that are over and done with. */
  forget: string[];
  /** To be sent once `put` is stored, in this order. */
  deliveries: Delivery[];
  /** How many of `put` are over by this event. */
  ended: number;
  /** Of a first offer, sent again or not: the call as it is then, and whether its callee is in another one. */
  offered?: { call: Call; calleeIsBusy: boolean };
}

/** Request of a client in a call that exists. */
export type CallRequest = CallEvent & { type: "renegotiate" | "answer" | "ice" | "hangup" };
/** Event that no client has asked for; it is never refused. */
export type CallHappening = CallEvent & {
  type: "connected" | "disconnected" | "left" | "stopped" | "due" | "missed_logged" | "unreached_settled";
};
