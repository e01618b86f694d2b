/** Appends events to the log in shared batches, then hands them to the sequencer and the bus [LOG1]. */
import type { Bus } from "../cluster/ports.ts";
import { InvariantBroken } from "../ground/assert.ts";
import { Unavailable } from "../ground/unavailable.ts";
import type { ServerMessageType, ServerPayload } from "../protocol/server.ts";
import type { AppendedEvent, AppendResult, EventLog, LoggedEvent, NewEvent } from "../storage/ports.ts";
import { Counts, countOne } from "../telemetry/counts.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Span } from "../telemetry/tracing.ts";
import { AppendQueue, type Group } from "./append-queue.ts";
import type { Audience } from "./broadcaster.ts";
import type { Sequencer } from "./sequencer.ts";

export interface PublisherOptions {
  log: EventLog;
  sequencer: Sequencer;
  bus: Bus;
  counts?: Counts;
  logger: Logger;
  /** Events that may wait for the log before `unavailable` (`websocket.broadcast_buffer`). */
  waitingMax: number;
}

/** An event of the protocol's own: it does not compile where its type has no schema, or its payload is another. */
export interface OwnEvent<Type extends ServerMessageType> extends Omit<NewEvent, "type" | "payload"> {
  type: Type;
  payload: ServerPayload<Type>;
}

interface AppendOptions {
  audience?: Audience;
  correlationId?: string;
  /** Of the request that it comes of; null where that is not traced. */
  span?: Span | null;
}

interface Waiting extends Group {
  audienceOf: (event: NewEvent) => Audience;
  correlationId: string | undefined;
  span: Span | null;
  /** Its step while it is published. */
  publishing: Span | null;
  resolve: (appended: AppendedEvent[]) => void;
  reject: (error: unknown) => void;
}

const tooMany = () => new Unavailable("storage", "Too many events are waiting for the log.", { isPublic: true });

export class Publisher {
  readonly #queue: AppendQueue<Waiting>;
  readonly #counts: Counts;
  readonly #listeners: ((event: LoggedEvent) => void)[] = [];

