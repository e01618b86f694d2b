/** Tells a connection of its topics once the log has gone back [LOG4]. */

import type { Sequencer } from "../broadcast/sequencer.ts";
import { pages } from "../ground/pages.ts";
import type { SubscribedTopic } from "../protocol/server.ts";
import { isLogged, parseTopic } from "../protocol/topic.ts";
import type { Subscriber } from "./subscriber.ts";
import type { Tell } from "./tell.ts";

export interface LogBreakNoticesOptions {
  sequencer: Pick<Sequencer, "headOf" | "cursor">;
  tell: Tell;
}

/** Topics of one message: a connection may be on very many. */
const topicsAtOnce = 1_000;

/** Connections that have not been told yet. None is given a cursor of the new epoch before: it would come back with it as if all were well. */
export class LogBreakNotices {
  readonly #untold = new WeakSet<Subscriber>();

  constructor(private readonly options: LogBreakNoticesOptions) {}

  /** The log has gone back just now. */
  owe(subscribers: Iterable<Subscriber>): void {
    for (const subscriber of subscribers) this.#untold.add(subscriber);
  }

  /** Tells it, where that is still owed. */
  tell(subscriber: Subscriber): void {
    if (this.#untold.delete(subscriber)) tellLogBreak(subscriber, this.options);
  }
}

/** Of each logged topic it is said where its head is now, where that is known already, and that what was heard of it before may be lost. */
export function tellLogBreak(subscriber: Subscriber, { sequencer, tell }: LogBreakNoticesOptions): void {
  const logged = subscriber.topics().filter((name) => isLogged(parseTopic(name)!));
  const { cursor } = sequencer;
  for (const page of pages(logged, topicsAtOnce)) {
    if (subscriber.isClosed) return;
    const topics = page.map((name): SubscribedTopic => {
      const seq = sequencer.headOf(name);
      return { topic: name, ...(seq === undefined ? {} : { seq }), recovered: false };
    });
    tell(subscriber, "subscribed", { topics, rejected: [], rejected_count: 0, cursor });
  }
}
