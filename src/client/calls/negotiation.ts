/** Keeps the connection between the two devices of a call: offers, answers and candidates, one after the other, over cuts and pages that are loaded anew [CALL1] [CALL3] [CALL7]. */
import type { Clock, Unlisten } from "../core.ts";
import { ServerError } from "../errors.ts";
import type { ClientPayloads, ServerPayloads } from "../wire.ts";
import { Candidates } from "./candidates.ts";
import type { LocalMedia } from "./local-media.ts";
import type { CallMedia, Rtc } from "./rtc.ts";

type Signal = "call.offer" | "call.answer" | "call.ice";

export interface NegotiationOptions {
  callId: string;
  rtc: Rtc;
  iceServers(): Promise<RTCIceServer[]>;
  clock: Clock;
  local: LocalMedia;
  /** Asks until there is an answer, or the signal says that none is needed any more. @throws ServerError */
  ask<T extends Signal>(type: T, payload: ClientPayloads[T], signal: AbortSignal): Promise<ServerPayloads["ack"]>;
  /** Tells what the call is by now. */
  media(): CallMedia;
  /** The state of the connection, or what comes from the other side, is another. */
  onChange(): void;
  /** It cannot go on: the devices do not find each other, or something is wrong. */
  onFailed(reason: "ice_failed" | "error", error?: unknown): void;
}

/** A connection that fails for a moment is left to heal itself. */
const healsWithinMs = 2_000;
/** And one that does not come back is given up. */
const lostAfterMs = 30_000;
const answerWithinMs = 10_000;
const anewMost = 5;

export class Negotiation {
  readonly #options: NegotiationOptions;
  readonly #over = new AbortController();
  readonly #candidates: Candidates;
  #peer: RTCPeerConnection | null = null;
  /** Names the other page's connection: another one is of a page that was loaded anew. */
  #session: string | null = null;
  /** From the first answer on, offers are renegotiations. */
  #isAgreed = false;
  /** An answer that comes meanwhile is one to an offer before. */
  #isOffering = false;
  #anewCount = 0;
  #remoteStream: MediaStream | null = null;
  #line: Promise<unknown> = Promise.resolve();
  #timers: Partial<Record<"heal" | "lost" | "answer", Unlisten>> = {};

  constructor(options: NegotiationOptions) {
    this.#options = options;
    const { clock, callId } = options;
    const send = (candidates: ClientPayloads["call.ice"]["candidates"]) =>
      this.#ask("call.ice", { call_id: callId, candidates });
    this.#candidates = new Candidates({ clock, send });
  }

  /** Another one when its tracks are others. */
  get remoteStream(): MediaStream | null {
    return this.#remoteStream;
  }

  get isConnected(): boolean {
    return this.#peer?.connectionState === "connected";
  }