  constructor(private readonly options: PublisherOptions) {
    this.#counts = options.counts ?? new Counts();
    const { log, sequencer } = options;
    this.#queue = new AppendQueue({
      log,
      onTaken: (groups) => {
        for (const { events, audienceOf } of groups)
          for (const event of events) sequencer.expect(event.id, audienceOf(event));
      },
      onAppended: (groups, result, durationMs) => {
        this.#counts.appended({ events: result.appended.length, durationMs });
        const facts = { "ws.batch.events": result.appended.length };
        for (const { span } of groups) span?.note("append", { durationMs, facts });
        this.#publish(groups, result);
        this.#forget(groups);
      },
      onFailed: (groups, error, durationMs) => {
        this.#counts.appendFailures++;
        for (const { span } of groups) span?.note("append", { durationMs, error: "unavailable" });
        this.#fail(groups, error);
        this.#forget(groups);
      },
    });
  }

  /**
   * Resolves once the event is durable and published on this node. It has its place in the queue when the call returns: what is
   * appended later comes later [ENV7].
   * @throws Unavailable where the log is away or too much waits for it
   */
  async append<Type extends ServerMessageType>(
    event: OwnEvent<Type>,
    options: AppendOptions = {},
  ): Promise<AppendedEvent> {
    const [appended] = await this.appendAll([{ ...event, payload: JSON.stringify(event.payload) }], options);
    return appended!;
  }

  /**
   * As `append`, for an application's events, whose types are known only while running. They keep their order whatever happens:
   * all of them are appended, in one transaction, or none.
   * @param options `audienceOf`: where each has its own
   * @returns one for each event, in the same order
   */
  appendAll(
    events: NewEvent[],
    options: AppendOptions & { audienceOf?: (event: NewEvent) => Audience } = {},
  ): Promise<AppendedEvent[]> {
    if (events.length === 0) return Promise.resolve([]);
    return this.#isFull() ? Promise.reject(tooMany()) : this.#enqueue(events, options);
  }

  /** As `append`, for the same event on many topics: either too much waits for all of them, or for none. */
  async appendEach(events: NewEvent[], options: AppendOptions = {}): Promise<AppendedEvent[]> {
    if (this.#isFull()) throw tooMany();
    // The first stands for all in a trace, which would have two steps for each topic.
    const others = { ...options, span: null };
    const appended = await Promise.all(
      events.map((event, index) => this.#enqueue([event], index === 0 ? options : others)),
    );
    return appended.flat();
  }

  /** Has a listener told of each event that was appended here, once this node's subscribers have it. */
  onAppended(listener: (event: LoggedEvent) => void): void {
    this.#listeners.push(listener);
  }

  /** Resolves when nothing waits any more. */
  drained(): Promise<void> {
    return this.#queue.drained();
  }

  stats() {
    return { waiting: this.#queue.waiting };
  }

  /** Whether so much waits that whoever has something waiting should not add to it. */
  get isCrowded(): boolean {
    return this.#queue.waiting >= this.options.waitingMax / 2;
  }

  #isFull(): boolean {
    return this.#queue.waiting >= this.options.waitingMax;
  }

  #enqueue(
    events: NewEvent[],
    {
      audience = {},
      audienceOf = () => audience,
      correlationId,
      span = null,
    }: AppendOptions & { audienceOf?: (event: NewEvent) => Audience },
  ): Promise<AppendedEvent[]> {
    return new Promise((resolve, reject) => {
      // Events that one connection causes keep their order; all others are given alone.
      const source = audience.except ?? {};
      this.#queue.add({ events, source, audienceOf, correlationId, span, publishing: null, resolve, reject });
    });
  }

  #forget(groups: Waiting[]): void {
    for (const { events } of groups) for (const { id } of events) this.options.sequencer.forget(id);
  }

  #publish(batch: Waiting[], { appended, previousPosition }: AppendResult): void {
    const { sequencer } = this.options;
    const heads = new Map<string, number>();
    let lastPosition = 0;
    let start = 0;
    for (const waiting of batch) {
      const results = appended.slice(start, start + waiting.events.length);
      start += results.length;
      if (waiting.span !== null) waiting.publishing = waiting.span.begin("publish");
      for (const [index, result] of results.entries()) {
        const { topic, seq, position, duplicate } = result;
        const head = heads.get(topic) ?? 0;
        if (!duplicate && (position <= lastPosition || seq <= head)) {
          // The sender is told what the log says; what the topic is to show is read from there.
          sequencer.halt(topic, new InvariantBroken("append", { seq, head, position, before: lastPosition }));
          continue;
        }
        if (!duplicate) {
          lastPosition = position;
          heads.set(topic, seq);
        }
        this.#publishOne(waiting.events[index]!, result, waiting);
      }
      waiting.publishing?.end();
      waiting.resolve(results);
    }
    if (lastPosition > 0) sequencer.batchAccepted({ previousPosition, lastPosition });
  }

  #publishOne(event: NewEvent, result: AppendedEvent, { audienceOf, correlationId, publishing }: Waiting): void {
    const { sequencer, bus, logger } = this.options;
    if (!result.duplicate) {
      countOne(this.#counts.published, "logged");
      const { id, topic, type, payload, createdAt, compactionKey } = event;
      const logged: LoggedEvent = { id, topic, type, payload, createdAt, seq: result.seq, position: result.position };
      if (compactionKey !== undefined) logged.compactionKey = compactionKey;
      const audience = audienceOf(event);
      sequencer.accept(logged, audience);
      const { exceptDevice } = audience;
      const epoch = sequencer.epochs.current.id;
      bus.publish(topic, { kind: "logged", event: logged, exceptDevice, epoch, traceparent: publishing?.traceparent });
      for (const listener of this.#listeners) listener(logged);
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
    if (!(error instanceof Unavailable)) this.options.logger.error({ err: error }, "append failed");
    const message = "The event log is not available; try again with the same key.";
    for (const { reject } of batch) reject(new Unavailable("storage", message, { isPublic: true, cause: error }));
  }
}
