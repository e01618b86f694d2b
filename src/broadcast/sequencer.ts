/** Orders each topic's events on this node, fills gaps from the log, and knows how far everything is published [LOG3]. */
import type { EpochChange, Epochs } from "../storage/epochs.ts";
import type { EventLog, LoggedEvent, MovedPage } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import type { Audience } from "./broadcaster.ts";

export interface SequencerOptions {
  log: EventLog;
  /** Sends an event to this node's subscribers. */
  publish: (event: LoggedEvent, audience: Audience) => void;
  /** Whether anybody on this node is subscribed. */
  hasSubscribers: (topic: string) => boolean;
  logger: Logger;
  /** How long an event above a gap waits for the bus before the log is asked, ms. */
  gapPatienceMs?: number;
  repairIntervalMs?: number;
}

/** Head of a topic that somebody is catching up on and whose place on this node is not known yet. */
const unknownHead = -1;
const rangePage = 500;
const movedPage = 1_000;
/** Topics whose heads are asked for by one statement. */
const topicsAtOnce = 1_000;
/** Events of a topic, and characters of their payloads, that somebody who catches up is given out of memory. */
const tailMax = 256;
const tailCharacters = 256 * 1024;
const reachPatienceMs = 20;
/** Topics that are each read on their own: they miss an event or two. After an outage of the bus many miss many. */
const rangesMax = 16;
/** Events above a gap that are kept per topic; more are read from the log. */
const waitingMax = 1_000;

export class Sequencer {
  /** Per topic of interest here: the last `seq` published on this node. */
  readonly #heads = new Map<string, number>();
  /** Topics somebody is catching up on, and how many. */
  readonly #held = new Map<string, number>();
  /** Of topics somebody is catching up on: what was published meanwhile, the newest of it. */
  readonly #tails = new Map<string, LoggedEvent[]>();
  /** Events above a gap, each with those who are left out of it [SUB6]. */
  readonly #waiting = new Map<string, Map<number, { event: LoggedEvent; audience: Audience }>>();
  readonly #fills = new Map<string, Promise<void>>();
  /** Audiences of events of this node's that are on their way through the log. */
  readonly #audiences = new Map<string, Audience>();
  #safePosition = 0;
  /** Position of the last event that the last repair has seen. */
  #logEnd = 0;
  #repairing: Promise<void> | null = null;
  #timer: Timer | null = null;
  #stopWatching = () => {};
  #repairWaiters: (() => void)[] = [];

  readonly #outage: Outage;

  constructor(private readonly options: SequencerOptions) {
    this.#outage = warnsOnce(options.logger, "gap stays open until the log answers", "gaps are closed again");
  }

  async start(): Promise<void> {
    this.#stopWatching = this.options.log.epochs.watch((change) => this.#goBack(change));
    this.#safePosition = await this.options.log.watermark();
    this.#timer = setInterval(() => void this.repair().catch(() => {}), this.options.repairIntervalMs ?? 1_000);
  }

