/** Erases users in the background, one at a time on each node: a page of each step after the other, so that another node goes on where one has died [BAK4]. */
import { amending, type MessageChange } from "../broadcast/message-changes.ts";
import type { Publisher } from "../broadcast/publisher.ts";
import type { CallService } from "../calls/service.ts";
import { momentText } from "../ground/moments.ts";
import { nextTurn } from "../ground/next-turn.ts";
import { pages } from "../ground/pages.ts";
import { Unavailable } from "../ground/unavailable.ts";
import { parseTopic } from "../protocol/topic.ts";
import type { Directory } from "../storage/directory-store.ts";
import type { ErasedRows, ErasureJob, ErasureStore, NamingEvent } from "../storage/erasure-store.ts";
import type { AppendedEvent, NewEvent } from "../storage/ports.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type Outage, warnsOnce } from "../telemetry/outage.ts";
import { fateOf } from "./fates.ts";

export interface EraserOptions {
  store: ErasureStore;
  directory: Pick<Directory, "recheck">;
  publisher: Pick<Publisher, "appendAll" | "isCrowded">;
  calls: Pick<CallService, "endOf">;
  /** Called where something was taken out of the log of which nobody is told. */
  onTakenOut: () => void;
  /** So long (ms) after the user was sent away all that it did before has been noted: then what is left is looked for. */
  settleMs: number;
  now: () => number;
  newId: () => string;
  logger: Logger;
}

/** So long (ms) has a node for a page before another one goes on with the user. */
const leaseMs = 15_000;
/** Messages that are deleted together: others' wait for as long as that takes. */
const deletedAtOnce = 25;
/** Before the next try, where the log has too much to do. */
const crowdedMs = 50;

/** Takes out what the user has, waits, and takes out what has come meanwhile: the log is looked through from where that ended. */
const plan = [
  ...(["memberships", "reactions", "log", "settle"] as const),
  ...(["memberships", "receipts", "reactions", "own", "log", "keys"] as const),
];

interface MessagePlace {
  topic: string;
  messageId: string;
}

export class Eraser {
  #state: "idle" | "running" | "stopped" = "stopped";
  #isWanted = false;
  #timer: Timer | null = null;
  /** By `performance.now()`. */
  #wakesAt = 0;
  #running: Promise<void> = Promise.resolve();
  readonly #outage: Outage;

  constructor(private readonly options: EraserOptions) {
    this.#outage = warnsOnce(options.logger, "erasing waits", "erasing goes on");
  }

  start(): void {
    this.#state = "idle";
    this.wake();
  }

  /** Ends after the page that is under way; another node goes on, or this one when it is started again. */
  async stop(): Promise<void> {
    this.#state = "stopped";
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    await this.#running;
  }

  /** Looks for users who are to be erased; to be called where there is one, and from time to time. Never rejects. */
  wake(): void {
    this.#isWanted = true;
    if (this.#state !== "idle") return;
    this.#state = "running";
    this.#running = this.#run().finally(() => {
      if (this.#state !== "running") return;
      this.#state = "idle";
      if (this.#isWanted) this.wake();
    });
  }

  async #run(): Promise<void> {
    const { store, now } = this.options;
    while (this.#isWanted && this.#state === "running") {
      this.#isWanted = false;
      try {
        const job = await store.claim({ ms: leaseMs, now: now() });
        if (job !== null) {
          this.#isWanted = true;
          await this.#work(job);
        }
        this.#outage.ended();
      } catch (error) {
        // The lease of the user runs out, and somebody begins again at the page.
        this.#outage.began(error);
        this.#isWanted = false;
        this.#wakeIn(leaseMs);
      }
    }
  }

