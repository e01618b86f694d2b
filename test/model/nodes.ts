/** A node with the real sequencer and publisher on a model log, and a client that judges what it is sent [LOG3] [LOG4]. */
import type { Recipient } from "../../src/broadcast/ports.ts";
import { Publisher } from "../../src/broadcast/publisher.ts";
import { Sequencer } from "../../src/broadcast/sequencer.ts";
import { atOnce } from "../../src/ground/at-once.ts";
import { Unavailable } from "../../src/ground/unavailable.ts";
import type { OutgoingMessage } from "../../src/protocol/envelope.ts";
import { readCursor } from "../../src/storage/epochs.ts";
import type { AppendedEvent, EventLog, LoggedEvent, NewEvent } from "../../src/storage/ports.ts";
import { catchUp } from "../../src/subscription/catch-up.ts";
import { startingPointOf } from "../../src/subscription/starting-point.ts";
import { Counts } from "../../src/telemetry/counts.ts";
import { createLogSink } from "../../src/telemetry/logger.ts";
import { createSubscriber } from "../support/subscriber.ts";
import type { ModelLog } from "./model-log.ts";

/** Surrounds a node. */
export interface Surroundings {
  readonly log: ModelLog;
  /** Gives what connections of a node read by. */
  portOf: (node: string) => EventLog;
  /** Tells all nodes but the one of an event. */
  tell: (from: string, event: LoggedEvent) => void;
  fail: (what: string) => void;
}

/** Brought by a client that comes back. */
export interface Since {
  cursor: number;
  seen: Record<string, number>;
}

const { logger } = createLogSink({ level: "silent", format: "json" });

export class Node {
  readonly sequencer: Sequencer;
  readonly counts = new Counts();
  readonly #publisher: Publisher;
  readonly #sources = new Map<string, Source>();
  /** Per topic who is subscribed. */
  readonly clients = new Set<Client>();

  constructor(
    readonly name: string,
    readonly world: Surroundings,
  ) {
    const log = world.log.portOf(name);
    this.sequencer = new Sequencer({
      log,
      publish: (event) => {
        for (const client of this.clients) if (client.topics.has(event.topic)) client.take(event);
      },
      hasSubscribers: (topic) => [...this.clients].some(({ topics }) => topics.has(topic)),
      recent: { bytesMax: 1024 * 1024 },
      counts: this.counts,
      logger,
    });
    const bus = {
      publish: (_topic: string, message: { kind: string; event?: LoggedEvent }) => world.tell(name, message.event!),
    } as unknown as ConstructorParameters<typeof Publisher>[0]["bus"];
    this.#publisher = new Publisher({ log, sequencer: this.sequencer, bus, logger, waitingMax: 100 });
  }

  /** Given to a client now. */
  get cursor(): number {
    return readCursor(this.sequencer.cursor)!.position;
  }

  async publish(events: NewEvent[], except?: Recipient): Promise<AppendedEvent[]> {
    const append = this.#publisher.appendAll(events, { audience: { except } });
    return append.catch((error) => {
      this.world.fail(`${error}`);
      return [];
    });
  }

  /** Its events come to the log, and the replies to it, in the order in which it has published them [ENV7]. */
  publishFrom(name: string, events: NewEvent[]): void {
    const unused = createSubscriber(name);
    const source = this.#sources.get(name) ?? { recipient: unused, published: 0, answered: 0, lastPosition: 0 };
    this.#sources.set(name, source);
    const turn = source.published++;
    void this.publish(events, source.recipient).then((appended) => {
      if (turn !== source.answered++) this.world.fail(`${name} is answered out of turn`);
      for (const { topic, seq, position } of appended) {
        if (position < source.lastPosition)
          this.world.fail(`${topic}:${seq} of ${name} is before what was published before it`);
        source.lastPosition = position;
      }
    });
  }
}

/** Publishes without waiting for its replies. */
interface Source {
  recipient: Recipient;
  published: number;
  answered: number;
  lastPosition: number;
}

