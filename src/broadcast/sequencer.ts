/** Orders each topic's events on this node, fills gaps from the log, and knows how far everything is published [LOG3]. */

import { InvariantBroken } from "../ground/assert.ts";
import { pages } from "../ground/pages.ts";
import type { EpochChange, Epochs } from "../storage/epochs.ts";
import type { EventLog, LoggedEvent, MovedPage, ReplayPage } from "../storage/ports.ts";
import { noteBroken } from "../telemetry/broken.ts";
import type { Counts } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Audience } from "./broadcaster.ts";
import { deletedBy } from "./deletions.ts";
import { GapCloser } from "./gap-closer.ts";
import { LogFills, unknownHead } from "./log-fills.ts";
import { movedSteps, topicsAtOnce } from "./moved.ts";
import { RecentEvents, type RecentEventsOptions } from "./recent-events.ts";
import { SafePosition } from "./safe-position.ts";
import { WaitingEvents } from "./waiting-events.ts";

export interface SequencerOptions {
  log: EventLog;
  /** Sends an event to this node's subscribers. */
  publish: (event: LoggedEvent, audience: Audience) => void;
  /** Whether anybody on this node is subscribed. */
  hasSubscribers: (topic: string) => boolean;
  /** Of what was published here; nothing is kept longer than somebody catches up on it where that is left out. */
  recent?: RecentEventsOptions;
  counts?: Counts;
  logger: Logger;
  /** How long an event above a gap waits for the bus before the log is asked, ms. */
  gapPatienceMs?: number;
  repairIntervalMs?: number;
}

const reachPatienceMs = 20;

export class Sequencer {
  /** Per topic of interest here: the last `seq` published on this node. */
  readonly #heads = new Map<string, number>();
  /** Topics whose head here is that of an event which came before anybody had looked at the log: that may be further, below the cursor, too. */
  readonly #unproven = new Set<string>();
  /** Of topics whose head is known: what was published of them last, or read for somebody. */
  readonly #recent: RecentEvents;
  readonly #waiting = new WaitingEvents();
  readonly #gaps: GapCloser;
  readonly #fills: LogFills;
  /** Audiences of events of this node's that are on their way through the log. */
  readonly #audiences = new Map<string, Audience>();
  /** Topics of which nothing is published here until a repair has read them anew. */
  readonly #halted = new Set<string>();
  readonly #safe = new SafePosition();
  #deletions = 0;
  /** Position of the last event that the last repair has seen. */
  #logEnd = 0;
  #repairing: Promise<void> | null = null;
  #timer: Timer | null = null;
  #stopWatching = () => {};

