/** Queues the requests of one connection and their replies: taken up and answered in order, without waiting between [ENV7]. */
import type { PendingAnswer, TakeUpResult } from "../router/router.ts";

export type ReceivedFrame = string | Buffer;

/** Takes up one frame; never rejects. What it gives back is answered later, in its turn. */
export type TakeUp = (frame: ReceivedFrame) => TakeUpResult | Promise<TakeUpResult>;

/** The socket, as far as it is read and answered. */
export interface RequestSocket {
  readonly isPaused: boolean;
  readonly isClosed: boolean;
  pauseReading(): void;
  resumeReading(): void;
  /** Writes all that `write` sends in one piece. */
  sendTogether(write: () => void): void;
  /** Nothing waits, and nothing is to be answered. */
  noteIdle(): void;
}

export interface RequestQueueOptions {
  socket: RequestSocket;
  takeUp: TakeUp;
  /** Frames that may wait to be taken up before reading pauses. */
  waitingMax: number;
}

/** One that was taken up, with what writes its reply once that is known. */
interface InOrder {
  events: number;
  bytes: number;
  answer: (() => void) | null;
}

/** Bytes of waiting messages that pause reading too: many small ones may wait, but not many of the largest. */
export const queueBytesMax = 1 << 20;
/** Events of one connection that may be on their way to the log before it waits: about a batch, beside those of others. */
const unansweredEventsMax = 500;
/** Bytes of the messages that they came in, likewise. */
const unansweredBytesMax = 1 << 20;

export class RequestQueue {
  /** Oldest first. */
  #frames: ReceivedFrame[] = [];
  #bytes = 0;
  #isTaking = false;
  #isFinishing = false;
  readonly #unanswered: InOrder[] = [];
  #unansweredEvents = 0;
  #unansweredBytes = 0;
  #allAnswered: PromiseWithResolvers<void> | null = null;
  #onFollowed: (() => void) | null = null;
  #finished: (() => void)[] = [];

  constructor(private readonly options: RequestQueueOptions) {}

  /** Bytes of what waits. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Resolves once everything that was taken up before is answered; null: it is. */
  get ahead(): Promise<void> | null {
    if (this.#unanswered.length === 0) return null;
    this.#allAnswered ??= Promise.withResolvers<void>();
    return this.#allAnswered.promise;
  }

  /** Has it called once a frame waits behind what is being taken up now. */
  whenFollowed(hurry: () => void): void {
    if (this.#frames.length > 0) hurry();
    else this.#onFollowed = hurry;
  }

  receive(frame: ReceivedFrame): void {
    this.#frames.push(frame);
    this.#bytes += frame.length;
    this.#onFollowed?.();
    this.#onFollowed = null;
    void this.#takeUpWaiting();
    if (!this.#hasRoom) this.options.socket.pauseReading();
  }

  /** Begins with what is taken up already; `bytes` of it. Where that is not done yet, what comes in waits for it. */
  async begin(taken: PendingAnswer | Promise<TakeUpResult>, bytes: number): Promise<void> {
    this.#isTaking = true;
    this.#enter(taken instanceof Promise ? await taken : taken, bytes);
    this.#isTaking = false;
    await this.#takeUpWaiting();
  }

  /** Takes up nothing more; what has its place is still answered. */
  giveUp(): void {
    this.#frames = [];
    this.#bytes = 0;
  }

  /** Reading goes on no more. Resolves once everything that was read is answered. */
  finish(): Promise<void> {
    this.#isFinishing = true;
    return new Promise((resolve) => this.#finished.push(resolve));
  }

  get #hasRoom(): boolean {
    return this.#frames.length < this.options.waitingMax && this.#bytes < queueBytesMax && !this.#isFinishing;
  }

  /** Takes up what waits, each once the one before has its place, as long as not too much is unanswered. */
  async #takeUpWaiting(): Promise<void> {
    if (this.#isTaking) return;
    this.#isTaking = true;
    const { socket, takeUp } = this.options;
    // Still handled when it was read before a disconnect: who sends and closes has sent. Where we close nothing is left.
    while (this.#unansweredEvents < unansweredEventsMax && this.#unansweredBytes < unansweredBytesMax) {
      const frame = this.#frames.shift();
      if (frame === undefined) break;
      this.#bytes -= frame.length;
      const taken = takeUp(frame);
      if (this.#hasRoom && socket.isPaused && !socket.isClosed) socket.resumeReading();
      this.#enter(taken instanceof Promise ? await taken : taken, frame.length);
    }
    this.#isTaking = false;
    this.#noteIdle();
  }

  #enter(unanswered: TakeUpResult, bytes: number): void {
    if (unanswered === undefined) return;
    const { events, settled } = unanswered;
    const entry: InOrder = { events, bytes, answer: null };
    this.#unanswered.push(entry);
    this.#unansweredEvents += events;
    this.#unansweredBytes += bytes;
    void settled.then((answer) => {
      entry.answer = answer;
      // Replies that were settled together follow in this turn: they are written in one piece.
      if (this.#unanswered[0] === entry) queueMicrotask(() => this.#answer());
    });
  }

  /** Writes the replies up to the first that is not known yet. */
  #answer(): void {
    this.options.socket.sendTogether(() => {
      for (let next = this.#unanswered[0]; next?.answer; next = this.#unanswered[0]) {
        this.#unanswered.shift();
        this.#unansweredEvents -= next.events;
        this.#unansweredBytes -= next.bytes;
        next.answer();
      }
    });
    if (this.#unanswered.length === 0) {
      this.#allAnswered?.resolve();
      this.#allAnswered = null;
    }
    void this.#takeUpWaiting();
  }

  #noteIdle(): void {
    if (this.#isTaking || this.#frames.length > 0 || this.#unanswered.length > 0) return;
    this.options.socket.noteIdle();
    for (const resolve of this.#finished.splice(0)) resolve();
  }
}
