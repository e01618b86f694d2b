/** Runs statements on a bounded number of connections, each statement with a deadline and alone on its connection. */
import { Unavailable } from "../../ground/unavailable.ts";
import type { WritesWatched } from "../write-proof.ts";
import {
  backoffMs,
  type Connection,
  closeConnection,
  dropConnection,
  failureOf,
  type Parameter,
  refusalOf,
} from "./connection.ts";

export interface PoolOptions {
  open(onClosed: () => void): Connection;
  /** Connections at most; each is opened when it is needed. */
  size: number;
  /** Waiting for a connection, connecting and the answer together may take so long. */
  queryTimeoutMs: number;
  /** Statements that may wait for a connection. */
  waitingMax: number;
  /** Told of each connection that could not be had while others are there, and of the next one that could. */
  filling?: WritesWatched;
}

interface Job {
  text: string;
  parameters: Parameter[];
  resolve: (rows: never[]) => void;
  reject: (error: unknown) => void;
  timer: Timer;
  state: { kind: "waiting" } | { kind: "running"; lane: Lane } | { kind: "settled" };
}

/** One statement at a time: no answer waits behind a slow one, and giving one up costs nobody else's. */
export class Pool {
  readonly #options: PoolOptions;
  /** The one that was used last is used next, so that few connections stay busy. */
  readonly #idle: Lane[];
  readonly #lanes: readonly Lane[];
  /** Those whose connection could not be had while others were there. */
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
    if (this.#state === "stopped") return Promise.reject(new Unavailable("storage", "The storage is stopped."));
    const lane = this.#take();
    if (!lane && this.#waiting.length >= this.#options.waitingMax) {
      return Promise.reject(new Unavailable("storage", "Too many statements wait for PostgreSQL."));
    }
    return new Promise<Row[]>((resolve, reject) => {
      const timer = setTimeout(() => this.#expire(job), this.#options.queryTimeoutMs);
      const state: Job["state"] = { kind: "waiting" };
      const job: Job = { text, parameters, resolve: resolve as (rows: never[]) => void, reject, timer, state };
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

  /** Nobody is bound to a connection that is not there yet: whichever is free first goes on with who waits. */
  async #run(lane: Lane): Promise<void> {
    do {
      if (!lane.isReady && !(await this.#connect(lane))) continue;
      const job = this.#waiting.shift();
      if (job === undefined) break;
      job.state = { kind: "running", lane };
      try {
        const rows = (await lane.run(job.text, job.parameters)) as never[];
        this.#settle(job, () => job.resolve(rows));
      } catch (error) {
        this.#settle(job, () => job.reject(refusalOf(error)));
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
      const refusal = refusalOf(error);
      if (this.#lanes.some((other) => other.isReady)) {
        this.#short.add(lane);
        if (this.#state === "started") this.#options.filling?.began(refusal);
      } else {
        // Nobody else goes on with it, and the reason is known.
        const job = this.#waiting.shift();
        if (job !== undefined) this.#settle(job, () => job.reject(refusal));
      }
      return false;
    }
  }

  #settle(job: Job, tell: () => void): void {
    if (job.state.kind === "settled") return;
    job.state = { kind: "settled" };
    clearTimeout(job.timer);
    tell();
    this.#unsettled--;
    if (this.#unsettled === 0) this.#onIdle?.();
  }

  #expire(job: Job): void {
    const { state } = job;
    const { queryTimeoutMs } = this.#options;
    if (state.kind === "waiting") this.#waiting = this.#waiting.filter((it) => it !== job);
    const isHere = state.kind === "running" || this.#lanes.some((lane) => lane.isReady);
    const refusal = isHere
      ? new Unavailable("storage", `PostgreSQL has not answered within ${queryTimeoutMs} ms.`, { code: "NO_ANSWER" })
      : new Unavailable("storage", noConnection(queryTimeoutMs));
    this.#settle(job, () => job.reject(refusal));
    if (state.kind === "running") state.lane.drop();
  }
}

const noConnection = (withinMs: number) =>
  `No connection of storage.pool_size could be had within ${withinMs} ms: PostgreSQL, or a pooler in between, may allow fewer.`;

/** A connection that is opened when it is needed and replaced when it fails. */
class Lane {
  #connection: Connection | null = null;
  #isReady = false;
  /** Connections in a row that were of no use. */
  #failures = 0;
  /** Ends what is under way. */
  #abandon: ((reason: Error) => void) | null = null;

  constructor(private readonly options: Pick<PoolOptions, "open" | "queryTimeoutMs">) {}

  /** Whether statements can be given to it. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Rejects where no connection can be had in time. */
  async connect(): Promise<void> {
    const { queryTimeoutMs } = this.options;
    const abandoned = Promise.withResolvers<never>();
    this.#abandon = abandoned.reject;
    let timer: Timer | undefined;
    try {
      if (this.#failures > 0) await Promise.race([Bun.sleep(backoffMs(this.#failures - 1)), abandoned.promise]);
      timer = setTimeout(
        () => abandoned.reject(new Unavailable("storage", noConnection(queryTimeoutMs))),
        queryTimeoutMs,
      );
      const connection = this.#open();
      await Promise.race([connection.ready, abandoned.promise]);
      if (this.#connection !== connection) throw new Unavailable("storage", "The connection has closed.");
      this.#isReady = true;
    } catch (error) {
      this.#failures++;
      this.#discard();
      throw error;
    } finally {
      clearTimeout(timer);
      this.#abandon = null;
    }
  }

  async run(text: string, parameters: Parameter[]): Promise<object[]> {
    const abandoned = Promise.withResolvers<never>();
    this.#abandon = abandoned.reject;
    try {
      const { sql, settle } = this.#connection!;
      const settling = settle?.();
      if (settling !== undefined) await Promise.race([settling, abandoned.promise]);
      const answer = sql.unsafe(text, parameters, { prepare: true });
      const rows = await Promise.race([answer, abandoned.promise]);
      this.#failures = 0;
      return rows;
    } catch (error) {
      // Without a code it is a surprise inside the client, and nobody knows what its connection is worth.
      const isKnown = typeof (error as { code?: unknown }).code === "string";
      if (failureOf(error) === "broken" || !isKnown) {
        this.#failures++;
        this.#discard();
      }
      throw error;
    } finally {
      this.#abandon = null;
    }
  }

  drop(): void {
    this.#abandon?.(new Unavailable("storage", "The connection was given up."));
    this.#discard();
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    this.#isReady = false;
    this.#abandon?.(new Unavailable("storage", "The storage is stopped."));
    this.#failures = 0;
    if (connection) await closeConnection(connection.sql);
  }

  #open(): Connection {
    const connection = this.options.open(() => {
      // One that has closed is not revived: its half-written frames would come first on the next one.
      if (this.#connection === connection) this.#discard();
    });
    this.#connection = connection;
    return connection;
  }

  #discard(): void {
    const connection = this.#connection;
    this.#connection = null;
    this.#isReady = false;
    if (connection) dropConnection(connection.sql);
  }
}
