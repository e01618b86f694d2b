/** Goes over the log, one node at a time and a while behind it, and tells of what has found nobody [BAK3]. */
import { nextTurn } from "../ground/next-turn.ts";
import type { EventLog } from "../storage/ports.ts";
import type { PushStore } from "../storage/push-store.ts";
import { Outage, type OutageLogger } from "../telemetry/outage.ts";
import type { NodeStats } from "../telemetry/stats.ts";
import { type Candidate, toCandidate } from "./candidate.ts";
import { findMissed, type SearchOptions } from "./find-missed.ts";
import type { MissedTopic } from "./missed-topic.ts";
import type { PushSwitch } from "./switch.ts";

export interface MissedSearchOptions extends SearchOptions {
  log: Pick<EventLog, "feed" | "watermark" | "epochs">;
  store: PushStore;
  power: PushSwitch;
  topic: Pick<MissedTopic, "tell">;
  /** Names this run of the node. */
  holder: string;
  /** How long an event has to find a device, ms. */
  afterMs: number;
  logger: OutageLogger;
}

/** A page of the log that was read, as far as it is not done with. */
interface Held {
  /** The place that it follows on. */
  from: number;
  /** Where the page ends. */
  through: number;
  more: boolean;
  epoch: string;
  breaks: number;
  candidates: Candidate[];
}

const leaseMs = 5_000;
/** Events logged within so long are looked at together. */
const gatherMs = 250;
/** How often the end of the log is looked at, and a node of which nothing is known. */
const pollMs = 500;
/** How often it is asked whether somebody wants to know, by nodes that nobody has asked. */
const offPollMs = 30_000;
const retryMs = 1_000;
/** After a start devices have so long to come back, at most. */
const comingBackMs = 5_000;
const pageSize = 500;

export class MissedSearch {
  readonly #ended = new AbortController();
  readonly #outage: Outage;
  #running: Promise<void> = Promise.resolve();
  #wake: (() => void) | null = null;
  /** Something has come up since the last rest: there is no next one. */
  #isWoken = false;
  #turn: "elsewhere" | "ours" = "elsewhere";
  #held: Held | null = null;
  /** Since when (ms since 1970) this node could not go on; null: it can, or another one does. */
  #waitsSince: number | null = null;
  #told = 0;
  #users = 0;

