/** Has all calls of this device that ring here or live in this tab, and gives each what the server says of it [CALL]. */
import type { Clock, ConnectionState, Core, News, SubscribedTopic, Unlisten } from "../core.ts";
import { ClientError, ServerError } from "../errors.ts";
import { newId } from "../ground/ids.ts";
import { LiveValue } from "../ground/live.ts";
import type { ClientPayloads, ServerPayloads } from "../wire.ts";
import { Call, type CallEndReason, type CallFacts, type CallParts, type CallSignal } from "./call.ts";
import { type CallMedia, type CallsOptions, rtcOf } from "./rtc.ts";
import { type CallTabMessage, CallTabs } from "./tabs.ts";

export interface PlaceOptions {
  media: CallMedia;
  /** Where the two share it; the other sees what the call is about. */
  conversationId?: string;
  /** One of your own, which stays on when the call is over; else microphone and camera are asked for. */
  stream?: MediaStream;
}

type Signal = { [T in CallEventType]: { type: T; payload: ServerPayloads[T]; timestamp: string } }[CallEventType];
type CallEventType = "call.incoming" | "call.ended" | CallSignal["type"];
type Found = NonNullable<NonNullable<SubscribedTopic["snapshot"]>["calls"]>[number];

/** The server gives it up after 30 s. */
const endWithinMs = 40_000;
const againMs = 1_000;
/** The word of how a call has ended comes right after the answer. */
const wordWithinMs = 2_000;
/** A second sending of a signal does no harm, and a line that comes back is waited for. */
const passing: ReadonlySet<string> = new Set(["connection_lost", "lead_lost", "timeout", "too_many_requests"]);

export class Calls extends LiveValue<readonly Call[]> {
  readonly #core: Core;
  readonly #clock: Clock;
  readonly #onCall: (call: Call) => void;
  readonly #onError: (error: unknown) => void;
  readonly #parts: CallParts;
  readonly #calls = new Map<string, Call>();
  readonly #tabs: CallTabs;
  /** Calls of other tabs, which are ended when those are gone. */
  readonly #elsewhere = new Map<string, AbortController>();
  readonly #held = new Map<string, Unlisten>();
  /** Also those of other tabs, and one that this tab still waits for. */
  readonly #answered = new Set<string>();
  #wasAway = false;