/** One that follows the documentation: it keeps the cursor, and the last number of each topic that it has seen. */
export class Client {
  readonly topics = new Set<string>();
  /** Last number of each topic; of one that began at the head, once it is there. */
  readonly seen = new Map<string, number>();
  /** Ids of events that it has, or had before it came. */
  readonly #has = new Set<string>();
  /** Where it began on each topic, once that is known. */
  readonly #begins = new Map<string, number>();
  readonly #subscriber;
  isBack = false;

  constructor(
    readonly name: string,
    readonly node: Node,
  ) {
    node.clients.add(this);
    this.#subscriber = {
      ...createSubscriber("ben", { sendAll: (messages) => this.#takeAll(messages) }),
      subscribe: (topic: string) => void this.topics.add(topic),
    };
  }

  connect(topics: string[], since: Since | null): void {
    const { log, fail } = this.node.world;
    if (since !== null) {
      for (const topic of topics) {
        const isHad = ({ position, seq }: LoggedEvent) => position <= since.cursor || seq <= (since.seen[topic] ?? 0);
        const had = log.events.filter((it) => it.topic === topic && isHad(it));
        for (const { id } of had) this.#has.add(id);
        this.seen.set(topic, had.length);
        this.#begins.set(topic, 0);
      }
    }
    this.#catchUp(topics, since).then(
      (places) => {
        this.isBack = true;
        for (const [topic, { seq, recovered }] of places) {
          if (since === null) this.#beginAt(topic, seq);
          else if (recovered === false) fail(`${this.name} is told that ${topic} was not recovered`);
        }
        const { cursor } = this.node;
        if (since !== null && cursor < since.cursor)
          fail(`${this.name} came with ${since.cursor} and is told ${cursor}`);
      },
      // It is told to try again, with what it has by now.
      (error) => {
        if (!(error instanceof Unavailable)) fail(`${this.name}: ${error}`);
        const seen = { ...since?.seen, ...Object.fromEntries(this.seen) };
        // A topic that is live by now has caught up, and is not begun again.
        const left = topics.filter((topic) => !this.topics.has(topic));
        this.connect(left, since && { ...since, seen });
      },
    );
  }

  async #catchUp(topics: string[], since: Since | null) {
    const { sequencer } = this.node;
    const lookup = { sequencer, cursors: { acknowledged: async () => null } };
    const { epochs } = sequencer;
    const told = since && { cursor: epochs.cursorOf(since.cursor), seen: since.seen };
    const start = told && (await atOnce(startingPointOf(this.#subscriber, told, lookup)));
    const request = { subscriber: this.#subscriber, topics, since: start, revoked: new Set<string>() };
    return catchUp({ log: this.#log, sequencer, pageSize: 2 }, request);
  }

  #beginAt(topic: string, seq: number): void {
    this.#begins.set(topic, seq);
    const last = this.seen.get(topic);
    if (last === undefined) this.seen.set(topic, seq);
  }

  get #log() {
    return this.node.world.portOf(this.node.name);
  }

  /** The line breaks. @returns what it comes back with */
  leave(): Since {
    this.node.clients.delete(this);
    const { cursor } = this.node;
    const { log } = this.node.world;
    const isAbove = ([topic, seq]: [string, number]) =>
      log.events.some((it) => it.topic === topic && it.seq === seq && it.position > cursor);
    return { cursor, seen: Object.fromEntries([...this.seen].filter(isAbove)) };
  }

  #takeAll(messages: OutgoingMessage[]): void {
    for (const message of messages) this.take(message);
  }

  take({ id, topic, seq }: Pick<OutgoingMessage, "id" | "topic" | "seq">): void {
    const last = this.seen.get(topic!);
    if (last !== undefined && seq !== last + 1)
      this.node.world.fail(`${this.name} is sent ${topic}:${seq} after ${topic}:${last}`);
    this.seen.set(topic!, seq!);
    this.#has.add(id);
  }

  /** Of what the cursor speaks for: all was sent. */
  fault(): string | null {
    const { log } = this.node.world;
    const { cursor } = this.node;
    for (const { id, topic, seq, position } of log.events) {
      if (!this.topics.has(topic) || position > cursor || this.#has.has(id)) continue;
      if (seq > (this.#begins.get(topic) ?? Number.POSITIVE_INFINITY))
        return `${this.name} is told ${cursor} and was not sent ${topic}:${seq} at ${position}`;
    }
    return null;
  }
}
