/** Calls as a device makes and takes them: it offers, answers or declines, and always hangs up what it began. */
import type { Received } from "../client.ts";
import type { Device } from "./device.ts";
import type { Random } from "./random.ts";

const answerDelayMs = { least: 5, most: 150 };
const callLengthMs = { least: 50, most: 1_000 };
/** Replies after which there is nothing left to hang up. */
const over = new Set(["call_not_found", "call_ended", "not_a_party"]);

export class CallFlow {
  /** Calls that this device began and that are not known to be over. */
  readonly begun = new Set<string>();

  constructor(
    private readonly device: Device,
    private readonly random: Random,
  ) {}

  async offer({ toUserId, conversationId }: { toUserId: string; conversationId: string }): Promise<void> {
    if (this.begun.size > 0) return;
    const callId = crypto.randomUUID();
    this.begun.add(callId);
    const reply = await this.device.request("call.offer", {
      call_id: callId,
      to_user_id: toUserId,
      conversation_id: conversationId,
      media: "audio",
      sdp: `offer of ${this.device.deviceId}`,
    });
    if (reply?.type === "error") this.begun.delete(callId);
    else this.#later(callLengthMs, () => this.hangUp(callId));
  }

  async hangUp(callId: string): Promise<void> {
    if (!this.begun.has(callId)) return;
    const reply = await this.device.request("call.hangup", { call_id: callId });
    // Without a reply it is done again before the run comes to rest.
    if (reply?.type === "ack" || over.has(reply?.payload.code)) this.begun.delete(callId);
  }

  note({ type, payload, seq }: Received): void {
    if (seq !== undefined) return;
    switch (type) {
      case "call.incoming":
        if (this.random.chance(0.6)) this.#later(answerDelayMs, () => this.#respond(payload.call_id));
        return;
      case "call.answer":
        void this.device.request("call.ice", {
          call_id: payload.call_id,
          candidates: [{ candidate: "candidate", sdpMid: "0", sdpMLineIndex: 0 }],
        });
        return;
      case "call.ended":
        this.begun.delete(payload.call_id);
        return;
    }
  }

  async #respond(callId: string): Promise<void> {
    if (this.random.chance(0.2)) {
      await this.device.request("call.hangup", { call_id: callId, reason: "declined" });
      return;
    }
    const sdp = `answer of ${this.device.deviceId}`;
    const reply = await this.device.request("call.answer", { call_id: callId, sdp });
    if (reply?.type === "ack" && this.random.chance(0.3))
      this.#later(callLengthMs, () => this.device.request("call.hangup", { call_id: callId }));
  }

  #later({ least, most }: { least: number; most: number }, run: () => unknown): void {
    setTimeout(() => void run(), this.random.between(least, most)).unref();
  }
}
