/** Asks statements on one connection, each with a deadline; what is late or breaks ends the session, which is never used again. */
import { Stopped, Unavailable } from "../../ground/unavailable.ts";
import {
  type ConnectionEvents,
  closeConnection,
  dropConnection,
  failureOf,
  type Parameter,
  type PostgresConnection,
} from "./connection.ts";

export interface SessionOptions {
  open(events: ConnectionEvents): PostgresConnection;
  /** Asked before anything else. */
  begin?: string;
  /** How long the first statement may take to begin, and each one to be answered, ms. */
  timeoutMs: number;
  /** Says what it means that the session could not begin in time. */
  lateMessage?: string;
  /** Told once that it is no more, whoever has ended it. */
  onEnd?: () => void;
  onNotification?: (payload: string) => void;
}

/** How a statement is asked. */
export interface Asking {
  /** How much is left of the deadline, ms; all of it where it is left out. */
  withinMs?: number;
  /** Whether the server keeps its plan. Not prepared, and without parameters, a statement is one message. */
  isPrepared?: boolean;
}

export class PostgresSession {
  readonly #options: SessionOptions;
  readonly #connection: PostgresConnection;
  /** Each gives up something that is under way. */
  readonly #abandons = new Set<(reason: Error) => void>();
  #state: { kind: "beginning" } | { kind: "open" } | { kind: "ended"; reason: Error } = { kind: "beginning" };
  /** Resolves once it has begun; rejects, and the session has ended, where that fails or takes too long. */
  readonly ready: Promise<void>;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#connection = options.open({
      // One that has closed is not revived: its half-written frames would come first on the next one.
      onClosed: () => this.drop(new Unavailable("storage", "PostgreSQL has closed the connection.")),
      onNotification: options.onNotification,
    });
    this.ready = this.#begin();
    // Told to whoever asks.
    this.ready.catch(() => {});
  }

  /** Whether statements are asked at once. */
  get isOpen(): boolean {
    return this.#state.kind === "open";
  }

  get hasEnded(): boolean {
    return this.#state.kind === "ended";
  }

  /**
   * Asks one statement, once the session has begun.
   * @throws what the server says, or `Unavailable` where the session has ended by then; it has wherever it is not known to be sound
   */
  async query<Row extends object>(text: string, parameters: Parameter[] = [], asking: Asking = {}): Promise<Row[]> {
    const { withinMs = this.#options.timeoutMs, isPrepared = false } = asking;
    const { sql, settle } = this.#connection;
    try {
      return await this.#within(withinMs, notAnswered(this.#options.timeoutMs), async () => {
        if (this.#state.kind === "beginning") await this.ready;
        await settle?.();
        return sql.unsafe<Row[]>(text, parameters, { prepare: isPrepared });
      });
    } catch (error) {
      // Without a code it is a surprise inside the client, and nobody knows what its connection is worth.
      const isKnown = typeof (error as { code?: unknown }).code === "string";
      if (failureOf(error) === "broken" || !isKnown) this.drop(error as Error);
      throw error;
    }
  }

  /** Ends it at once, and whatever is under way with it, for a reason. */
  drop(reason: Error): void {
    if (this.#state.kind === "ended") return;
    this.#ended(reason);
    dropConnection(this.#connection.sql);
  }

  /** Ends it politely: what is under way is given up here, and the server may finish it; resolves within a second. */
  async close(): Promise<void> {
    if (this.#state.kind === "ended") return;
    this.#ended(new Stopped("storage", "The storage is stopped."));
    await closeConnection(this.#connection.sql);
  }

  async #begin(): Promise<void> {
    const { begin, timeoutMs, lateMessage = notAnswered(timeoutMs) } = this.#options;
    const { ready, sql } = this.#connection;
    try {
      await this.#within(timeoutMs, lateMessage, async () => {
        await ready;
        if (begin !== undefined) await sql.unsafe(begin);
      });
      this.#state = { kind: "open" };
    } catch (error) {
      this.drop(error as Error);
      throw error;
    }
  }

  async #within<Result>(ms: number, lateMessage: string, work: () => Promise<Result>): Promise<Result> {
    if (this.#state.kind === "ended") throw this.#state.reason;
    // One for each: of a promise that lives as long as the session every race would keep something.
    const { promise, reject } = Promise.withResolvers<never>();
    this.#abandons.add(reject);
    const timer = setTimeout(() => this.drop(new Unavailable("storage", lateMessage, { code: "NO_ANSWER" })), ms);
    try {
      return await Promise.race([promise, work()]);
    } finally {
      clearTimeout(timer);
      this.#abandons.delete(reject);
    }
  }

  #ended(reason: Error): void {
    this.#state = { kind: "ended", reason };
    for (const abandon of this.#abandons) abandon(reason);
    this.#options.onEnd?.();
  }
}

export const notAnswered = (withinMs: number) => `PostgreSQL has not answered within ${withinMs} ms.`;