  /** Makes the first offer. @throws ServerError the call is refused */
  place(about: Omit<ClientPayloads["call.offer"], "call_id" | "sdp">): Promise<ServerPayloads["ack"]> {
    return this.#inOrder(async () => {
      await this.#begin();
      return this.#offer(about);
    });
  }

  /** Answers the first offer. @throws ServerError another device was first */
  answer(sdp: string): Promise<void> {
    return this.#inOrder(async () => {
      await this.#begin();
      await this.#accept(sdp);
    });
  }

  /** Offers with a new connection, where this page knows nothing of the one there was. */
  rejoin(): void {
    this.#isOffering = true;
    this.#later(() => this.#beginAnew());
  }

  /** The line was away, and what was said meanwhile is lost. */
  comeBack(): void {
    this.#callOff("lost");
    if (!this.isConnected) this.#waitUntilLost();
    this.restart();
  }

  /** Looks for each other anew: the network is another. */
  restart(): void {
    this.#later(async () => {
      this.#peer?.restartIce();
      await this.#renegotiate();
    });
  }

  /** Sends what is there now, and the other side is told of it. */
  noteLocalTracks(): void {
    this.#later(async () => this.#sendTracks());
  }

  takeOffer(sdp: string): void {
    this.#later(async () => {
      // The other page was loaded anew: nothing of the old connection fits.
      if (this.#peer === null || (this.#session !== null && this.#session !== sessionOf(sdp))) await this.#begin();
      await this.#orAnew(() => this.#accept(sdp));
    });
  }

  takeAnswer(sdp: string): void {
    if (this.#isOffering) return;
    this.#later(async () => {
      if (this.#peer === null) return this.#beginAnew();
      // One that is not waited for was for the page before this one.
      if (this.#peer.signalingState !== "have-local-offer") return;
      // The offer has waited for a page that is gone by now, and the next one has answered it.
      if (this.#session !== null && this.#session !== sessionOf(sdp)) return this.#beginAnew();
      await this.#orAnew(async () => {
        await this.#peer!.setRemoteDescription({ type: "answer", sdp });
        this.#agree(sdp);
      });
    });
  }

  takeCandidates(candidates: ServerPayloads["call.ice"]["candidates"]): void {
    this.#later(async () => {
      if (!this.#peer?.remoteDescription) return;
      for (const it of candidates ?? []) {
        const candidate = typeof it === "string" ? { candidate: it, sdpMLineIndex: 0 } : (it as RTCIceCandidateInit);
        // Some may be of a connection before this one.
        await this.#peer?.addIceCandidate(candidate).catch(() => {});
      }
    });
  }

  close(): void {
    this.#over.abort();
    this.#drop();
    this.#remoteStream = null;
  }

  #ask<T extends Signal>(type: T, payload: ClientPayloads[T]): Promise<ServerPayloads["ack"]> {
    return this.#options.ask(type, payload, this.#over.signal);
  }

  /** Nothing comes between an offer and its answer by the server. */
  #inOrder<Result>(run: () => Promise<Result>): Promise<Result> {
    const done = this.#line.then(() => {
      this.#over.signal.throwIfAborted();
      return run();
    });
    this.#line = done.catch(() => {});
    return done;
  }

  #later(run: () => Promise<unknown>): void {
    this.#inOrder(run).catch((error) => {
      if (!this.#over.signal.aborted) this.#options.onFailed("error", error);
    });
  }

  async #begin(): Promise<void> {
    const { rtc, iceServers } = this.#options;
    const configuration = { iceServers: await iceServers() };
    this.#over.signal.throwIfAborted();
    this.#drop();
    const peer = new rtc.RTCPeerConnection(configuration);
    this.#peer = peer;
    this.#session = null;
    this.#isAgreed = false;
    const listen = (type: string, listener: (event: unknown) => void) =>
      peer.addEventListener(type, (event) => peer === this.#peer && listener(event));
    listen("icecandidate", (event) => this.#candidates.add((event as RTCPeerConnectionIceEvent).candidate));
    listen("negotiationneeded", () => this.#later(() => this.#renegotiate()));
    listen("connectionstatechange", () => this.#noteState());
    this.#sendTracks();
  }

  #drop(): void {
    for (const callOff of Object.values(this.#timers)) callOff();
    this.#timers = {};
    this.#candidates.clear();
    this.#peer?.close();
    this.#peer = null;
  }

  #sendTracks(): void {
    const { tracks, group } = this.#options.local;
    const peer = this.#peer;
    if (peer === null) return;
    const senders = peer.getSenders();
    for (const sender of senders) if (sender.track !== null && !tracks.includes(sender.track)) peer.removeTrack(sender);
    for (const track of tracks) if (!senders.some((sender) => sender.track === track)) peer.addTrack(track, group);
  }

  /** Leaves nothing of what the two pages have agreed on, which does not fit any more. */
  async #beginAnew(): Promise<void> {
    if (++this.#anewCount > anewMost) throw new Error("The two sides do not come to terms.");
    await this.#begin();
    await this.#offerAgain();
    this.#options.onChange();
  }

  async #orAnew(run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      if (error instanceof ServerError || this.#over.signal.aborted) throw error;
      await this.#beginAnew();
    }
  }

  async #renegotiate(): Promise<void> {
    // The first offer is made by whoever begins, and one that is under way is waited for.
    if (this.#isAgreed && this.#peer?.signalingState === "stable") await this.#offerAgain();
  }

  async #offerAgain(): Promise<void> {
    this.#isOffering = true;
    try {
      await this.#offer({ media: this.#options.media() });
    } catch (error) {
      // The other side's offer is on its way, or the end: what is still needed then is asked for again.
      if (!isOneOf(error, ["call_conflict", "call_ended", "call_not_found"])) throw error;
      this.#isOffering = false;
      return;
    }
    this.#wait("answer", answerWithinMs, () =>
      this.#later(async () => {
        if (this.#peer?.signalingState !== "have-local-offer") return;
        await this.#peer.setLocalDescription({ type: "rollback" });
        this.#peer.restartIce();
        await this.#offerAgain();
      }),
    );
  }

  /** Takes an offer up only once the server has it: a conflict leaves nothing to be taken back. */
  async #offer(about: Omit<ClientPayloads["call.offer"], "call_id" | "sdp">): Promise<ServerPayloads["ack"]> {
    const peer = this.#peer!;
    const offer = await peer.createOffer();
    const reply = await this.#ask("call.offer", { call_id: this.#options.callId, sdp: offer.sdp!, ...about });
    this.#isOffering = false;
    await peer.setLocalDescription(offer);
    return reply;
  }

  async #accept(sdp: string): Promise<void> {
    const peer = this.#peer!;
    await peer.setRemoteDescription({ type: "offer", sdp });
    const wasAgreed = this.#isAgreed || this.#session !== null;
    const answer = await peer.createAnswer();
    try {
      await this.#ask("call.answer", { call_id: this.#options.callId, sdp: answer.sdp! });
    } catch (error) {
      // An answer to the page before has been taken for one to this offer.
      if (isOneOf(error, ["call_conflict"])) return this.#beginAnew();
      if (wasAgreed && isOneOf(error, ["call_ended", "call_not_found"])) return;
      throw error;
    }
    await peer.setLocalDescription(answer);
    this.#agree(sdp);
  }

  #agree(sdp: string): void {
    this.#session = sessionOf(sdp);
    this.#isAgreed = true;
    this.#anewCount = 0;
    this.#callOff("answer");
    if (!this.isConnected) this.#waitUntilLost();
    this.#showRemote();
    this.#options.onChange();
  }

  #showRemote(): void {
    const tracks = this.#peer!.getTransceivers().flatMap(({ currentDirection, receiver }) =>
      currentDirection === "sendrecv" || currentDirection === "recvonly" ? [receiver.track] : [],
    );
    const shown = this.#remoteStream?.getTracks() ?? [];
    if (tracks.length === shown.length && tracks.every((track) => shown.includes(track))) return;
    this.#remoteStream = new this.#options.rtc.MediaStream(tracks);
  }

  #noteState(): void {
    const state = this.#peer!.connectionState;
    if (state === "connected") {
      this.#callOff("heal");
      this.#callOff("lost");
    } else if (state === "disconnected") {
      this.#wait("heal", healsWithinMs, () => this.restart());
      this.#waitUntilLost();
    } else if (state === "failed") {
      this.restart();
      this.#waitUntilLost();
    }
    this.#options.onChange();
  }

  #waitUntilLost(): void {
    if (!this.#timers.lost) this.#wait("lost", lostAfterMs, () => this.#options.onFailed("ice_failed"));
  }

  #wait(timer: "heal" | "lost" | "answer", waitMs: number, run: () => void): void {
    this.#callOff(timer);
    this.#timers[timer] = this.#options.clock.after(waitMs, () => {
      delete this.#timers[timer];
      run();
    });
  }

  #callOff(timer: "heal" | "lost" | "answer"): void {
    this.#timers[timer]?.();
    delete this.#timers[timer];
  }
}

/** The second field of `o=`, which each connection makes for itself. */
const sessionOf = (sdp: string) => /^o=\S+ (\S+)/m.exec(sdp)?.[1] ?? "";

const isOneOf = (error: unknown, codes: ServerError["code"][]) =>
  error instanceof ServerError && codes.includes(error.code);
