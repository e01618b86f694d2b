/** Holds one socket: whose it is, how it is doing, and writing to it without ever leaving a silent gap. */
import type { ServerWebSocket } from "bun";
import type { EncodedFrame, WaitingFrames } from "../broadcast/ports.ts";
import type { AtOnce } from "../ground/at-once.ts";
import type { Since } from "../protocol/client.ts";
import { CloseCode } from "../protocol/close.ts";
import type { Codec } from "../protocol/codec.ts";
import type { OutgoingMessage } from "../protocol/envelope.ts";
import { limits, type WireFormat } from "../protocol/limits.ts";
import { logTopic } from "../protocol/topic.ts";
import type { PendingAnswer, RoutedConnection, TakeUpResult } from "../router/router.ts";
import type { Follows } from "../subscription/subscriber.ts";
import type { ConnectionOptions } from "./connection-options.ts";
import { type ConnectionState, moved } from "./connection-state.ts";
import type { UserSession } from "./credentials.ts";
import type { FirstWords } from "./first-words.ts";
import { LastWord } from "./last-word.ts";
import { isOnTopic, joinTopic, leaveTopic, topicsOn } from "./native-subscriptions.ts";
import { queueBytesMax, type ReceivedFrame, RequestQueue, type RequestSocket, type TakeUp } from "./request-queue.ts";

/** Gives all connections what they have of who runs them. */
export interface Attachment {
  /** Cleans up; called once for each, with the code that it was closed with. */
  onGone: (connection: Connection, code: number) => void;
  /** Called for what is written to this connection alone. */
  onSent: (connection: Connection, message: OutgoingMessage, frame: EncodedFrame) => void;
  /** How long a close frame may wait for what stands before it, ms. */
  lastWordWaitMs: number;
  /** Bytes of the largest message, which may come when just less than too much is waiting. */
  queueBytesLast: number;
  waiting: WaitingFrames;
  firstWords: FirstWords;
  /** Whether a frame is worth compressing. */
  compresses: (frame: EncodedFrame) => boolean;
}

const nothing: readonly string[] = [];
const badMessageWindowMs = 60_000;
/** Read at once and handed over even after a pause. */
const readBytes = 1 << 20;

export class Connection implements RoutedConnection, RequestSocket {
  readonly connectionId: string;
  deviceId: string;
  readonly address: string;
  readonly isInternal: boolean;
  readonly format: WireFormat;
  readonly connectedAt: number;
  /** Verified by the upgrade, until the connection has taken it over. */
  session: UserSession | null;
  /** Where its own topics start, until it has settled in. */
  since: Since | undefined;
  #state: ConnectionState = "anonymous";
  userId = "";
  roles = nothing;
  grants = nothing;
  ownTopics = 0;
  expiresAt: number | null = null;
  /** When the end of its token is told of; null: never, or it has been. */
  expiryWarningAt: number | null = null;
  follows: Follows | null = null;
  takenUp = 0;
  answeredThrough = 0;
  fullAt: RoutedConnection["fullAt"] = null;
  refusals: RoutedConnection["refusals"] = null;
  /** From when on its time to authenticate counts. */
  anonymousSince: number;
  /** When something last came from the client: a message, a ping or a pong [CON6]. */
  lastHeardAt: number;
  lastPingAt: number;
  /** Since when bytes have been waiting for the client; 0: none are. */
  backpressureSince = 0;
  #ws: ServerWebSocket<Connection> | null = null;
  #attachment: Attachment | null = null;
  /** Waits until the client has read what stands before it. */
  #lastWord: LastWord | null = null;
  readonly #codec: Codec;
  readonly #queueMax: number;
  /** Waits to be written together; null: it is written at once. */
  #held: EncodedFrame[] | null = null;
  /** Only while something is handled: most connections are idle. */
  #requests: RequestQueue | null = null;
  #badMessages = 0;
  #badSince = 0;
  #drainWaiters: (() => void)[] | null = null;