  constructor(private readonly options: SequencerOptions) {
    const { gapPatienceMs: patienceMs = 50, log, logger } = options;
    this.#recent = new RecentEvents(options.recent ?? { bytesMax: 0 });
    this.#fills = new LogFills({
      log,
      heads: this.#heads,
      skipTo: (topic, seq) => {
        this.#heads.set(topic, seq);
        this.#recent.drop(topic);
      },
      publish: (event) => this.#publish(event, this.#audienceOf(event)),
      isDeleted: (event) => this.#waiting.isDeleted(event),
      onFilled: (topic) => this.#drainWaiting(topic),
    });
    const fill = this.#fills.fill.bind(this.#fills);
    this.#gaps = new GapCloser({ waiting: this.#waiting, fill, patienceMs, logger });
  }

  async start(): Promise<void> {
    this.#stopWatching = this.options.log.epochs.watch((change) => this.#goBack(change));
    this.#safe.begin(await this.options.log.watermark());
    this.#timer = setInterval(() => void this.repair().catch(() => {}), this.options.repairIntervalMs ?? 1_000);
  }

  stop(): void {
    this.#stopWatching();
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  get epochs(): Epochs {
    return this.options.log.epochs;
  }

  /** Every event with a position up to it has been published on this node, or is on a topic that nobody here hears. */
  get safePosition(): number {
    return this.#safe.value;
  }

  /** As a client is given it. @throws InvariantBroken where it would go back */
  get cursor(): string {
    return this.epochs.cursorOf(this.#safe.give());
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
    this.#forgetDeleted(event);
    const head = this.#heads.get(event.topic);
    if (head === undefined || (head !== unknownHead && event.seq <= head) || this.#halted.has(event.topic)) return;
    // One that comes late may be of a message which is deleted by what waits above it: it waits for the log to be read as well.
    const isNext = head === unknownHead || event.seq === head + 1;
    if (head === unknownHead) this.#unproven.add(event.topic);
    if (isNext && !this.#waiting.isDeleted(event)) {
      if (this.#publishNext(event, audience)) this.#drainWaiting(event.topic);
    } else if (this.#waiting.add(event, audience)) this.#gaps.notice(event.topic);
  }

  /** Takes an event that another node says is in the log: nothing that is lost, nor of a log that nobody here has looked at, which may number anew. */
  hear(event: LoggedEvent, { epoch, audience }: { epoch?: string | undefined; audience: Audience }): boolean {
    const isKnown = epoch === undefined || this.epochs.isKnown(epoch);
    if (!isKnown) void this.repair().catch(() => {});
    if (!isKnown || (epoch !== undefined && !this.epochs.mayHold(epoch, event.position))) return false;
    this.options.log.note(event);
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
    const isWhole = this.#waiting.size === 0 && this.#halted.size === 0;
    if (isWhole && previousPosition <= this.safePosition) this.#safe.advance(lastPosition);
  }

  /** Whether anybody on this node is subscribed to the topic, logged or not. */
  isHeard(topic: string): boolean {
    return this.options.hasSubscribers(topic);
  }

  /** From now on the topic's events are followed here, although nobody is subscribed yet. Ends with `release`. */
  hold(topic: string): void {
    this.#recent.hold(topic);
    if (!this.#heads.has(topic)) this.#heads.set(topic, unknownHead);
  }

  release(topic: string): void {
    this.#recent.release(topic);
  }

  /** Takes up what a reader saw as a topic's head. @returns the head on this node: where it is the same the reader may subscribe in this turn */
  observe(topic: string, seqInLog: number): number {
    const known = this.headOf(topic);
    if (known === undefined) this.#heads.set(topic, seqInLog);
    const head = known ?? seqInLog;
    if (head < seqInLog) void this.#fills.fill(topic, seqInLog).catch(() => {});
    else this.#unproven.delete(topic);
    return head;
  }

  /** Finds what this node has published of a held topic above a `seq`, for whoever has read so far; null: not all of it is in memory. */
  publishedAbove(topic: string, seq: number): LoggedEvent[] | null {
    const head = this.headOf(topic) ?? 0;
    return head > seq ? this.#recent.above(topic, seq) : head === seq ? [] : null;
  }

  /** The same by position, with the head on this node: whoever comes from there and is sent these is level with it. */
  publishedAfter(topic: string, position: number): { events: LoggedEvent[]; seq: number } | null {
    const seq = this.provenHeadOf(topic);
    if (seq === undefined) return null;
    const events = seq === 0 ? [] : this.#recent.after(topic, position);
    return events && { events, seq };
  }

  /** Takes what was read of the log: it is published where that is its turn, and kept for the next one. @param read how the log was, and from where */
  noteRead(page: ReplayPage, { afterPosition, deletions }: { afterPosition: number; deletions: number }): void {
    const isAsRead = deletions === this.#deletions;
    for (const event of page.events) this.feed(event);
    if (page.more || !isAsRead) return;
    const headOf = (topic: string, seq: number) => (this.#heads.has(topic) ? this.observe(topic, seq) : unknownHead);
    this.#recent.fill(page, { afterPosition, headOf });
  }

  /** Keeps nothing of what it has published: something was taken out of the log of which nobody is told. */
  forgetPublished(): void {
    this.#deletions++;
    this.#recent.clear();
  }

  /** Goes on with each deletion that this node hears of: what was read of the log before may have the text of a message that is deleted. */
  get deletions(): number {
    return this.#deletions;
  }

  /** The last `seq` published on this node; undefined where it is not known. */
  headOf(topic: string): number | undefined {
    const head = this.#heads.get(topic);
    return head === unknownHead ? undefined : head;
  }

  /** The same, where every event up to the cursor is at or below it: whoever starts there is where all who are on the topic are. */
  provenHeadOf(topic: string): number | undefined {
    return this.#unproven.has(topic) ? undefined : this.headOf(topic);
  }

  /** Resolves once a fill that is under way for the topic has ended. */
  settled(topic: string): Promise<void> {
    return this.#fills.settled(topic);
  }

  /**
   * Makes the cursor reach a position that another node gave out, however long what is on its way below it may take.
   * @returns false where the log does not go so far: nobody gave it out, or the log has gone back
   */
  async reach(position: number): Promise<boolean> {
    // Twice: a repair that was under way may have asked the log before the position was given out.
    for (let repairs = 0; position > this.safePosition; repairs++) {
      if (repairs > 1 && position > this.#logEnd) return false;
      if (repairs > 1) await Bun.sleep(reachPatienceMs);
      await this.repair();
    }
    return true;
  }

  /** Asks the log which topics have moved past the cursor, publishes what was missed, and moves the cursor. */
  repair(): Promise<void> {
    this.#repairing ??= this.#repair().finally(() => (this.#repairing = null));
    return this.#repairing;
  }

  /** Takes the heads of all topics heard here from a log that has gone back; resolves once the cursor is its. */
  async level(): Promise<void> {
    for (const some of pages([...this.#heads.keys()], topicsAtOnce)) {
      for (const [topic, { seq }] of await this.options.log.heads(some))
        if (this.#heads.has(topic)) this.observe(topic, seq);
    }
    await this.repair();
  }

  /** Drops what is known of topics that nobody on this node hears any more. @returns their names */
  sweep(): string[] {
    const dropped: string[] = [];
    for (const topic of this.#heads.keys()) {
      if (this.#recent.isHeld(topic) || this.options.hasSubscribers(topic)) continue;
      this.#heads.delete(topic);
      this.#unproven.delete(topic);
      this.#recent.drop(topic);
      this.#waiting.delete(topic);
      this.#halted.delete(topic);
      dropped.push(topic);
    }
    this.#recent.sweep();
    return dropped;
  }

  stats() {
    const { bytes: recent_bytes } = this.#recent;
    return { topics: this.#heads.size, waiting: this.#waiting.size, position: this.safePosition, recent_bytes };
  }

  /** Forgets what was known beyond it: that is of another log. */
  #goBack({ isBroken, heldThrough }: EpochChange): void {
    this.#safe.goBack(heldThrough);
    if (!isBroken) return;
    for (const topic of this.#heads.keys()) this.#heads.set(topic, unknownHead);
    this.#waiting.clear();
    this.#recent.clear();
    this.#fills.clear();
  }

  async #repair(): Promise<void> {
    const { log } = this.options;
    const halted = [...this.#halted];
    const position = () => this.safePosition;
    for await (const step of movedSteps({ log, epochs: this.epochs, position, heard: this.#heads })) {
      this.#logEnd = step.end;
      await this.#close(step.heads, step.throughPosition);
    }
    // Dropped ones are published by now, or lie above the cursor.
    for (const topic of halted) this.#halted.delete(topic);
  }

  /** Publishes what was missed of the topics that moved, then moves the cursor. */
  async #close(moved: MovedPage["heads"], throughPosition: number): Promise<void> {
    const { newestId } = this.epochs;
    await this.#fills.fillAll(moved, { afterPosition: this.safePosition, throughPosition });
    if (this.epochs.newestId !== newestId) return;
    this.#safe.advance(throughPosition);
  }

  /** Drops the text of a message that the event deletes, so that nothing kept here says it once more [MSG2]. */
  #forgetDeleted(event: LoggedEvent): void {
    const messageId = deletedBy(event);
    if (messageId === null) return;
    this.#deletions++;
    this.#recent.forget(event.topic, messageId);
  }

  /** Of an event that was read from the log. */
  #audienceOf({ id, topic, seq }: LoggedEvent): Audience {
    return this.#waiting.get(topic, seq)?.audience ?? this.#audiences.get(id) ?? {};
  }

  /** @returns whether it was the one after the head, as what comes by itself must be */
  #publishNext(event: LoggedEvent, audience: Audience): boolean {
    const head = this.headOf(event.topic);
    const isNext = head === undefined || event.seq === head + 1;
    if (isNext) this.#publish(event, audience);
    else this.halt(event.topic, new InvariantBroken("topic_order", { seq: event.seq, head }));
    return isNext;
  }

  #publish(event: LoggedEvent, audience: Audience): void {
    const { topic, seq, position } = event;
    // Published all the same: whoever is connected misses nothing, and only a client that came back with such a cursor may.
    if (position <= this.#safe.given && this.isHeard(topic))
      noteBroken(new InvariantBroken("cursor", { topic, seq, position, given: this.#safe.given }), this.options);
    this.#heads.set(topic, seq);
    this.#forgetDeleted(event);
    this.#recent.add(event);
    this.options.publish(event, audience);
  }

  /** Publishes nothing more of a topic until a repair has read it anew: an invariant of it is broken. */
  halt(topic: string, broken: InvariantBroken): void {
    noteBroken(broken, this.options, { topic });
    this.#waiting.delete(topic);
    this.#recent.drop(topic);
    this.#halted.add(topic);
  }

  #drainWaiting(topic: string): void {
    for (;;) {
      const { event = null, audience = {} } = this.#waiting.get(topic, this.#heads.get(topic)! + 1) ?? {};
      if (event === null || !this.#publishNext(event, audience)) break;
    }
    this.#waiting.dropThrough(topic, this.#heads.get(topic)!);
  }
}
