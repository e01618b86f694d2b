/** Keeps the newest events that this node knows to be committed: one that the log does not have any more was lost [LOG4]. */
import type { EventLog, LoggedEvent } from "./ports.ts";

export type Witness = Pick<LoggedEvent, "topic" | "seq" | "position" | "id">;

/** So many are kept; what was lost is the end of the log, which they are of. */
const keptMax = 64;

export class Witnesses {
  #kept: Witness[] = [];

  /** Takes an event that was appended or heard of just now; its position may be below others that were committed before it. */
  add({ topic, seq, position, id }: Witness): void {
    this.#kept.push({ topic, seq, position, id });
    if (this.#kept.length >= 2 * keptMax) this.#kept = this.#kept.slice(-keptMax);
  }

  /** Takes an event that was read; who reads what is old must not push out what is new. */
  addRead(event: Witness): void {
    if (event.position > (this.#kept.at(-1)?.position ?? 0)) this.add(event);
  }

  /** In the order in which they came. */
  get all(): readonly Witness[] {
    return this.#kept.slice(-keptMax);
  }

  get newest(): Witness | undefined {
    return this.#kept.at(-1);
  }

  /** Forgets them all: the log is known not to have some of them. */
  forget(): void {
    this.#kept = [];
  }
}

/** Notes the newest event of each of a log's reads and appends. */
export function witnessed(log: EventLog, witnesses: Witnesses): Pick<EventLog, "append" | "replay" | "range"> {
  const noteLast = <Page extends { events: LoggedEvent[] }>(page: Page): Page => {
    const last = page.events.at(-1);
    if (last !== undefined) witnesses.addRead(last);
    return page;
  };
  return {
    async append(events, units) {
      const result = await log.append(events, units);
      const last = result.appended.findLast(({ duplicate, deferred }) => !duplicate && !deferred);
      if (last !== undefined) witnesses.add(last);
      return result;
    },
    replay: async (query) => noteLast(await log.replay(query)),
    range: async (query) => noteLast(await log.range(query)),
  };
}
