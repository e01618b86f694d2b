/** Runs statements on a bounded number of connections, each statement with a deadline and alone on its connection. */
import { Stopped, Unavailable } from "../../ground/unavailable.ts";
import type { WriteWatch } from "../write-proof.ts";
import {
  asUnavailable,
  backoffMs,
  type ConnectionEvents,
  type Parameter,
  type PostgresConnection,
} from "./connection.ts";
import { notAnswered, PostgresSession } from "./session.ts";

export interface PoolOptions {
  open(events: ConnectionEvents): PostgresConnection;
  /** Connections at most; each is opened when it is needed. */
  size: number;
  /** Waiting for a connection, connecting and the answer together may take so long. */
  queryTimeoutMs: number;
  /** Statements that may wait for a connection. */
  waitingMax: number;
  /** Told of each connection that could not be had while others are there, and of the next one that could. */
  filling?: WriteWatch;
}

interface Job {
  text: string;
  parameters: Parameter[];
  resolve: (rows: never[]) => void;
  reject: (error: unknown) => void;
  /** By `performance.now()`. */
  endsAt: number;
  /** Gives it up while it waits for a connection. */
  timer: Timer;
}

/** One statement at a time: no answer waits behind a slow one, and giving one up costs nobody else's. */
export class Pool {
  readonly #options: PoolOptions;
  /** The one that was used last is used next, so that few connections stay busy. */
  readonly #idle: Lane[];
  readonly #lanes: readonly Lane[];
  /** Lanes whose connection could not be had while others were there. */
  readonly #short = new Set<Lane>();
  #waiting: Job[] = [];
  #unsettled = 0;
  #state: "stopped" | "started" = "stopped";
  #onIdle: (() => void) | null = null;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#lanes = Array.from({ length: options.size }, () => new Lane(options));
    this.#idle = [...this.#lanes];
  }

  start(): void {
    this.#state = "started";
  }

  /** Takes no more statements, waits for those it has, and closes the connections. */
  async stop(): Promise<void> {
    this.#state = "stopped";
    if (this.#unsettled > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    await Promise.all(this.#lanes.map((lane) => lane.close()));
  }

  /**
   * Runs one statement, in a transaction of its own.
   * @param parameters for `$1`, `$2` …; arrays by `arrayOf`
   * @throws Unavailable where the engine is away or does not answer in time; the statement may still take effect
   */
  query<Row extends object>(text: string, parameters: Parameter[] = []): Promise<Row[]> {
    if (this.#state === "stopped") return Promise.reject(new Stopped("storage", "The storage is stopped."));
    const lane = this.#take();
    if (!lane && this.#waiting.length >= this.#options.waitingMax) {
      return Promise.reject(new Unavailable("storage", "Too many statements wait for PostgreSQL."));
    }
    return new Promise<Row[]>((resolve, reject) => {
      const { queryTimeoutMs } = this.#options;
      const timer = setTimeout(() => this.#expire(job), queryTimeoutMs);
      const endsAt = performance.now() + queryTimeoutMs;
      const job: Job = { text, parameters, resolve: resolve as (rows: never[]) => void, reject, endsAt, timer };
      this.#unsettled++;
      this.#waiting.push(job);
      if (lane) void this.#run(lane);
    });
  }

  /** Resolves once a statement was answered, which is what anybody needs who asks; tries again for what could not be had. */
  async prove(): Promise<void> {
    const proof = this.query("SELECT 1");
    const at = this.#idle.findIndex((lane) => this.#short.has(lane));
    if (at >= 0) for (const lane of this.#idle.splice(at, 1)) void this.#run(lane);
    await proof;
  }

  #take(): Lane | undefined {
    const at = this.#idle.findLastIndex((lane) => lane.isReady);
    return at >= 0 ? this.#idle.splice(at, 1)[0] : this.#idle.pop();
  }

  /** Runs what waits, on whichever connection is free first: nothing is bound to one that is not there yet. */
  async #run(lane: Lane): Promise<void> {
    do {
      if (!lane.isReady && !(await this.#connect(lane))) continue;
      const job = this.#next();
      if (job === undefined) break;
      try {
        const rows = (await lane.run(job)) as never[];
        this.#settle(() => job.resolve(rows));
      } catch (error) {
        this.#settle(() => job.reject(asUnavailable(error)));
      }
    } while (this.#waiting.length > 0);
    if (lane.isReady) this.#idle.push(lane);
    else this.#idle.unshift(lane);
  }

  /** @returns whether statements can be given to it */
  async #connect(lane: Lane): Promise<boolean> {
    try {
      await lane.connect();
      if (this.#short.delete(lane)) this.#options.filling?.ended();
      return true;
    } catch (error) {
      const refusal = asUnavailable(error);
      if (this.#lanes.some((other) => other.isReady)) {
        this.#short.add(lane);
        if (this.#state === "started") this.#options.filling?.began(refusal);
      } else {
        // Refuses one at once: no connection goes on with it, and the reason is known.
        const job = this.#next();
        if (job !== undefined) this.#settle(() => job.reject(refusal));
      }
      return false;
    }
  }

  /** Takes the one that has waited longest; from now on its connection minds its deadline. */
  #next(): Job | undefined {
    const job = this.#waiting.shift();
    clearTimeout(job?.timer);
    return job;
  }

  #settle(tell: () => void): void {
    tell();
    this.#unsettled--;
    if (this.#unsettled === 0) this.#onIdle?.();
  }

  #expire(job: Job): void {
    const { queryTimeoutMs } = this.#options;
    this.#waiting = this.#waiting.filter((it) => it !== job);
    const isHere = this.#lanes.some((lane) => lane.isReady);
    const text = isHere ? notAnswered(queryTimeoutMs) : noConnection(queryTimeoutMs);
    this.#settle(() => job.reject(new Unavailable("storage", text, { code: "NO_ANSWER" })));
  }
}

const noConnection = (withinMs: number) =>
  `No connection of storage.pool_size could be had within ${withinMs} ms: PostgreSQL, or a pooler in between, may allow fewer.`;

/** A session that is opened when it is needed and replaced when it has ended. */
class Lane {
  #session: PostgresSession | null = null;
  /** Sessions in a row that were of no use. */
  #failures = 0;
  /** Ends the pause before the next session. */
  #abandon: ((reason: Error) => void) | null = null;

  constructor(private readonly options: Pick<PoolOptions, "open" | "queryTimeoutMs">) {}

  /** Whether statements can be given to it. */
  get isReady(): boolean {
    return this.#session?.isOpen === true;
  }

  /** Rejects where no session can be had in time. */
  async connect(): Promise<void> {
    const { open, queryTimeoutMs: timeoutMs } = this.options;
    try {
      if (this.#failures > 0) await this.#pause(backoffMs(this.#failures - 1));
      this.#session = new PostgresSession({ open, timeoutMs, lateMessage: noConnection(timeoutMs) });
      await this.#session.ready;
    } catch (error) {
      this.#failures++;
      throw error;
    }
  }

  async run({ text, parameters, endsAt }: Pick<Job, "text" | "parameters" | "endsAt">): Promise<object[]> {
    const session = this.#session!;
    try {
      const asking = { withinMs: endsAt - performance.now(), isPrepared: true };
      const rows = await session.query(text, parameters, asking);
      this.#failures = 0;
      return rows;
    } catch (error) {
      if (session.hasEnded) this.#failures++;
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#abandon?.(new Stopped("storage", "The storage is stopped."));
    this.#failures = 0;
    await this.#session?.close();
  }

  async #pause(ms: number): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    this.#abandon = reject;
    await Promise.race([Bun.sleep(ms), promise]);
    this.#abandon = null;
  }
}
