/** Listens for changes of the directory, tells this node's listeners, and notices when it has become deaf. */
import { Unavailable } from "../../ground/unavailable.ts";
import { DirectoryListeners } from "../directory-listeners.ts";
import type { DirectoryChange } from "../directory-store.ts";
import { asUnavailable, backoffMs, type ConnectionEvents, type PostgresConnection } from "./connection.ts";
import { PostgresSession } from "./session.ts";

export interface DirectoryWatchOptions {
  open(events: ConnectionEvents): PostgresConnection;
  channel: string;
  /** Sends to the channel over another connection. */
  notify(payload: string): Promise<void>;
  /** How long the connection's own notification may take to come round. */
  patienceMs: number;
  /** How long it may take to be let in, and the first echo of a connection to come round. */
  proofMs: number;
  /** How often it is tried whether the connection still hears. */
  heartbeatMs: number;
  newId: () => string;
  /** Milliseconds since 1970. */
  now: () => number;
  /** Told of what a listener throws; the others hear the change all the same. */
  onListenerError(error: unknown): void;
  /** Told of a connection that may listen and hears nothing, and of one that hears. */
  hearing: { began(error: unknown): void; ended(): void };
}

/**
 * So many notifications within a second are a flood: anybody who can reach the database can send them, and each costs the
 * loop a little. Nothing is heard then for a second, after which everything is looked at once.
 */
const floodMax = 2_000;
const floodPauseMs = 1_000;

type State = { kind: "stopped" } | { kind: "deaf" } | { kind: "listening"; session: PostgresSession };

/** Describes what a notification may hold; applications send them too. */
interface Notice {
  op?: unknown;
  conversation_id?: unknown;
  user_id?: unknown;
  at?: unknown;
  mark?: unknown;
}

class Deaf extends Unavailable {
  constructor() {
    super(
      "storage",
      "PostgreSQL lets this node LISTEN, but what is notified does not come round. A pooler between must keep one session for each connection (PgBouncer: pool_mode = session), or storage.url names PostgreSQL itself.",
    );
  }
}

export class DirectoryWatch {
  readonly #options: DirectoryWatchOptions;
  readonly #listeners: DirectoryListeners;
  /** Echoes that are on their way round; true once heard. */
  readonly #echoes = new Map<string, (heard: boolean) => void>();
  #state: State = { kind: "stopped" };
  #heartbeat: Timer | null = null;
  #countedSince = 0;
  #heard = 0;

  constructor(options: DirectoryWatchOptions) {
    this.#options = options;
    this.#listeners = new DirectoryListeners(options.onListenerError);
  }

  /** Resolves once every change is heard. */
  async start(): Promise<void> {
    await this.stop();
    this.#state = { kind: "deaf" };
    await this.#listen();
    this.#heartbeat = setInterval(() => void this.#beat(), this.#options.heartbeatMs);
    this.#heartbeat.unref();
  }

