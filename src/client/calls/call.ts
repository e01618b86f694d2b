/** Is one call with another user, as it is seen from this side: how it is, what is heard and seen, and what may be done with it [CALL]. */
import type { Clock, Unlisten } from "../core.ts";
import { ServerError } from "../errors.ts";
import { LiveValue } from "../ground/live.ts";
import type { ServerPayloads } from "../wire.ts";
import { LocalMedia } from "./local-media.ts";
import { Negotiation, type NegotiationOptions } from "./negotiation.ts";
import type { CallMedia, Rtc } from "./rtc.ts";

export type CallEndReason = ServerPayloads["call.ended"]["reason"];

export interface CallView {
  readonly id: string;
  readonly direction: "incoming" | "outgoing";
  readonly peerUserId: string;
  readonly conversationId: string | null;
  /**
   * `ringing`: nobody has answered; `connecting`: the two devices look for each other; `active`: they hear each other, or did and look for each
   * other again (`isReconnecting`); `ended`: for good.
   */
  readonly state: "ringing" | "connecting" | "active" | "ended";
  readonly isReconnecting: boolean;
  /** `video` where one of the two shows something, or will. */
  readonly media: CallMedia;
  /** Carry what this side sends, and what comes from the other: for the `srcObject` of an element. Other objects when their tracks are others. */
  readonly localStream: MediaStream | null;
  readonly remoteStream: MediaStream | null;
  readonly isCameraOn: boolean;
  readonly isMuted: boolean;
  /** The other is in a call already, where the server says so [CALL1]. */
  readonly busy: boolean;
  /** Milliseconds since 1970: when the two have heard each other first. */
  readonly activeSince: number | null;
  readonly endReason: CallEndReason | null;
  /** The user who has ended it, where somebody did. */
  readonly endedBy: string | null;
  /** Milliseconds since it was answered, as the server has measured it. */
  readonly durationMs: number | null;
  /** Tells what stood in the way of a call that has ended with `media_failed` or `error`. */
  readonly error: unknown;
}

/** Keeps what a page that is loaded anew goes on with. */
export interface CallMark extends Pick<CallView, "direction"> {
  media: CallMedia;
  isMuted: boolean;
  activeSince: number | null;
}

export interface CallFacts extends Pick<CallView, "id" | "direction" | "peerUserId" | "conversationId" | "media"> {
  /** Of an incoming one: what is to be answered, and how long. */
  sdp?: string;
  ringsForMs?: number;
  /** Of one that goes on in this page: whether it was answered, and what was kept of it. */
  goesOn?: { isAnswered: boolean; mark: CallMark | null };
}

export interface CallParts extends Pick<NegotiationOptions, "iceServers" | "ask"> {
  rtc: Rtc;
  clock: Clock;
  /** Has it live in this tab from now on. @returns false where it lives in another */
  take(call: Call): Promise<boolean>;
  /** To be written down for a page that is loaded anew. */
  onMark(call: Call, mark: CallMark): void;
  /** @param told the server does not know yet, and is to be told why; null: it does, or never knew of the call */
  onEnded(call: Call, told: CallEndReason | null): void;
}

type SignalType = "call.offer" | "call.answer" | "call.ice";
export type CallSignal = { [T in SignalType]: { type: T; payload: ServerPayloads[T] } }[SignalType];
type Ended = ServerPayloads["call.ended"];

/** Without a line nobody rings. */
const placedWithinMs = 60_000;
/** The word that it is over comes right after its absence was seen. */
const wordWithinMs = 2_000;

export class Call extends LiveValue<CallView> {
  readonly id: string;
  readonly #facts: CallFacts;
  readonly #parts: CallParts;
  readonly #local: LocalMedia;
  readonly #negotiation: Negotiation;
  #state: CallView["state"] = "ringing";
  #media: CallMedia;
  #isBusy = false;
  #activeSince: number | null = null;
  #end: { reason: CallEndReason; by: string | null; durationMs: number | null; error?: unknown } | null = null;
  /** Whether the server has it: `asked` where it may. */
  #isKnown: boolean | "asked";
  readonly #timers: Unlisten[] = [];

