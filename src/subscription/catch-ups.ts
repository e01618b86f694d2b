/** Takes connections live on topics that they may hear: on logged ones level with the log, on the others at once [LOG5]. */

import type { OwnSent } from "../broadcast/own-sent.ts";
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { Bus } from "../cluster/ports.ts";
import type { Steps } from "../ground/at-once.ts";
import { pagePerTurn } from "../ground/pages.ts";
import { isLogged, type Topic } from "../protocol/topic.ts";
import type { FairQueue } from "../storage/fair-queue.ts";
import type { EventLog } from "../storage/ports.ts";
import { type CatchUpOptions, catchUp, type Places, type TopicPlace } from "./catch-up.ts";
import { GatheredReplays } from "./gathered-replays.ts";
import type { PendingSubscription } from "./pending-subscriptions.ts";
import type { StartingPoint } from "./starting-point.ts";

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

  readonly #replays: GatheredReplays;

  constructor(private readonly options: CatchUpsOptions) {
    this.#replays = new GatheredReplays(options);
  }

  /** @param since null: logged topics begin at their heads. @returns by name where the connection is on each logged topic */
  *start(pending: PendingSubscription, topics: Topic[], since: StartingPoint | null): Steps<Places> {
    const { bus, sequencer, ownSent, isAlone, questions } = this.options;
    const { subscriber, revoked } = pending;
    if (topics.length === 0) return new Map();
    this.#subscribes++;
    const logged: string[] = [];
    const unlogged: string[] = [];
    for (const topic of topics) (isLogged(topic) ? logged : unlogged).push(topic.name);
    // Heard from before the log is read, so that nothing falls between the two.
    const watching = topics.flatMap(({ name }) => bus.watch(name) ?? []);
    if (watching.length > 0) yield Promise.all(watching);
    const join = (page: string[]) => {
      for (const name of page) if (!revoked.has(name) && !subscriber.isClosed) subscriber.subscribe(name);
    };
    const joining = pagePerTurn(unlogged, join);
    if (joining instanceof Promise) yield joining;
    if (logged.length === 0) return new Map();
    const log: CatchUpOptions["log"] = {
      headsNow: (names) => this.options.log.headsNow?.(names) ?? null,
      heads: (names) => questions.ask(subscriber, () => this.options.log.heads(names)),
      replay: (query) => {
        this.#replaysRead++;
        return questions.ask(subscriber, () => this.#replays.replay(query));
      },
    };
    const onReplayed = (characters: number) => {
      pending.replayed += characters;
    };
    const request = { subscriber, topics: logged, since, revoked, onReplayed };
    const catchingUp = catchUp({ log, sequencer, ownSent, isAlone }, request);
    const places = catchingUp instanceof Promise ? yield catchingUp : catchingUp;
    for (const [name, { replayed }] of places) {
      this.#replayedEvents += replayed;
      // A long replay outlasts what the bus keeps of topics that nobody is on yet; what is missed until then is repaired.
      if (since !== null) void bus.watch(name);
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