  async stop(): Promise<void> {
    if (this.#heartbeat) clearInterval(this.#heartbeat);
    this.#heartbeat = null;
    const state = this.#state;
    this.#state = { kind: "stopped" };
    this.#forgetMarks();
    if (state.kind === "listening") await state.session.close();
  }

  add(listener: (change: DirectoryChange) => void): () => void {
    return this.#listeners.add(listener);
  }

  /** Resolves once the listeners have been told of all that was committed before this call, or `patienceMs` after it was asked. */
  async caughtUp(): Promise<void> {
    if (this.#listeners.size === 0 || this.#state.kind !== "listening") return;
    // The change itself is in the database; who misses it now is told after a gap.
    await this.#hearsItself().catch(() => {});
  }

  /** Says something to itself. @returns whether it was heard */
  async #hearsItself(patienceMs = this.#options.patienceMs): Promise<boolean> {
    const echo = this.#options.newId();
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#echoes.set(echo, resolve);
    let timer: Timer | undefined;
    try {
      await this.#options.notify(JSON.stringify({ op: "mark", mark: echo }));
      // From here on: that a statement had to wait says nothing of what is heard.
      timer = setTimeout(resolve, patienceMs, false);
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#echoes.delete(echo);
    }
  }

  /** Finds a connection that was cut without a word and stays silent for ever: only what it should hear shows it. */
  async #beat(): Promise<void> {
    const state = this.#state;
    if (state.kind !== "listening") return;
    const heard = await this.#hearsItself().catch(() => true);
    if (heard || this.#state !== state) return;
    state.session.drop(new Deaf());
  }

  /** @throws Deaf where it may listen and hears nothing; Unavailable where it may not */
  async #listen(): Promise<void> {
    const before = this.#state;
    const session = new PostgresSession({
      open: this.#options.open,
      begin: `LISTEN "${this.#options.channel}"`,
      timeoutMs: this.#options.proofMs,
      lateMessage: "PostgreSQL does not let this node listen.",
      onEnd: () => this.#lose(session),
      onNotification: (payload) => this.#hear(payload),
    });
    try {
      await session.ready;
      // A pooler between takes LISTEN for one transaction, and what is notified after it reaches nobody.
      const isHeard = await this.#hearsItself(this.#options.proofMs);
      if (session.hasEnded) throw new Unavailable("storage", "PostgreSQL has closed the connection that listens.");
      if (!isHeard && this.#state === before) throw new Deaf();
    } catch (error) {
      session.drop(error as Error);
      throw asUnavailable(error);
    }
    // Stopped meanwhile, perhaps started again.
    if (this.#state !== before) return session.close();
    this.#state = { kind: "listening", session };
    this.#options.hearing.ended();
  }

  #lose(session: PostgresSession, pauseMs = 0): void {
    if (this.#state.kind !== "listening" || this.#state.session !== session) return;
    this.#state = { kind: "deaf" };
    this.#forgetMarks();
    void this.#listenAgain(pauseMs);
  }

  async #listenAgain(pauseMs: number): Promise<void> {
    const lost = this.#state;
    for (let failures = 0; this.#state === lost; failures++) {
      await Bun.sleep(Math.max(pauseMs, backoffMs(failures)));
      if (this.#state !== lost) return;
      try {
        await this.#listen();
      } catch (error) {
        if (!(error instanceof Deaf)) continue;
        this.#options.hearing.began(error);
      }
      // Deaf, too: what is asked every now and then is late, and not lost.
      if (this.#state === lost || this.#state.kind === "listening") this.#listeners.tell({ kind: "resync" });
    }
  }

  #isFlood(): boolean {
    const now = this.#options.now();
    // A clock that was set begins anew as well.
    if (Math.abs(now - this.#countedSince) >= 1_000) [this.#countedSince, this.#heard] = [now, 0];
    return ++this.#heard > floodMax;
  }

  #hear(payload: string): void {
    if (this.#isFlood()) {
      const state = this.#state;
      if (state.kind !== "listening") return;
      this.#lose(state.session, floodPauseMs);
      return state.session.drop(new Unavailable("storage", "More was notified than can be looked at."));
    }
    const notice = parse(payload);
    if (notice?.op === "mark") return this.#echoes.get(String(notice.mark))?.(true);
    this.#listeners.tell(toChange(notice));
  }

  #forgetMarks(): void {
    for (const resolve of [...this.#echoes.values()]) resolve(false);
  }
}

function parse(payload: string): Notice | null {
  try {
    return JSON.parse(payload) as Notice | null;
  } catch {
    return null;
  }
}

/** Takes a notice that cannot be understood for a change of anything. */
function toChange(notice: Notice | null): DirectoryChange {
  const { op, conversation_id: conversationId, user_id: userId, at: moment } = notice ?? {};
  if (op === "user_changed" && typeof userId === "string") return { kind: op, userId };
  const isMembership = op === "member_added" || op === "member_removed" || op === "member_updated";
  if (isMembership && typeof conversationId === "string" && typeof userId === "string") {
    const at = Date.parse(String(moment));
    return { kind: op, conversationId, userId, ...(Number.isNaN(at) ? {} : { at }) };
  }
  return { kind: "resync" };
}
