/** Runs statements on a bounded number of connections, each statement with a deadline and alone on its connection. */
import { StorageUnavailable } from "../ports.ts";
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
  #waiting: Job[] = [];
  #running = 0;
  #state: "stopped" | "started" = "stopped";
  #onIdle: (() => void) | null = null;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#lanes = Array.from({ length: options.size }, () => new Lane(options.open));
    this.#idle = [...this.#lanes];
  }

  start(): void {
    this.#state = "started";
  }

  /** Takes no more statements, waits for those it has, and closes the connections. */
  async stop(): Promise<void> {
    this.#state = "stopped";
    if (this.#running > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    await Promise.all(this.#lanes.map((lane) => lane.close()));
  }

  /**
   * Runs one statement, in a transaction of its own.
   * @param parameters for `$1`, `$2` …; arrays by `arrayOf`
   * @throws StorageUnavailable where the engine is away or does not answer in time; the statement may still take effect
   */
  query<Row extends object>(text: string, parameters: Parameter[] = []): Promise<Row[]> {
    if (this.#state === "stopped") return Promise.reject(new StorageUnavailable("The storage is stopped."));
    const lane = this.#idle.pop();
    if (!lane && this.#waiting.length >= this.#options.waitingMax) {
      return Promise.reject(new StorageUnavailable("Too many statements wait for PostgreSQL."));
    }
    return new Promise<Row[]>((resolve, reject) => {
      const timer = setTimeout(() => this.#expire(job), this.#options.queryTimeoutMs);
      const state: Job["state"] = { kind: "waiting" };
      const job: Job = { text, parameters, resolve: resolve as (rows: never[]) => void, reject, timer, state };
      if (lane) void this.#run(lane, job);
      else this.#waiting.push(job);
    });
  }

  async #run(lane: Lane, first: Job): Promise<void> {
    this.#running++;
    for (let job: Job | undefined = first; job !== undefined; job = this.#next()) {
      if (job.state.kind === "settled") continue;
      job.state = { kind: "running", lane };
      try {
        job.resolve((await lane.run(job.text, job.parameters)) as never[]);
      } catch (error) {
        job.reject(refusalOf(error));
      }
      job.state = { kind: "settled" };
      clearTimeout(job.timer);
    }
    this.#idle.push(lane);
    this.#running--;
    if (this.#running === 0) this.#onIdle?.();
  }

  #next(): Job | undefined {
    let job = this.#waiting.shift();
    while (job?.state.kind === "settled") job = this.#waiting.shift();
    return job;
  }

  #expire(job: Job): void {
    const { state } = job;
    if (state.kind === "waiting") this.#waiting = this.#waiting.filter((it) => it !== job);
    job.state = { kind: "settled" };
    job.reject(new StorageUnavailable(`PostgreSQL has not answered within ${this.#options.queryTimeoutMs} ms.`));
    if (state.kind === "running") state.lane.drop();
  }
}

/** A connection that is opened when it is needed and replaced when it fails. */
class Lane {
  readonly #open: PoolOptions["open"];
  #connection: Connection | null = null;
  /** Connections in a row that were of no use. */
  #failures = 0;
  /** Ends the statement that is under way. */
  #abandon: ((reason: Error) => void) | null = null;

  constructor(open: PoolOptions["open"]) {
    this.#open = open;
  }

  async run(text: string, parameters: Parameter[]): Promise<object[]> {
    const abandoned = Promise.withResolvers<never>();
    this.#abandon = abandoned.reject;
    let isReady = false;
    try {
      if (this.#connection === null && this.#failures > 0) {
        await Promise.race([Bun.sleep(backoffMs(this.#failures - 1)), abandoned.promise]);
      }
      const { sql, ready } = (this.#connection ??= this.#connect());
      const answer = ready.then(() => {
        isReady = true;
        return sql.unsafe(text, parameters, { prepare: true });
      });
      const rows = await Promise.race([answer, abandoned.promise]);
      this.#failures = 0;
      return rows;
    } catch (error) {
      // Without a code it is a surprise inside the client, and nobody knows what its connection is worth.
      const isKnown = typeof (error as { code?: unknown }).code === "string";
      if (!isReady || failureOf(error) === "broken" || !isKnown) {
        this.#failures++;
        this.#discard();
      }
      throw error;
    } finally {
      this.#abandon = null;
    }
  }

  drop(): void {
    this.#abandon?.(new StorageUnavailable("The connection was given up."));
    this.#discard();
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    this.#failures = 0;
    if (connection) await closeConnection(connection.sql);
  }

  #connect(): Connection {
    const connection = this.#open(() => {
      // One that has closed is not revived: its half-written frames would come first on the next one.
      if (this.#connection === connection) this.#discard();
    });
    return connection;
  }

  #discard(): void {
    const connection = this.#connection;
    this.#connection = null;
    if (connection) dropConnection(connection.sql);
  }
}
