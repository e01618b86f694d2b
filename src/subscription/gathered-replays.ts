/** Asks the log once for what many who come back at once ask it: a storm is mostly the same question [LOG5]. */
import { Gathering } from "../ground/gathering.ts";
import type { EventLog, ReplayPage } from "../storage/ports.ts";
import type { ReplayQuery } from "./replay-page.ts";

/** Topics of one question that is gathered with others: a long one waits for nobody, and nobody waits for it. */
const topicsMax = 20;
const atOnceMax = 64;
const underWayMax = 2;
/** Events of the answer; where there are more each asks for itself. */
const eventsMax = 1_000;

export class GatheredReplays {
  readonly #gathering: Gathering<ReplayQuery, ReplayPage>;
  /** The newest place that anybody has come from. */
  #newest = 0;

  constructor(private readonly options: { log: Pick<EventLog, "replay"> }) {
    this.#gathering = new Gathering({ ask: (queries) => this.#readFor(queries), atOnceMax, underWayMax });
  }

  /** As `EventLog.replay`, in the next turn of the loop where it is small. */
  replay(query: ReplayQuery): Promise<ReplayPage> {
    if (query.topics.length > topicsMax) return this.options.log.replay(query);
    this.#newest = Math.max(this.#newest, query.afterPosition);
    // From about as far, at most twice: nobody reads much for one who was away for long.
    const distance = Math.ceil(Math.log2(this.#newest - query.afterPosition + 1));
    return this.#gathering.ask(query, distance);
  }

  async #readFor(queries: ReplayQuery[]): Promise<(ReplayPage | Promise<ReplayPage>)[]> {
    const { log } = this.options;
    if (queries.length === 1) return [log.replay(queries[0]!)];
    const topics = [...new Set(queries.flatMap((query) => query.topics))];
    const afterPosition = Math.min(...queries.map((query) => query.afterPosition));
    const page = await log.replay({ topics, afterPosition, limit: eventsMax });
    if (page.more) return queries.map((query) => log.replay(query));
    const byTopic = Map.groupBy(page.events, ({ topic }) => topic);
    return queries.map((query) => partOf(page, byTopic, query));
  }
}

function partOf(
  { heads, watermark }: ReplayPage,
  byTopic: Map<string, ReplayPage["events"]>,
  { topics, afterPosition, limit }: ReplayQuery,
): ReplayPage {
  const events = topics
    .flatMap((topic) => byTopic.get(topic) ?? [])
    .filter(({ position }) => position > afterPosition)
    .sort((a, b) => a.position - b.position);
  return {
    events: events.slice(0, limit),
    heads: new Map(topics.map((topic) => [topic, heads.get(topic)!])),
    watermark,
    more: events.length > limit,
  };
}