  /** @param options `onCall` is told of one that rings, and of one that goes on in a page that was loaded anew */
  constructor(
    options: CallsOptions & {
      core: Core;
      url: string;
      clock: Clock;
      onCall(call: Call): void;
      onError(error: unknown): void;
    },
  ) {
    super();
    const { core, url, clock, rtc, iceServers = [] } = options;
    this.#core = core;
    this.#clock = clock;
    this.#onCall = options.onCall;
    this.#onError = options.onError;
    const scope = () => `${url} ${core.userId} ${core.deviceId}`;
    this.#tabs = new CallTabs(scope, (message) => this.#hear(message));
    this.#parts = {
      rtc: rtcOf(rtc),
      clock,
      iceServers: async () => {
        try {
          return typeof iceServers === "function" ? await iceServers() : iceServers;
        } catch (error) {
          // In one network it goes without.
          this.#onError(error);
          return [];
        }
      },
      ask: (type, payload, signal) => this.#ask(type, payload, signal),
      take: (call) => this.#hold(call.id, false),
      onMark: (call, mark) => this.#held.has(call.id) && this.#tabs.mark(call.id, mark),
      onEnded: (call, told) => {
        this.#letGo(call.id);
        if (told === null) this.#calls.delete(call.id);
        // Until the server has it, it may say of the call that it rings; and then it says how long it was.
        else this.#tellEnd(call.id, told).finally(() => clock.after(wordWithinMs, () => this.#calls.delete(call.id)));
      },
    };
    // So that a tab is told which calls there are, also where the connection has been there for long.
    core.follow(["calls"]);
  }

  place(userId: string, { media, conversationId, stream }: PlaceOptions): Call {
    const id = newCallId();
    const facts = {
      id,
      direction: "outgoing",
      peerUserId: userId,
      conversationId: conversationId ?? null,
      media,
    } as const;
    const call = this.#add(facts);
    void call.place(stream);
    return call;
  }

  take(news: News): void {
    // A missed call is in the log as well: that is no signal.
    if (news.kind === "event" && news.event.type.startsWith("call.") && news.event.topic === undefined)
      this.#takeEvent(news.event as unknown as Signal);
    else if (news.kind === "subscribed") {
      const topic = news.topics.find(({ topic }) => topic.startsWith("calls:"));
      if (topic?.snapshot?.calls !== undefined) this.#takeSnapshot(topic.snapshot.calls);
    } else if (news.kind === "forgotten") this.#abandon("hangup");
  }

  noteState({ status }: ConnectionState): void {
    if (status !== "live") this.#wasAway = true;
    if (status === "stopped") this.#abandon("connection_lost");
  }

  /** Hangs up whatever is on in this tab: the client stops. */
  hangUp(): void {
    for (const call of this.current) if (this.#held.has(call.id)) call.hangUp();
    this.#abandon("hangup");
  }

  protected make(): readonly Call[] {
    return [...this.#calls.values()].filter((call) => call.current.state !== "ended");
  }

  #add(facts: CallFacts): Call {
    const call = new Call(facts, this.#parts);
    this.#calls.set(call.id, call);
    this.changed();
    return call;
  }

  #takeEvent({ type, payload, timestamp }: Signal): void {
    if (type === "call.incoming") return this.#ring(payload, Date.parse(payload.expires_at) - Date.parse(timestamp));
    const call = this.#calls.get(payload.call_id);
    if (type === "call.ended") {
      this.#forgetElsewhere(payload.call_id);
      call?.noteEnded(payload);
      this.#calls.delete(payload.call_id);
      this.#answered.delete(payload.call_id);
    } else {
      if (type === "call.answer") this.#answered.add(payload.call_id);
      call?.take({ type, payload } as CallSignal);
    }
  }

  #ring(incoming: ServerPayloads["call.incoming"], ringsForMs: number): void {
    const { call_id: id, from_user_id, conversation_id, media, sdp } = incoming;
    const facts = { id, direction: "incoming", peerUserId: from_user_id, media, sdp, ringsForMs } as const;
    this.#show({ ...facts, conversationId: conversation_id ?? null });
  }

  #hear(message: CallTabMessage): void {
    switch (message.kind) {
      case "taken":
        return this.#leaveToOther(message.callId);
      case "wanted": {
        const facts = this.#calls.get(message.callId)?.toAnswer;
        if (facts != null) this.#tabs.post({ kind: "rings", facts });
        return;
      }
      case "rings":
        return this.#show(message.facts);
    }
  }

  #show(facts: CallFacts): void {
    if (!this.#calls.has(facts.id) && !this.#elsewhere.has(facts.id)) this.#onCall(this.#add(facts));
  }

  #takeSnapshot(found: readonly Found[]): void {
    const ids = new Set(found.map(({ call_id }) => call_id));
    if (this.#wasAway)
      for (const call of this.#calls.values()) call.noteBack(found.find((it) => it.call_id === call.id)?.state ?? null);
    this.#wasAway = false;
    for (const id of [...this.#elsewhere.keys()]) if (!ids.has(id)) this.#forgetElsewhere(id);
    for (const it of found) {
      if (it.state !== "ringing") {
        this.#answered.add(it.call_id);
        // Another tab has answered what this one was told late.
        if (this.#calls.get(it.call_id)?.toAnswer) this.#leaveToOther(it.call_id);
      }
      if (this.#calls.has(it.call_id) || this.#elsewhere.has(it.call_id)) continue;
      // One that rings here is told by its `call.incoming`, with what is to be answered: to this tab, or to one that was there before.
      if (it.state === "ringing" && it.peer_device_id !== undefined)
        this.#tabs.post({ kind: "wanted", callId: it.call_id });
      else void this.#goOn(it);
    }
  }

  /** A call that this page knows nothing of: it was of the page before, or is of another tab. */
  async #goOn({ call_id: id, state, peer_user_id, conversation_id, media }: Found): Promise<void> {
    const mark = this.#tabs.markOf(id);
    // Until it is known whose it is.
    this.#elsewhere.set(id, new AbortController());
    // It is waited for already: in between, what was told was from before the call.
    if (this.#held.has(id)) return;
    const isOwn = mark !== null || !this.#tabs.isShared;
    const isHere = isOwn && (await this.#hold(id, true));
    const watch = this.#elsewhere.get(id);
    if (!isHere) return watch && this.#watch(id, watch);
    this.#elsewhere.delete(id);
    if (watch === undefined) return this.#letGo(id);
    const direction = mark?.direction ?? (state === "ringing" ? "outgoing" : "incoming");
    const facts = { id, direction, peerUserId: peer_user_id, conversationId: conversation_id ?? null, media } as const;
    this.#onCall(this.#add({ ...facts, goesOn: { isAnswered: this.#answered.has(id), mark } }));
  }

  #leaveToOther(id: string): void {
    if (this.#held.has(id)) return;
    this.#calls.get(id)?.noteElsewhere();
    this.#calls.delete(id);
    if (this.#elsewhere.has(id)) return;
    const watch = new AbortController();
    this.#elsewhere.set(id, watch);
    this.#watch(id, watch);
  }

  /** Ends it once its tab is gone. */
  #watch(id: string, { signal }: AbortController): void {
    this.#tabs.left(id, signal).then(
      () => {
        this.#elsewhere.delete(id);
        void this.#tellEnd(id, "hangup");
      },
      (error) => signal.aborted || this.#onError(error),
    );
  }

  async #hold(id: string, isBack: boolean): Promise<boolean> {
    // Known at once: it is this tab's, whatever the others are told meanwhile.
    this.#held.set(id, () => {});
    const release = await this.#tabs.take(id, isBack);
    if (release === null) {
      this.#held.delete(id);
      if (!isBack) this.#leaveToOther(id);
      return false;
    }
    if (this.#held.has(id)) this.#held.set(id, release);
    else release();
    return true;
  }

  #letGo(id: string): void {
    this.#held.get(id)?.();
    if (this.#held.delete(id)) this.#tabs.mark(id, null);
    this.changed();
  }

  #abandon(reason: CallEndReason): void {
    for (const call of this.#calls.values()) call.abandon(reason);
    this.#calls.clear();
    for (const id of [...this.#elsewhere.keys()]) this.#forgetElsewhere(id);
    this.changed();
  }

  #forgetElsewhere(id: string): void {
    this.#elsewhere.get(id)?.abort();
    this.#elsewhere.delete(id);
  }

  async #tellEnd(id: string, reason: CallEndReason): Promise<void> {
    const payload = { call_id: id, reason: reason as ClientPayloads["call.hangup"]["reason"] };
    try {
      await this.#ask("call.hangup", payload, AbortSignal.timeout(endWithinMs));
    } catch {
      // It is over already, or will be when the server misses this device.
    }
  }

  async #ask<T extends "call.offer" | "call.answer" | "call.ice" | "call.hangup">(
    type: T,
    payload: ClientPayloads[T],
    signal: AbortSignal,
  ): Promise<ServerPayloads["ack"]> {
    for (;;) {
      try {
        return (await this.#core.request(type, payload, { signal })) as ServerPayloads["ack"];
      } catch (error) {
        const isPassing = error instanceof ClientError && passing.has(error.code);
        const isWaiting = error instanceof ServerError && error.retryable && !("to_user_id" in payload);
        if (type === "call.ice" || !(isPassing || isWaiting)) throw error;
        const waitMs = (error instanceof ServerError && error.retryAfterMs) || againMs;
        await new Promise<void>((resolve) => this.#clock.after(waitMs, resolve));
        signal.throwIfAborted();
      }
    }
  }
}

/** A UUID of chance. */
const newCallId = () => newId().replace(/^(.{8})(.{4}).(.{3}).(.{3})/, "$1-$2-4$3-a$4-");
