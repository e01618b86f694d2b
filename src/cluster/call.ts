/** A call as all nodes see it [CALL]. */
import type { EndReason } from "../protocol/fields.ts";

export type CallState = "ringing" | "connecting" | "active" | "ended";

export interface Party {
  userId: string;
  /** The bound device; the callee has none before it answers. */
  deviceId: string | null;
  /** Since when (ms) the bound device has been away; null while it is here [CALL5]. */
  awaySince: number | null;
  /** What the other side sent before this side could be told: at most 128 candidates, `null` for their end [CALL3]. */
  candidatesKept: unknown[];
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
  /** When somebody must look at it next (ms): ring timeout, a device that stays away, or forgetting an ended call. */
  deadline: number;
  /** Every device (`<user>/<device>`) that was told of the call, and whether it was told of its end [CALL4]. */
  told: Record<string, "on" | "ended">;
  end: { reason: EndReason; endedBy: string | null; at: number } | null;
}
