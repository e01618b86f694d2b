/** A backend on the whole log by the real feed of a node, which judges what it is sent [BAK2] [LOG3] [LOG4]. */
import type { OutgoingMessage } from "../../src/protocol/envelope.ts";
import type { EventLog } from "../../src/storage/ports.ts";
import { LogFeed } from "../../src/subscription/log-feed.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { createSubscriber } from "../support/subscriber.ts";
import type { ModelLog } from "./model-log.ts";

const { logger } = createLogSink({ level: "silent", format: "json" });

export class Backend {
  readonly #feed: LogFeed;
  readonly #subscriber = createSubscriber("backend", { sendAll: (messages) => this.#take(messages) });
  readonly #has = new Set<string>();
  readonly #seqs = new Map<string, number>();
  #last = 0;
  #fault: string | null = null;

  constructor(
    readonly log: ModelLog,
    port: EventLog,
  ) {
    this.#feed = new LogFeed({ log: port, sequencer: { deletions: 0 }, tell: () => {}, logger, pageSize: 2 });
  }

  async start(): Promise<void> {
    const start = { position: 0, breaks: 0, seen: {}, isUnbroken: true };
    this.#feed.start(this.#subscriber, await this.#feed.open(start));
  }

  /** Something was logged, or half a second has gone. */
  wake(): void {
    this.#feed.wake();
  }

  fault(): string | null {
    const cursor = this.#feed.positionOf(this.#subscriber) ?? 0;
    const missed = this.log.events.find(({ id, position }) => position <= cursor && !this.#has.has(id));
    if (missed)
      return `the feed is told ${cursor} and was not sent ${missed.topic}:${missed.seq} at ${missed.position}`;
    return this.#fault;
  }

  /** Tells what it must have by now and has not. */
  missing(): string | null {
    const missed = this.log.events.find(({ id }) => !this.#has.has(id));
    return missed === undefined ? null : `the feed never has ${missed.topic}:${missed.seq}`;
  }

  #take(messages: OutgoingMessage[]): void {
    for (const { id, topic, seq, position } of messages) {
      const last = this.#seqs.get(topic!) ?? 0;
      if (seq !== last + 1) this.#fault ??= `the feed is sent ${topic}:${seq} after ${topic}:${last}`;
      if (position! <= this.#last) this.#fault ??= `the feed is sent ${position} after ${this.#last}`;
      this.#seqs.set(topic!, seq!);
      this.#last = position!;
      this.#has.add(id);
    }
  }
}
