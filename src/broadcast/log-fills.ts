/** Publishes from the log what this node has missed of its topics, each topic by one reader at a time. */
import type { EventLog, LoggedEvent } from "../storage/ports.ts";
import { eventsOf } from "./moved.ts";

/** Head of a topic that somebody is catching up on and whose place on this node is not known yet. */
export const unknownHead = -1;

export interface LogFillsOptions {
  log: Pick<EventLog, "epochs" | "range" | "replay">;
  /** Per topic of interest here the last `seq` published on this node, or `unknownHead`. */
  heads: ReadonlyMap<string, number>;
  /** Moves the head of a topic beyond what nobody here is to be sent, or what the log has not any more. */
  skipTo: (topic: string, seq: number) => void;
  /** Publishes an event above the head, and moves the head to it. */
  publish: (event: LoggedEvent) => void;
  /** Whether the text of an event is deleted by what is known already: it has to be read anew. */
  isDeleted: (event: LoggedEvent) => boolean;
  /** Called once a topic's head has come to where it was to be filled: what waited above it may be next. */
  onFilled: (topic: string) => void;
}

interface TopicBehind {
  topic: string;
  /** The last one in the log. */
  seq: number;
}

const rangePage = 500;
/** Topics that are each read on their own: they miss an event or two. After an outage of the bus many miss many. */
const rangesMax = 16;

export class LogFills {
  readonly #running = new Map<string, Promise<void>>();

  constructor(private readonly options: LogFillsOptions) {}

  /** Publishes from the log up to a `seq`; numbers that the log has no event for were compacted or trimmed. */
  fill(topic: string, throughSeq: number): Promise<void> {
    const running = this.#running.get(topic);
    if (running !== undefined) {
      return running.then(() => (this.#isBelow(topic, throughSeq) ? this.fill(topic, throughSeq) : undefined));
    }
    const fill = this.#readThrough(topic, throughSeq).finally(() => {
      if (this.#running.get(topic) === fill) this.#running.delete(topic);
    });
    this.#running.set(topic, fill);
    return fill;
  }

  /** Fills all of these whose head is below. @param afterPosition everything up to there was published */
  async fillAll(moved: TopicBehind[], stretch: { afterPosition: number; throughPosition: number }): Promise<void> {
    const behind = moved.filter(({ topic, seq }) => this.#isBelow(topic, seq));
    if (behind.length <= rangesMax) await Promise.all(behind.map(({ topic, seq }) => this.fill(topic, seq)));
    else await this.#fillTogether(behind, stretch);
  }

  /** Resolves once a fill that is under way for the topic has ended. */
  async settled(topic: string): Promise<void> {
    await this.#running.get(topic);
  }

  /** The log has gone back: what is being read may not be so, and is not waited for. */
  clear(): void {
    this.#running.clear();
  }

  #isBelow(topic: string, seq: number): boolean {
    return (this.options.heads.get(topic) ?? seq) < seq;
  }

  /** Fills many topics by reads over all of them; whatever they miss is above the cursor. */
  async #fillTogether(
    behind: TopicBehind[],
    stretch: { afterPosition: number; throughPosition: number },
  ): Promise<void> {
    const { log, heads, publish, skipTo, isDeleted, onFilled } = this.options;
    const { epochs } = log;
    const { breaks } = epochs;
    const stale = new Set<string>();
    const query = { topics: behind.map(({ topic }) => topic), ...stretch };
    for await (const events of eventsOf({ log, epochs }, query)) {
      for (const event of events) {
        const head = heads.get(event.topic) ?? unknownHead;
        if (head === unknownHead || event.seq <= head || stale.has(event.topic)) continue;
        if (isDeleted(event)) stale.add(event.topic);
        else publish(event);
      }
    }
    if (epochs.breaks !== breaks) return;
    await Promise.all(behind.map(({ topic, seq }) => (stale.has(topic) ? this.fill(topic, seq) : undefined)));
    if (epochs.breaks !== breaks) return;
    for (const { topic, seq } of behind) {
      // The last ones were compacted or trimmed; or nobody is subscribed, and whoever is catching up reads them by itself.
      if (this.#isBelow(topic, seq)) skipTo(topic, seq);
      onFilled(topic);
    }
  }

  async #readThrough(topic: string, throughSeq: number): Promise<void> {
    const { log, heads, publish, skipTo, isDeleted, onFilled } = this.options;
    const { epochs } = log;
    const { breaks } = epochs;
    // Reads anew but once: an event that the log has still, once its deletion was heard of, is as it has it.
    let readAnew = unknownHead;
    // A log that has gone back may not have come as far again.
    while (epochs.breaks === breaks) {
      const head = heads.get(topic);
      if (head === undefined || head >= throughSeq) return;
      if (head === unknownHead) {
        // Without a subscriber: whoever is catching up reads these events by itself.
        skipTo(topic, throughSeq);
        return;
      }
      const page = await log.range({ topic, afterSeq: head, throughSeq, limit: rangePage });
      if (epochs.breaks !== breaks) return;
      let isStale = false;
      for (const event of page.events) {
        const now = heads.get(topic);
        if (now === undefined || event.seq <= now) continue;
        isStale = event.seq !== readAnew && isDeleted(event);
        if (isStale) {
          readAnew = event.seq;
          break;
        }
        publish(event);
      }
      if (!isStale && !page.more && this.#isBelow(topic, throughSeq)) skipTo(topic, throughSeq);
      onFilled(topic);
    }
  }
}
