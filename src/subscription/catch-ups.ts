/** Takes connections live on topics that they may hear: on logged ones level with the log, on the others at once [LOG5]. */

import type { OwnSent } from "../broadcast/own-sent.ts";
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { Bus } from "../cluster/ports.ts";
import type { Steps } from "../ground/at-once.ts";
import { pagePerTurn } from "../ground/pages.ts";
import { isLogged, type Topic } from "../protocol/topic.ts";
import type { FairQueue } from "../storage/fair-queue.ts";
import type { EventLog } from "../storage/ports.ts";
import { catchUp } from "./catch-up.ts";
import { GatheredReplays } from "./gathered-replays.ts";
import type { PendingSubscription } from "./pending-subscriptions.ts";
import type { Places, TopicPlace } from "./places.ts";
import type { ReplayQuery } from "./replay-page.ts";
import type { StartingPoint } from "./starting-point.ts";
import type { Subscriber } from "./subscriber.ts";

export interface CatchUpsOptions {
  log: Pick<EventLog, "heads" | "headsNow" | "replay">;
  sequencer: Sequencer;
  ownSent: OwnSent;
  bus: Pick<Bus, "watch">;
  /** Whether this node alone appends to the log. */
  isAlone?: boolean;
  /** Where a question waits for its turn among its user's. */
  questions: FairQueue;
}

export class CatchUps {
  #subscribes = 0;
  #replayedEvents = 0;
  /** Questions of replays to the log; all others were answered out of memory. */
  #replaysRead = 0;

  readonly #log: AskedLogOptions;

  constructor(private readonly options: CatchUpsOptions) {
    const replays = new GatheredReplays(options);
    const replay = (query: ReplayQuery) => {
      this.#replaysRead++;
      return replays.replay(query);
    };
    this.#log = { ...options, replay };
  }

  /** @param since null: logged topics begin at their heads. @returns by name where the connection is on each logged topic */
  *start(pending: PendingSubscription, topics: Topic[], since: StartingPoint | null): Steps<Places> {
    const { bus, sequencer, ownSent, isAlone } = this.options;
    const { subscriber, revoked } = pending;
    if (topics.length === 0) return new Map();
    this.#subscribes++;
    const logged: string[] = [];
    const unlogged: string[] = [];
    const watching: Promise<void>[] = [];
    for (const topic of topics) {
      (isLogged(topic) ? logged : unlogged).push(topic.name);
      // Heard from before the log is read, so that nothing falls between the two.
      const asked = bus.watch(topic.name);
      if (asked !== null) watching.push(asked);
    }
    if (watching.length > 0) yield Promise.all(watching);
    if (unlogged.length > 0) {
      const joining = pagePerTurn(unlogged, (page) => {
        for (const name of page) if (!revoked.has(name) && !subscriber.isClosed) subscriber.subscribe(name);
      });
      if (joining instanceof Promise) yield joining;
    }
    if (logged.length === 0) return new Map();
    const onReplayed = (characters: number) => {
      pending.replayed += characters;
    };
    const request = { subscriber, topics: logged, since, revoked, onReplayed };
    const log = new AskedLog(subscriber, this.#log);
    const catchingUp = catchUp({ log, sequencer, ownSent, isAlone }, request);
    const hasWaited = catchingUp instanceof Promise;
    const places = hasWaited ? yield catchingUp : catchingUp;
    for (const [name, { replayed }] of places) {
      this.#replayedEvents += replayed;
      // A long replay outlasts what the bus keeps of topics that nobody is on yet; what is missed until then is repaired.
      if (since !== null && hasWaited) void bus.watch(name);
    }
    return places;
  }

  /** The place on a topic that the connection was on already: nothing is replayed, and nothing is said to be recovered [SUB4]. */
  standingOn(topic: Topic): Partial<TopicPlace> {
    const seq = isLogged(topic) ? this.options.sequencer.headOf(topic.name) : undefined;
    return seq === undefined ? {} : { seq, replayed: 0 };
  }

  stats() {
    return { subscribes: this.#subscribes, replayed_events: this.#replayedEvents, replays_read: this.#replaysRead };
  }
}

interface AskedLogOptions extends Pick<CatchUpsOptions, "log" | "questions"> {
  replay: EventLog["replay"];
}

/** The log, each question to which waits for the turn of a connection's user. */
class AskedLog implements Pick<EventLog, "heads" | "headsNow" | "replay"> {
  constructor(
    private readonly subscriber: Subscriber,
    private readonly options: AskedLogOptions,
  ) {}

  headsNow(topics: string[]) {
    return this.options.log.headsNow?.(topics) ?? null;
  }

  heads(topics: string[]) {
    const { questions, log } = this.options;
    return questions.ask(this.subscriber, () => log.heads(topics));
  }

  replay(query: ReplayQuery) {
    const { questions, replay } = this.options;
    return questions.ask(this.subscriber, () => replay(query));
  }
}
