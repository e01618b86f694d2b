/** Appends events to the log in shared batches, then hands them to the sequencer and the bus [LOG1]. */
import type { Bus } from "../cluster/ports.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { type Appended, type EventLog, type LoggedEvent, type NewEvent, StorageUnavailable } from "../storage/ports.ts";
import { Counts, countOne } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Audience } from "./broadcaster.ts";
import type { Sequencer } from "./sequencer.ts";

export interface PublisherOptions {
  log: EventLog;
  sequencer: Sequencer;
  bus: Bus;
  counts?: Counts;
  logger: Logger;
  /** Told of each event that was appended here, once this node's subscribers have it. */
  onAppended?: (event: LoggedEvent) => void;
  /** Events that may wait for the log before `unavailable` (`websocket.broadcast_buffer`). */
  waitingMax: number;
}

/** Events that are appended together or not at all. */
interface Waiting {
  events: NewEvent[];
  audience: Audience;
  correlationId: string | undefined;
  resolve: (appended: Appended[]) => void;
  reject: (error: unknown) => void;
}

const tooMany = () =>
  new ProtocolError("unavailable", "Too many events are waiting for the log.", { retryAfterMs: 1_000 });

/** Events of one batch: enough to make a transaction cheap, few enough to keep its latency low. */
const batchMax = 500;
/** Characters of payload of one batch: an engine takes a statement of many large events badly, or not at all. */
const batchCharactersMax = 8 * 1024 * 1024;

export class Publisher {
  #waiting: Waiting[] = [];
  #waitingEvents = 0;
  #inFlight = false;
  #scheduled = false;
  #idle: (() => void)[] = [];
  readonly #counts: Counts;

  constructor(private readonly options: PublisherOptions) {
    this.#counts = options.counts ?? new Counts();
  }

  /**
   * Resolves once the event is durable and published on this node. It has its place in the queue when the call returns: what is
   * appended later comes later [ENV7].
   * @throws ProtocolError `unavailable` where the log is away or too much waits for it
   */
  async append(event: NewEvent, options: { audience?: Audience; correlationId?: string } = {}): Promise<Appended> {
    const [appended] = await this.appendAll([event], options);
    return appended!;
  }

  /**
   * As `append`, for events that keep their order whatever happens: all of them are appended, in one transaction, or none.
   * @returns one for each event, in the same order
   */
  appendAll(events: NewEvent[], options: { audience?: Audience; correlationId?: string } = {}): Promise<Appended[]> {
    if (events.length === 0) return Promise.resolve([]);
    return this.#isFull() ? Promise.reject(tooMany()) : this.#enqueue(events, options);
  }

  /** As `append`, for the same event on many topics: either too much waits for all of them, or for none. */
  async appendEach(
    events: NewEvent[],
    options: { audience?: Audience; correlationId?: string } = {},
  ): Promise<Appended[]> {
    if (this.#isFull()) throw tooMany();
    const appended = await Promise.all(events.map((event) => this.#enqueue([event], options)));
    return appended.flat();
  }

  /** Resolves when nothing waits any more. */
  drained(): Promise<void> {
    if (!this.#inFlight && this.#waiting.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  stats() {
    return { waiting: this.#waitingEvents };
  }

  /** Whether so much waits that whoever has something waiting should not add to it. */
  get isCrowded(): boolean {
    return this.#waitingEvents >= this.options.waitingMax / 2;
  }

  #isFull(): boolean {
    return this.#waitingEvents >= this.options.waitingMax;
  }

  #enqueue(
    events: NewEvent[],
    { audience = {}, correlationId }: { audience?: Audience; correlationId?: string },
  ): Promise<Appended[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ events, audience, correlationId, resolve, reject });
      this.#waitingEvents += events.length;
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#inFlight || this.#scheduled) return;
    this.#scheduled = true;
    // At the end of the turn, so that all callers of the turn share the batch.
    setImmediate(() => {
      this.#scheduled = false;
      void this.#flush();
    });
  }

  /**
   * Appends what waits. One batch is in flight at a time, and the next one ends after it: that is what keeps an order over
   * batches, where one caller's events fall into several. Whoever has more of them in flight keeps each caller's in one [ENV7].
   */
  async #flush(): Promise<void> {
    if (this.#inFlight || this.#waiting.length === 0) return;
    this.#inFlight = true;
    const batch = this.#takeBatch();
    const events = batch.flatMap((waiting) => waiting.events);
    const { log, sequencer } = this.options;
    const startedAtMs = performance.now();
    for (const waiting of batch) for (const { id } of waiting.events) sequencer.expect(id, waiting.audience);
    const result = await log.append(events).catch((error: unknown) => ({ error }));
    this.#inFlight = false;
    // The engine works on the next batch while this one is published.
    void this.#flush();
    if ("error" in result) {
      this.#counts.appendFailures++;
      this.#fail(batch, result.error);
    } else {
      this.#counts.appended({ events: events.length, durationMs: performance.now() - startedAtMs });
      this.#publish(batch, result.appended, result.previousPosition);
    }
    for (const { id } of events) sequencer.forget(id);
    if (!this.#inFlight) for (const resolve of this.#idle.splice(0)) resolve();
  }

  /** Whole groups up to the bounds, at least one. */
  #takeBatch(): Waiting[] {
    let groups = 0;
    let events = 0;
    let characters = 0;
    for (const waiting of this.#waiting) {
      for (const { payload } of waiting.events) characters += payload.length;
      const isFull = events + waiting.events.length > batchMax || characters > batchCharactersMax;
      if (groups > 0 && isFull) break;
      groups++;
      events += waiting.events.length;
    }
    this.#waitingEvents -= events;
    return this.#waiting.splice(0, groups);
  }

  #publish(batch: Waiting[], appended: Appended[], previousPosition: number): void {
    let lastPosition = 0;
    let start = 0;
    for (const waiting of batch) {
      const results = appended.slice(start, start + waiting.events.length);
      start += results.length;
      for (const [index, result] of results.entries()) {
        if (!result.duplicate) lastPosition = result.position;
        this.#publishOne(waiting.events[index]!, result, waiting);
      }
      waiting.resolve(results);
    }
    if (lastPosition > 0) this.options.sequencer.batchAccepted({ previousPosition, lastPosition });
  }

  #publishOne(event: NewEvent, result: Appended, { audience, correlationId }: Waiting): void {
    const { sequencer, bus, onAppended, logger } = this.options;
    if (!result.duplicate) {
      countOne(this.#counts.published, "logged");
      const { id, topic, type, payload, createdAt } = event;
      const logged = { id, topic, type, payload, createdAt, seq: result.seq, position: result.position };
      sequencer.accept(logged, audience);
      const { exceptDevice } = audience;
      bus.publish(topic, { kind: "logged", event: logged, exceptDevice, epoch: sequencer.epochs.current.id });
      onAppended?.(logged);
    }
    if (logger.isLevelEnabled("debug")) {
      const { topic, seq, position, id, duplicate } = result;
      logger.debug(
        { correlation_id: correlationId, message_id: id, topic, seq, position, duplicate },
        "event published",
      );
    }
  }

  #fail(batch: Waiting[], error: unknown): void {
    if (!(error instanceof StorageUnavailable)) this.options.logger.error({ err: error }, "append failed");
    for (const { reject } of batch) {
      reject(
        new ProtocolError("unavailable", "The event log is not available; try again with the same key.", {
          retryAfterMs: 1_000,
        }),
      );
    }
  }
}