  constructor(facts: CallFacts, parts: CallParts) {
    super();
    const { id, media, goesOn } = facts;
    const { rtc, clock, iceServers, ask } = parts;
    this.id = id;
    this.#facts = facts;
    this.#parts = parts;
    this.#media = media;
    this.#isKnown = facts.direction === "incoming" || goesOn !== undefined;
    this.#local = new LocalMedia(rtc);
    this.#negotiation = new Negotiation({
      ...{ callId: id, rtc, clock, iceServers, ask, local: this.#local },
      media: () => this.#media,
      onChange: () => this.#noteConnection(),
      onFailed: (reason, error) => this.#hangUp(reason, error),
    });
    if (facts.direction === "outgoing")
      this.#after(placedWithinMs, () => this.#isKnown !== true && this.#hangUp("error"));
    if (facts.ringsForMs !== undefined)
      this.#after(facts.ringsForMs, () => this.#state === "ringing" && this.#finish("timeout"));
    if (goesOn !== undefined) this.#goOn(goesOn);
  }

  /** Gives another tab all that it needs to have it ring as well; null where it does not. */
  get toAnswer(): CallFacts | null {
    return this.#state === "ringing" && this.#facts.direction === "incoming" ? this.#facts : null;
  }

  /** Rings the other user. Called once, by whoever makes it. */
  async place(stream?: MediaStream): Promise<void> {
    const { peerUserId, conversationId, media } = this.#facts;
    void this.#parts.take(this);
    if (!(await this.#turnOn(media, stream))) return;
    try {
      const about = { to_user_id: peerUserId, media, conversation_id: conversationId ?? undefined };
      this.#isKnown = "asked";
      this.#isBusy = (await this.#negotiation.place(about)).busy === true;
      this.#isKnown = true;
      this.changed();
    } catch (error) {
      this.#failed(error);
    }
  }

  /**
   * Answers it, here and on no other device. Does nothing where it does not ring here any more.
   * @param options `media`: audio alone answers a video call without showing oneself; `stream`: one of your own, which stays on
   */
  async accept(options: { media?: CallMedia; stream?: MediaStream } = {}): Promise<void> {
    const { direction, sdp } = this.#facts;
    if (this.#state !== "ringing" || direction !== "incoming" || sdp === undefined) return;
    this.#state = "connecting";
    this.changed();
    if (!(await this.#parts.take(this))) return;
    if (!(await this.#turnOn(options.media ?? this.#media, options.stream))) return;
    try {
      await this.#negotiation.answer(sdp);
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Refuses it, for all devices of this user. */
  decline(reason: "declined" | "busy" = "declined"): void {
    if (this.#state === "ringing" && this.#facts.direction === "incoming") this.#hangUp(reason);
  }

  /** Ends it, or refuses it, or gives it up. */
  hangUp(): void {
    const whileRinging = this.#facts.direction === "incoming" ? "declined" : "cancelled";
    this.#hangUp(this.#state === "ringing" ? whileRinging : "hangup");
  }

  /** Shows oneself, or not any more: the call goes on. @throws what `getUserMedia` does, and the call goes on as it was */
  async setMedia(media: CallMedia): Promise<void> {
    if (this.#state === "ended") return;
    if (media === "video") await this.#local.turnOn("video");
    else this.#local.turnOffCamera();
    this.#media = media === "video" || this.#seesOther() ? "video" : "audio";
    this.#negotiation.noteLocalTracks();
    this.#noteLocal();
  }

  /** The other does not hear this side meanwhile. */
  setMuted(isMuted: boolean): void {
    this.#local.mute(isMuted);
    this.#noteLocal();
  }

  /** Hears what the server says of it. */
  take({ type, payload }: CallSignal): void {
    if (this.#state === "ended") return;
    if (type === "call.ice") return this.#negotiation.takeCandidates(payload.candidates);
    // An offer as well: the answer before it may have been lost.
    if (this.#state === "ringing") this.#state = "connecting";
    if (type === "call.offer") {
      this.#media = payload.media ?? this.#media;
      this.#negotiation.takeOffer(payload.sdp);
    } else this.#negotiation.takeAnswer(payload.sdp);
    this.changed();
  }

  noteEnded({ reason, ended_by, duration_ms }: Ended): void {
    this.#finish(reason);
    // Of one that was ended here the server knows how long it was.
    this.#end = { ...this.#end!, by: ended_by ?? null, durationMs: duration_ms ?? null };
    this.changed();
  }

  /** Lives in another tab from now on. */
  noteElsewhere(): void {
    this.#finish("answered_elsewhere");
  }

  /** Is told, after the line was away, how the server has it; `null`: not any more. What was said meanwhile is lost. */
  noteBack(state: "ringing" | "connecting" | "active" | null): void {
    if (this.#isKnown !== true || this.#state === "ended") return;
    if (state === null) this.#after(wordWithinMs, () => this.#finish("connection_lost"));
    else if (this.#state !== "ringing") this.#negotiation.comeBack();
    else if (state !== "ringing" && this.#facts.direction === "outgoing") {
      // The answer is among what is lost.
      this.#state = "connecting";
      this.#negotiation.rejoin();
      this.changed();
    }
  }

  /** Ends it where the client stops. */
  abandon(reason: CallEndReason): void {
    this.#finish(reason);
  }

  protected make(): CallView {
    const { id, direction, peerUserId, conversationId } = this.#facts;
    return {
      ...{ id, direction, peerUserId, conversationId },
      state: this.#state,
      isReconnecting: this.#state === "active" && !this.#negotiation.isConnected,
      media: this.#media,
      localStream: this.#local.stream,
      remoteStream: this.#negotiation.remoteStream,
      isCameraOn: this.#local.media === "video",
      isMuted: this.#local.isMuted,
      busy: this.#isBusy,
      activeSince: this.#activeSince,
      endReason: this.#end?.reason ?? null,
      endedBy: this.#end?.by ?? null,
      durationMs: this.#end?.durationMs ?? null,
      error: this.#end?.error ?? null,
    };
  }

  async #goOn({ isAnswered, mark }: NonNullable<CallFacts["goesOn"]>): Promise<void> {
    this.#activeSince = mark?.activeSince ?? null;
    this.#state = isAnswered ? "connecting" : "ringing";
    this.#local.mute(mark?.isMuted ?? false);
    // Answered by now, perhaps: then what there is between the two has nothing of this side.
    if ((await this.#turnOn(mark?.media ?? this.#media)) && this.#state !== "ringing") this.#negotiation.rejoin();
  }

  #after(waitMs: number, run: () => void): void {
    this.#timers.push(this.#parts.clock.after(waitMs, run));
  }

  /** @returns false where there is nothing to go on with */
  async #turnOn(media: CallMedia, stream?: MediaStream): Promise<boolean> {
    try {
      if (stream === undefined) await this.#local.turnOn(media);
      else this.#local.give(stream);
      this.#noteLocal();
    } catch (error) {
      this.#hangUp("media_failed", error);
    }
    // It may be over by now.
    return (this.#state as CallView["state"]) !== "ended";
  }

  #noteLocal(): void {
    if (this.#state === "ended") return;
    const { media, isMuted } = this.#local;
    const { direction } = this.#facts;
    this.#parts.onMark(this, { direction, media, isMuted, activeSince: this.#activeSince });
    this.changed();
  }

  #noteConnection(): void {
    if (this.#negotiation.isConnected && this.#state === "connecting") {
      this.#state = "active";
      this.#activeSince ??= this.#parts.clock.now();
      this.#noteLocal();
    }
    this.changed();
  }

  #seesOther(): boolean {
    return (this.#negotiation.remoteStream?.getVideoTracks().length ?? 0) > 0;
  }

  #failed(error: unknown): void {
    if (this.#state === "ended") return;
    const code = error instanceof ServerError ? error.code : null;
    // The word of how it ended comes by itself.
    if (code === "call_already_answered") this.#finish("answered_elsewhere");
    else if (code === "call_ended" || code === "call_not_found") this.#finish("cancelled");
    else this.#hangUp("error", error);
  }

  #hangUp(reason: CallEndReason, error?: unknown): void {
    this.#finish(reason, { error, told: this.#isKnown === false ? null : reason });
  }

  #finish(reason: CallEndReason, { error, told = null }: { error?: unknown; told?: CallEndReason | null } = {}): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#end = { reason, by: null, durationMs: null, error };
    for (const callOff of this.#timers) callOff();
    this.#negotiation.close();
    this.#local.stop();
    this.#parts.onEnded(this, told);
    this.changed();
  }
}