  /** Wakes by then, where nothing wakes it sooner; whoever is due after that is found from time to time. */
  #wakeIn(ms: number): void {
    const at = performance.now() + ms;
    if (this.#timer !== null && this.#wakesAt <= at) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#wakesAt = at;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.wake();
    }, ms);
  }

  /** Goes on with a user until that is done, has to wait, or is another node's. */
  async #work(job: ErasureJob): Promise<void> {
    const { store, directory, logger, now, settleMs } = this.options;
    logger.info({ turn: job.turn, step: plan[job.step] }, "a user is being erased");
    // Every node sends the user away, also one that was not there when it was asked for.
    await directory.recheck(job.userId);
    // Where that cannot be now, they end like those of any device that has gone.
    if (job.step === 0) await this.options.calls.endOf(job.userId).catch(unlessUnavailable);
    while (this.#state === "running") {
      const step = plan[job.step];
      if (step === undefined) {
        if (await store.finish(job, now())) logger.info({ messages: job.messages }, "a user is erased");
        return;
      }
      if (step === "settle") {
        job.step++;
        const restMs = job.startedAt + settleMs - now();
        if (restMs > 0) {
          if (await store.keep(job, restMs)) this.#wakeIn(restMs + 1);
          return;
        }
      } else if (step === "log") await this.#lookThroughLog(job);
      else if (step === "reactions") await this.#removeReactions(job);
      else await this.#removeRows(job, step);
      if (!(await store.keep(job, leaseMs))) return;
      // Lets come in between whatever else this process has to do.
      await nextTurn();
    }
    // Given back: nobody waits for the lease of a node that stops.
    await store.keep(job, 0);
  }

  async #removeRows(job: ErasureJob, rows: ErasedRows): Promise<void> {
    const { next } = await this.options.store.removeRows(rows, job.userId, job.place);
    this.options.onTakenOut();
    if (next === null) job.step++;
    job.place = next ?? "";
  }

  async #lookThroughLog(job: ErasureJob): Promise<void> {
    const { store } = this.options;
    const { userId } = job;
    const { events, through, end } = await store.naming({ userId, afterPosition: job.through });
    const messages: MessagePlace[] = [];
    const forgotten: NamingEvent[] = [];
    for (const event of events) {
      const fate = fateOf(event, userId);
      if (fate.kind === "deleted") messages.push({ topic: event.topic, messageId: fate.messageId });
      if (fate.kind === "forgotten") forgotten.push(event);
      if (fate.kind === "rewritten") await store.rewrite(event, fate.payload);
    }
    if (forgotten.length > 0) await store.forgetEvents(forgotten);
    this.options.onTakenOut();
    if (!(await this.#deleteMessages(job, messages))) return;
    job.through = through;
    if (through >= end) job.step++;
  }

  /** Has the log tell of each of the user's that it is deleted, as if the one who has asked for it had deleted it. @returns whether all are */
  async #deleteMessages(job: ErasureJob, messages: MessagePlace[]): Promise<boolean> {
    for (const page of pages(messages, deletedAtOnce)) {
      if (this.#state !== "running") return false;
      const appended = await this.#append(page.map((place) => this.#deletionOf(job, place)));
      job.messages += appended.filter(({ duplicate }) => !duplicate).length;
    }
    return true;
  }

  #deletionOf({ userId, requestedBy }: ErasureJob, { topic, messageId }: MessagePlace): NewEvent {
    const at = this.options.now();
    const payload = {
      conversation_id: parseTopic(topic)!.key,
      message_id: messageId,
      deleted_at: momentText(at),
      deleted_by: requestedBy,
    };
    return this.#eventOf({ type: "message.deleted", payload }, { topic, at, sentBy: userId });
  }

  /** Takes back what the user has reacted. */
  async #removeReactions(job: ErasureJob): Promise<void> {
    const { store, now } = this.options;
    const reactions = await store.reactionsOf(job.userId);
    const at = now();
    const appended = await this.#append(
      reactions.map(({ topic, messageId, reaction }) => {
        const payload = {
          conversation_id: parseTopic(topic)!.key,
          message_id: messageId,
          user_id: job.userId,
          reaction,
          added: false,
          at: momentText(at),
        };
        return this.#eventOf({ type: "message.reaction", payload }, { topic, at });
      }),
    );
    // Left to the rows are those that nothing comes of.
    if (appended.every(({ duplicate }) => duplicate)) job.step++;
  }

  /** Makes the event that says so, and with it changes the message. */
  #eventOf(change: MessageChange, { topic, at, sentBy }: { topic: string; at: number; sentBy?: string }): NewEvent {
    const payload = JSON.stringify(change.payload);
    return { id: this.options.newId(), topic, type: change.type, payload, createdAt: at, ...amending(change, sentBy) };
  }

  /** Waits while the log has much to do: what people say comes first. */
  async #append(events: NewEvent[]): Promise<AppendedEvent[]> {
    const { publisher } = this.options;
    while (publisher.isCrowded) await Bun.sleep(crowdedMs);
    return events.length === 0 ? [] : publisher.appendAll(events);
  }
}

function unlessUnavailable(error: unknown): void {
  if (!(error instanceof Unavailable)) throw error;
}