  stop(): void {
    this.#stopWatching();
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  get epochs(): Epochs {
    return this.options.log.epochs;
  }

  /** The cursor: every event with a position up to it, on any topic, has been published on this node [LOG4]. */
  get safePosition(): number {
    return this.#safePosition;
  }

  /** Remembers who is left out of an event of this node's, until it is published or has failed. */
  expect(eventId: string, audience: Audience): void {
    this.#audiences.set(eventId, audience);
  }

  forget(eventId: string): void {
    this.#audiences.delete(eventId);
  }

  /** Takes an event that is in the log, from an append or the bus: publishes it, drops it or keeps it waiting. */
  accept(event: LoggedEvent, audience: Audience = this.#audiences.get(event.id) ?? {}): void {
    const head = this.#heads.get(event.topic);
    if (head === undefined || (head !== unknownHead && event.seq <= head)) return;
    if (head !== unknownHead && event.seq > head + 1) return this.#wait(event, audience);
    this.#publish(event, audience);
    this.#drainWaiting(event.topic);
  }

  /** Takes an event that another node says is in the log: of what that node has not noticed to be lost nothing is. */
  hear(event: LoggedEvent, { epoch, audience }: { epoch?: string | undefined; audience: Audience }): boolean {
    const { log } = this.options;
    if (epoch !== undefined && !log.epochs.mayHold(epoch, event.position)) return false;
    log.note(event);
    this.accept(event, audience);
    return true;
  }

  /** Takes an event that a reader of the log came across: the late bus message is then recognised as seen. */
  feed(event: LoggedEvent): void {
    if ((this.#heads.get(event.topic) ?? unknownHead) !== unknownHead) this.accept(event);
  }

  /**
   * Advances the cursor after a batch of this node's: where nothing was logged between what is published and the batch,
   * all up to its end is published now.
   */
  batchAccepted({ previousPosition, lastPosition }: { previousPosition: number; lastPosition: number }): void {
    if (previousPosition <= this.#safePosition && this.#waiting.size === 0) {
      this.#safePosition = Math.max(this.#safePosition, lastPosition);
    }
  }

  /** Whether anybody on this node is subscribed to the topic, logged or not. */
  isHeard(topic: string): boolean {
    return this.options.hasSubscribers(topic);
  }

  /** From now on the topic's events are followed here, although nobody is subscribed yet. Ends with `release`. */
  hold(topic: string): void {
    this.#held.set(topic, (this.#held.get(topic) ?? 0) + 1);
    if (!this.#heads.has(topic)) this.#heads.set(topic, unknownHead);
  }

  release(topic: string): void {
    const count = (this.#held.get(topic) ?? 0) - 1;
    if (count > 0) return void this.#held.set(topic, count);
    this.#held.delete(topic);
    this.#tails.delete(topic);
  }

  /**
   * What a reader saw as the topic's head in the log.
   * @returns the head on this node; the reader is level with it where both are equal, and may subscribe in this turn
   */
  observe(topic: string, seqInLog: number): number {
    const head = this.#heads.get(topic);
    if (head === undefined || head === unknownHead) {
      this.#heads.set(topic, seqInLog);
      return seqInLog;
    }
    if (head < seqInLog) void this.#fill(topic, seqInLog).catch(() => {});
    return head;
  }

  /**
   * What this node has published of a held topic above a `seq`: whoever has read so far is level with it after these, and
   * need not wait for a moment in which nothing is published. Null: not all of it is known, or it is much.
   */
  publishedAbove(topic: string, seq: number): LoggedEvent[] | null {
    const events = (this.#tails.get(topic) ?? []).filter((event) => event.seq > seq);
    const characters = events.reduce((sum, { payload }) => sum + payload.length, 0);
    return events.length === (this.headOf(topic) ?? 0) - seq && characters <= tailCharacters ? events : null;
  }

  /** The last `seq` published on this node; undefined where it is not known. */
  headOf(topic: string): number | undefined {
    const head = this.#heads.get(topic);
    return head === unknownHead ? undefined : head;
  }

  /** Resolves once a fill that is under way for the topic has ended. */
  async settled(topic: string): Promise<void> {
    await this.#fills.get(topic);
  }

  /**
   * Makes the cursor reach a position that another node gave out, however long what is on its way below it may take.
   * @returns false where the log does not go so far: nobody gave it out, or the log has gone back
   */
  async reach(position: number): Promise<boolean> {
    // Twice: a repair that was under way may have asked the log before the position was given out.
    for (let repairs = 0; position > this.#safePosition; repairs++) {
      if (repairs > 1 && position > this.#logEnd) return false;
      if (repairs > 1) await Bun.sleep(reachPatienceMs);
      await this.repair();
    }
    return true;
  }

  /** Asks the log which topics have moved past the cursor, publishes what was missed, and moves the cursor. */
  repair(): Promise<void> {
    this.#repairing ??= this.#repair().finally(() => {
      this.#repairing = null;
      for (const resolve of this.#repairWaiters.splice(0)) resolve();
    });
    return this.#repairing;
  }

  /** Takes the heads of all topics heard here from a log that has gone back; resolves once the cursor is its. */
  async level(): Promise<void> {
    const topics = [...this.#heads.keys()];
    for (let start = 0; start < topics.length; start += topicsAtOnce) {
      const some = topics.slice(start, start + topicsAtOnce);
      for (const [topic, { seq }] of await this.options.log.heads(some))
        if (this.#heads.has(topic)) this.observe(topic, seq);
    }
    await this.repair();
  }

  /** Resolves once a repair has ended that may have moved the cursor. */
  repaired(): Promise<void> {
    return new Promise((resolve) => this.#repairWaiters.push(resolve));
  }

  /** Drops what is known of topics that nobody on this node hears any more. @returns their names */
  sweep(): string[] {
    const dropped: string[] = [];
    for (const topic of this.#heads.keys()) {
      if (this.#held.has(topic) || this.options.hasSubscribers(topic)) continue;
      this.#heads.delete(topic);
      this.#waiting.delete(topic);
      dropped.push(topic);
    }
    return dropped;
  }

  stats() {
    return { topics: this.#heads.size, waiting: this.#waiting.size, position: this.#safePosition };
  }

  /** What was known beyond it is of another log. */
  #goBack({ isBroken, heldThrough }: EpochChange): void {
    this.#safePosition = Math.min(this.#safePosition, heldThrough);
    if (!isBroken) return;
    for (const topic of this.#heads.keys()) this.#heads.set(topic, unknownHead);
    this.#waiting.clear();
    this.#tails.clear();
    this.#fills.clear();
  }

  async #repair(): Promise<void> {
    const { log } = this.options;
    await log.lookBack();
    // No further than the log was when this began: what is logged meanwhile is the next repair's.
    let through = Number.POSITIVE_INFINITY;
    for (let more = true; more && this.#safePosition < through; ) {
      const { breaks } = this.epochs;
      const moved = await log.movedSince(this.#safePosition, movedPage);
      // What was read is of a log that has gone back meanwhile.
      if (this.epochs.breaks !== breaks) continue;
      this.#logEnd = moved.end;
      through = Math.min(through, moved.watermark);
      // What moves elsewhere is not worth reading where less is heard here.
      if (moved.more && moved.watermark - this.#safePosition > this.#heads.size)
        return this.#repairHeard(moved.watermark);
      await this.#close(moved.heads, moved.position);
      ({ more } = moved);
    }
  }

  /** As a page of what moved, by a look at each topic of interest here. */
  async #repairHeard(throughPosition: number): Promise<void> {
    const topics = [...this.#heads.keys()];
    const { breaks } = this.epochs;
    const moved: MovedPage["heads"] = [];
    for (let start = 0; start < topics.length; start += topicsAtOnce) {
      const some = topics.slice(start, start + topicsAtOnce);
      const query = { topics: some, afterPosition: this.#safePosition, throughPosition };
      moved.push(...(await this.options.log.movedAmong(query)));
      if (this.epochs.breaks !== breaks) return;
    }
    await this.#close(moved, throughPosition);
  }

  /** Publishes what was missed of the topics that moved, then moves the cursor. */
  async #close(moved: MovedPage["heads"], throughPosition: number): Promise<void> {
    const { breaks } = this.epochs;
    const behind = moved.filter(({ topic, seq }) => (this.#heads.get(topic) ?? seq) < seq);
    if (behind.length <= rangesMax) await Promise.all(behind.map(({ topic, seq }) => this.#fill(topic, seq)));
    else await this.#fillTogether(behind, throughPosition);
    if (this.epochs.breaks !== breaks) return;
    this.#safePosition = Math.max(this.#safePosition, throughPosition);
  }

  /** Fills many topics by reads over all of them; whatever they miss is above the cursor. */
  async #fillTogether(behind: { topic: string; seq: number }[], throughPosition: number): Promise<void> {
    const topics = behind.map(({ topic }) => topic);
    const { breaks } = this.epochs;
    for (let from = this.#safePosition; from < throughPosition; ) {
      const page = await this.options.log.replay({ topics, afterPosition: from, limit: rangePage });
      if (this.epochs.breaks !== breaks) return;
      for (const event of page.events) {
        // What is above may have a hole below it that closes before the next page.
        if (event.position > throughPosition) break;
        const head = this.#heads.get(event.topic) ?? unknownHead;
        if (head !== unknownHead && event.seq > head) this.#publish(event, this.#audienceOf(event));
      }
      from = page.more ? (page.events.at(-1)?.position ?? throughPosition) : throughPosition;
    }
    for (const { topic, seq } of behind) {
      // The last ones were compacted or trimmed; or nobody is subscribed, and whoever is catching up reads them by itself.
      if ((this.#heads.get(topic) ?? seq) < seq) this.#heads.set(topic, seq);
      this.#drainWaiting(topic);
    }
  }

  /** Of an event that was read from the log. */
  #audienceOf({ id, topic, seq }: LoggedEvent): Audience {
    return this.#waiting.get(topic)?.get(seq)?.audience ?? this.#audiences.get(id) ?? {};
  }

  #publish(event: LoggedEvent, audience: Audience): void {
    this.#heads.set(event.topic, event.seq);
    if (this.#held.has(event.topic)) this.#keepInTail(event);
    this.options.publish(event, audience);
  }

  #keepInTail(event: LoggedEvent): void {
    let tail = this.#tails.get(event.topic);
    if (tail === undefined) this.#tails.set(event.topic, (tail = []));
    tail.push(event);
    if (tail.length > tailMax) tail.shift();
  }

  #wait(event: LoggedEvent, audience: Audience): void {
    let waiting = this.#waiting.get(event.topic);
    if (waiting === undefined) {
      waiting = new Map();
      this.#waiting.set(event.topic, waiting);
      this.#closeGapLater(event.topic);
    }
    if (waiting.size < waitingMax) waiting.set(event.seq, { event, audience });
  }

  #closeGapLater(topic: string): void {
    setTimeout(() => void this.#closeGap(topic), this.options.gapPatienceMs ?? 50);
  }

  async #closeGap(topic: string): Promise<void> {
    const waiting = this.#waiting.get(topic);
    if (waiting === undefined || waiting.size === 0) return;
    try {
      await this.#fill(topic, Math.max(...waiting.keys()));
      this.#outage.ended();
      // Another gap has opened above this one meanwhile.
      if (this.#waiting.get(topic) === waiting) this.#closeGapLater(topic);
    } catch (error) {
      // The cursor stays where it is; the next repair comes to this topic again.
      this.#waiting.delete(topic);
      this.#outage.began(error, { topic });
    }
  }

  #drainWaiting(topic: string): void {
    const waiting = this.#waiting.get(topic);
    if (waiting === undefined) return;
    for (let head = this.#heads.get(topic)!; ; head++) {
      const next = waiting.get(head + 1);
      if (next === undefined) break;
      waiting.delete(head + 1);
      this.#publish(next.event, next.audience);
    }
    const head = this.#heads.get(topic)!;
    for (const seq of waiting.keys()) if (seq <= head) waiting.delete(seq);
    if (waiting.size === 0) this.#waiting.delete(topic);
  }

  /** Publishes from the log up to a `seq`; numbers that the log has no event for were compacted or trimmed. */
  #fill(topic: string, throughSeq: number): Promise<void> {
    const running = this.#fills.get(topic);
    if (running !== undefined) {
      return running.then(() =>
        (this.#heads.get(topic) ?? throughSeq) < throughSeq ? this.#fill(topic, throughSeq) : undefined,
      );
    }
    const fill = this.#readThrough(topic, throughSeq).finally(() => {
      if (this.#fills.get(topic) === fill) this.#fills.delete(topic);
    });
    this.#fills.set(topic, fill);
    return fill;
  }

  async #readThrough(topic: string, throughSeq: number): Promise<void> {
    const { breaks } = this.epochs;
    // A log that has gone back may not have come as far again.
    while (this.epochs.breaks === breaks) {
      const head = this.#heads.get(topic);
      if (head === undefined || head >= throughSeq) return;
      if (head === unknownHead) {
        // Nobody is subscribed: whoever is catching up reads these events by itself.
        this.#heads.set(topic, throughSeq);
        return;
      }
      const page = await this.options.log.range({ topic, afterSeq: head, throughSeq, limit: rangePage });
      if (this.epochs.breaks !== breaks) return;
      for (const event of page.events) {
        const now = this.#heads.get(topic);
        if (now !== undefined && event.seq > now) this.#publish(event, this.#audienceOf(event));
      }
      if (!page.more && (this.#heads.get(topic) ?? throughSeq) < throughSeq) {
        this.#heads.set(topic, throughSeq);
      }
      this.#drainWaiting(topic);
    }
  }
}