  constructor(private readonly options: MissedSearchOptions) {
    const { logger, log, power } = options;
    this.#outage = new Outage({
      level: "warn",
      gone: "missed events wait",
      back: "missed events are told again",
      logger,
    });
    log.epochs.watch(({ isBroken }) => {
      if (isBroken) this.#held = null;
    });
    power.onTurned(() => {
      this.#isWoken = true;
      this.#wake?.();
    });
  }

  async start(): Promise<void> {
    const { power } = this.options;
    await this.#outage.attempt(power.start());
    if (power.mayBeOn) this.#running = this.#run();
  }

  /** Ends after what is under way; another node goes on. */
  async stop(): Promise<void> {
    this.#ended.abort();
    this.#wake?.();
    await this.#running;
    await this.#giveUp();
  }

  async stats(): Promise<NodeStats["push"]> {
    const { power, store, now } = this.options;
    const own = {
      on: power.isOn ? 1 : 0,
      turn: this.#turn === "ours" ? 1 : 0,
      told: this.#told,
      users: this.#users,
    };
    const lag = power.isOn ? await store.lag().catch(() => null) : null;
    if (lag === null) return own;
    const oldestMs = lag.oldestAt === null ? 0 : Math.max(0, now() - lag.oldestAt);
    return { ...own, behind: lag.behind, oldest_ms: oldestMs };
  }

  async #run(): Promise<void> {
    // Lets devices come back: away for a restart, nobody has missed anything.
    await this.#rest(Math.min(this.options.afterMs, comingBackMs));
    while (!this.#ended.signal.aborted) {
      try {
        const restMs = await this.#step();
        // Others have their turn also where there is always more to do.
        if (restMs > 0) await this.#rest(restMs);
        else await nextTurn();
      } catch (error) {
        // Said once, however long it lasts; the place stays where it is, for a node that can ask what this one cannot.
        this.#held = null;
        this.#outage.began(error);
        this.#waitsSince ??= this.options.now();
        await this.#giveUp();
        await this.#rest(retryMs);
      }
    }
  }

  /** @returns after how long (ms) there may be more to do */
  async #step(): Promise<number> {
    const { power, store, holder } = this.options;
    if (!power.isOn && !(await power.look())) {
      // Not wanted by anybody: there is nothing that waits.
      this.#goesOn();
      return offPollMs;
    }
    const turn = await store.take({ holder, forMs: leaseMs });
    this.#turn = turn.kind === "ours" ? "ours" : "elsewhere";
    if (turn.kind === "ours") {
      const restMs = await this.#goOn(turn.place);
      this.#goesOn();
      return restMs;
    }
    this.#held = null;
    if (turn.kind === "not_begun") await power.look();
    if (this.#waitsSince !== null && (await this.#isPast(this.#waitsSince))) this.#goesOn();
    return pollMs;
  }

  /** Whether some node has looked at all that was logged before a moment (ms since 1970). */
  async #isPast(moment: number): Promise<boolean> {
    const lag = await this.options.store.lag();
    return lag === null || lag.oldestAt === null || lag.oldestAt > moment;
  }

  #goesOn(): void {
    this.#waitsSince = null;
    this.#outage.ended();
  }

  async #giveUp(): Promise<void> {
    const { store, holder } = this.options;
    if (this.#turn === "ours") await store.release(holder).catch(() => {});
    this.#turn = "elsewhere";
  }

  async #goOn(place: { epoch: string; position: number }): Promise<number> {
    const { log, now, afterMs, topic } = this.options;
    const from = log.epochs.heldOf(place) ?? Math.min(place.position, await log.watermark());
    const held = this.#held?.from === from ? this.#held : await this.#read(from);
    this.#held = held;
    const [first] = held.candidates;
    if (first === undefined) {
      if (held.through > from || place.epoch !== held.epoch) await this.#move(held, held.through);
      this.#held = null;
      return held.more ? 0 : pollMs;
    }
    const dueAt = ({ at }: Candidate) => at + afterMs;
    const waitMs = dueAt(first) - now();
    if (waitMs > 0) return Math.min(waitMs + Math.min(gatherMs, afterMs / 10), leaseMs / 4);
    const due = held.candidates.findIndex((candidate) => dueAt(candidate) > now());
    const group = due < 0 ? held.candidates : held.candidates.slice(0, due);
    const { looked, missed, unsure } = await findMissed(group, this.options);
    // The log has gone back meanwhile, and what was read is not there any more.
    if (held.breaks !== log.epochs.breaks) return 0;
    // A node that says nothing is asked about again until it lives or is dead.
    if (unsure > 0) return pollMs;
    if (missed.length > 0) await topic.tell(missed);
    this.#told += missed.length;
    this.#users += missed.reduce((sum, { userIds }) => sum + userIds.length, 0);
    held.candidates = held.candidates.slice(looked);
    await this.#move(held, held.candidates.length === 0 ? held.through : group[looked - 1]!.event.position);
    return 0;
  }

  async #read(from: number): Promise<Held> {
    const { log, now } = this.options;
    const { current, breaks } = log.epochs;
    const page = await log.feed({ afterPosition: from, limit: pageSize });
    const readAt = now();
    return {
      from,
      through: Math.max(from, page.position),
      more: page.more,
      epoch: current.id,
      breaks,
      // A moment that lies ahead was written by a clock that is fast.
      candidates: page.events.flatMap((event) => {
        const candidate = toCandidate(event);
        return candidate === null ? [] : { ...candidate, at: Math.min(candidate.at, readAt) };
      }),
    };
  }

  /** The place moves once what is before it is durable: whoever goes on begins there. */
  async #move(held: Held, position: number): Promise<void> {
    const { store, holder } = this.options;
    const isOurs = await store.move(holder, { epoch: held.epoch, position });
    if (isOurs) held.from = position;
    else this.#held = null;
  }

  #rest(ms: number): Promise<void> {
    if (this.#ended.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#wake = null;
        this.#isWoken = false;
        resolve();
      };
      const timer = setTimeout(end, this.#isWoken ? 0 : ms);
      this.#wake = end;
    });
  }
}