  constructor(options: ConnectionOptions) {
    this.connectionId = options.connectionId;
    this.deviceId = options.deviceId;
    this.address = options.address;
    this.isInternal = options.isInternal;
    this.format = options.format;
    this.session = options.session;
    this.since = options.since;
    this.connectedAt = this.anonymousSince = this.lastHeardAt = this.lastPingAt = options.now;
    this.#codec = options.codec;
    this.#queueMax = options.queueMax;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** @throws InvariantBroken where no edge leads there */
  moveTo(state: ConnectionState): void {
    this.#state = moved(this.#state, state);
  }

  get isAuthenticated(): boolean {
    // Still so after the client has left: what it sent before is handled as its own [ENV7].
    return this.state === "live" || (this.isClosed && this.userId !== "");
  }

  get isClosed(): boolean {
    return this.state === "closing" || this.state === "closed";
  }

  attach(ws: ServerWebSocket<Connection>, attachment: Attachment): void {
    this.#ws = ws;
    this.#attachment = attachment;
  }

  /** Takes over who it speaks for, at authentication and at each refresh. */
  assume(session: UserSession): void {
    this.userId = session.userId;
    // Nearly all have none: they share one empty list.
    this.roles = session.roles.length === 0 ? nothing : session.roles;
    this.grants = session.grants.length === 0 ? nothing : session.grants;
    this.session = null;
    // Once for each token: a client that refreshes with the one it has is not told of it again [AUTH3].
    if (this.expiresAt !== session.expiresAt) this.expiryWarningAt = session.expiryWarningAt;
    this.expiresAt = session.expiresAt;
  }

  /** Has frames taken up and answered in their order; reading pauses while too many wait [ENV7]. */
  receive(frame: ReceivedFrame, takeUp: TakeUp): void {
    if (this.#requests === null) {
      const taken = takeUp(frame);
      if (taken !== undefined) this.#begin(taken, { takeUp, bytes: frame.length });
      return;
    }
    this.#requests.receive(frame);
    // Only what was small as long as it was compressed comes to so much [ENV7].
    if ((this.#requests?.bytes ?? 0) > queueBytesMax + readBytes + 2 * (this.#attachment?.queueBytesLast ?? 0))
      this.close(CloseCode.rateLimited, "too much at once");
  }

  /** Keeps what comes in waiting until `work` is done, then goes on with it. `work` never rejects. */
  occupy(work: Promise<void>, takeUp: TakeUp): void {
    this.#begin(work, { takeUp, bytes: 0 });
  }

  #begin(taken: PendingAnswer | Promise<TakeUpResult>, { takeUp, bytes }: { takeUp: TakeUp; bytes: number }): void {
    this.#requests = new RequestQueue({ socket: this, takeUp, waitingMax: this.#queueMax });
    void this.#requests.begin(taken, bytes);
  }

  get ahead(): Promise<void> | null {
    return this.#requests?.ahead ?? null;
  }

  whenFollowed(hurry: () => void): void {
    this.#requests?.whenFollowed(hurry);
  }

  /** Whether reading waits, for too much was read: nothing can be heard of the client meanwhile. */
  get isPaused(): boolean {
    return this.#ws?.isPaused === true;
  }

  pauseReading(): void {
    this.#ws?.pause();
  }

  resumeReading(): void {
    this.#ws?.resume();
  }

  noteIdle(): void {
    this.#requests = null;
  }

  /** Reads nothing more, and resolves once everything that was read is handled and answered [DRN]. */
  async finish(): Promise<void> {
    if (!this.isClosed) this.#ws?.pause();
    await this.#requests?.finish();
  }

  /** Counts a message that made no sense. @returns whether it was one too many within a minute [ENV4] */
  noteBadMessage(now: number): boolean {
    if (now - this.#badSince > badMessageWindowMs) {
      this.#badSince = now;
      this.#badMessages = 0;
    }
    this.#badMessages++;
    return this.#badMessages >= limits.badMessagesPerMinute;
  }

  sendMessage(message: OutgoingMessage): void {
    if (this.#ws === null || this.isClosed) return;
    this.#attachment?.waiting.bringLevel(this);
    const { frames } = message;
    const frame = frames?.[this.format] ?? this.#codec.encode(message);
    if (frames !== undefined) frames[this.format] = frame;
    if (this.#write(frame)) this.#attachment?.onSent(this, message, frame);
  }

  sendFrames(frames: EncodedFrame[]): void {
    this.sendTogether(() => void frames.every((frame) => this.#write(frame)));
  }

  /** @returns false where it was dropped, for the buffer is full: what the client has is a gap-free prefix, and it ends here [CON7] */
  #write(frame: EncodedFrame): boolean {
    if (this.#held !== null) return this.#held.push(frame) > 0;
    const written = this.#ws?.send(frame as string | Uint8Array<ArrayBuffer>, this.#attachment?.compresses(frame));
    if (written === 0) this.close(CloseCode.slowConsumer, "slow consumer");
    return written !== 0;
  }

  /** Holds back what it is told until it is to speak; what is more than one message is so once somebody waits for it to be taken. */
  holdBack(): void {
    this.#held = [];
    this.#attachment?.firstWords.hold(this);
  }

  speak(): void {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    this.#attachment?.firstWords.release(this);
    if (held.length > 0) this.sendFrames(held);
  }

  sendAll(messages: OutgoingMessage[]): void {
    if (messages.length === 0) return;
    if (messages.length === 1) return this.sendMessage(messages[0]!);
    this.sendTogether(() => {
      for (const each of messages) this.sendMessage(each);
    });
  }

  sendTogether(write: () => void): void {
    if (this.#ws === null || this.isClosed) return write();
    this.#ws.cork(write);
  }

  stepOut(topic: string): boolean {
    return this.#ws?.unsubscribe(topic) ?? false;
  }

  stepBack(topic: string): void {
    this.#ws?.subscribe(topic);
  }

  isSubscribed(topic: string): boolean {
    return this.#ws !== null && !this.isClosed && isOnTopic(this.#ws, topic, this);
  }

  subscribe(topic: string): void {
    this.#attachment?.waiting.passBy(topic, this);
    if (this.#ws !== null && !this.isClosed) joinTopic(this.#ws, topic, this);
  }

  unsubscribe(topic: string): void {
    this.#attachment?.waiting.bringLevelOn(topic, this);
    if (this.#ws !== null) leaveTopic(this.#ws, topic, this);
  }

  topics(): string[] {
    return this.#ws === null || this.isClosed ? [] : topicsOn(this.#ws, this);
  }

  bufferedBytes(): number {
    return this.#ws?.getBufferedAmount() ?? 0;
  }

  drained(): AtOnce<void> {
    if (this.#held !== null && this.#held.length > 1) this.speak();
    if (this.isClosed || this.bufferedBytes() === 0) return;
    return new Promise((resolve) => {
      this.#drainWaiters ??= [];
      this.#drainWaiters.push(resolve);
    });
  }

  /** Whether it is sent the whole log: it is written to only once it has taken what was written before [BAK2]. */
  get isFed(): boolean {
    return this.isSubscribed(logTopic.name);
  }

  /** The socket has room again, or is gone. */
  noteDrain(): void {
    if (this.#lastWord !== null && this.bufferedBytes() === 0 && this.#lastWord.say()) return;
    if (this.isClosed || this.bufferedBytes() === 0) this.noteNothingWaits();
  }

  /** Has those go on that wait until the client has taken everything. */
  noteNothingWaits(): void {
    this.backpressureSince = 0;
    const waiters = this.#drainWaiters;
    this.#drainWaiters = null;
    for (const resolve of waiters ?? []) resolve();
  }

  ping(now: number): void {
    this.lastPingAt = now;
    this.#ws?.ping();
  }

  /** Closes with one of our codes; what waits in the queue is given up. */
  close(code: number, reason: string): void {
    if (code !== CloseCode.slowConsumer) this.#attachment?.waiting.bringLevel(this);
    // May close it itself, for want of room.
    this.speak();
    if (this.isClosed) return;
    this.moveTo("closing");
    // Now, for the platform says that the socket is closed before `close` returns.
    this.#requests?.giveUp();
    if (this.isPaused) this.#ws?.resume();
    // A client that was too slow has had its time.
    if (this.#ws !== null && code !== CloseCode.slowConsumer && this.bufferedBytes() > 0) {
      const waitMs = this.#attachment?.lastWordWaitMs;
      this.#lastWord = new LastWord(this.#ws, { code, reason, waitMs });
      this.noteGone(code);
    } else this.#ws?.close(code, reason);
    this.noteDrain();
  }

  /** Ends the socket without waiting for the client. */
  terminate(): void {
    this.#ws?.terminate();
  }

  /** It is over: we have closed it, or the socket is gone. */
  noteGone(code: number): void {
    const attachment = this.#attachment;
    attachment?.firstWords.release(this);
    this.#attachment = null;
    if (attachment === null) this.#lastWord?.drop();
    else attachment.onGone(this, code);
  }

  /** Ends it: what there was of it is cleaned up. */
  noteClosed(): void {
    this.moveTo("closed");
    this.noteDrain();
  }
}
