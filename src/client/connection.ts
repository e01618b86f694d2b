/** The connection of one tab or program: its session and outbox, and what is kept of both beside what the models keep. */
import { jsonSubprotocol } from "../protocol/limits.ts";
import { claim, type KeptSession, keys, nowhere, takeOver } from "./connection/kept-session.ts";
import type { Identity } from "./connection/line.ts";
import type { ConnectionOptions, WebSocketConstructor } from "./connection/options.ts";
import { DurableOutbox, entryOf, isOutboxType, isSignedOut } from "./connection/outbox.ts";
import { Session } from "./connection/session.ts";
import { subjectOf, Tokens } from "./connection/tokens.ts";
import type {
  Clock,
  Connection as ConnectionOfAll,
  ConnectionState,
  Had,
  Kept,
  News,
  Reply,
  RequestOptions,
  RequestType,
  Store,
  Subscribed,
  Unlisten,
} from "./core.ts";
import { Listeners } from "./ground/listeners.ts";
import { type Happening, pageSurroundings, systemClock } from "./ground/surroundings.ts";
import { DeferredStore } from "./stores/deferred.ts";
import type { ClientPayloads, JsonObject } from "./wire.ts";

export type { ConnectionOptions, WebSocketConstructor };

const saveAfterMs = 500;

/** Is one object: whoever draws it compares it by identity. */
const connecting: ConnectionState = { status: "connecting" };

export class Connection implements ConnectionOfAll {
  readonly isLead = true;
  readonly outbox: DurableOutbox;
  /** Keeps things once nothing of another user is left; fails where that cannot be had. */
  readonly store: Store;
  readonly #options: ConnectionOptions;
  readonly #clock: Clock;
  readonly #tokens: Tokens | null;
  readonly #session: Session;
  readonly #onState: Listeners<ConnectionState>;
  readonly #onNews: Listeners<News>;
  readonly #kept = new Set<Kept>();
  #loaded: Promise<void>;
  #isLoaded = false;
  /** Set while the server has to say who this is before anything that is kept is looked at. */
  #noteOwner: ((userId: string | null) => void) | null = null;
  #hasLeft = false;
  #userId: string | null;
  /** Waits for what was kept to be read. */
  #isStarting = false;
  #cancelSave: (() => void) | null = null;
  #writing: Promise<unknown> = Promise.resolve();
  /** Goes with the next write, for the cursor is no further than what could not be written. */
  #unwritten = new Map<string, unknown>();
  readonly #onError = (error: unknown) => this.#options.onError?.(error);
  /** By key, of what was not given by others. */
  readonly #written = new Map<string, string>();

  /** @throws TypeError where the URL is none, or there is no WebSocket */
  constructor(options: ConnectionOptions) {
    const { userId = null, token, getToken, store, clock = systemClock, random = Math.random } = options;
    const WebSocket = options.webSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
    if (WebSocket === undefined) throw new TypeError("There is no WebSocket here: give one as `webSocket`.");
    const source = getToken ?? token;
    this.#options = options;
    this.#clock = clock;
    const onError = this.#onError;
    this.#onState = new Listeners(onError);
    this.#onNews = new Listeners(onError);
    this.#userId = this.#knownUser();
    this.#tokens = source === undefined ? null : new Tokens(source, clock, (user) => this.#noteSubject(user));
    this.#session = new Session({
      ...options,
      userId,
      tokens: this.#tokens,
      whenReplaced: options.whenReplaced ?? "stop",
      ownTopics: options.ownTopics ?? ["user", "calls", "notifications"],
      open: (url) => new WebSocket(url, [jsonSubprotocol]),
      clock,
      random,
      surroundings: options.surroundings ?? pageSurroundings,
      onState: (state) => this.#noteState(state),
      onNews: (news) => this.#tell(news),
      onIdentified: (identity) => this.#identify(identity),
      onCursor: () => this.#saveLater(),
      onHappening: (happening) => this.#noteHappening(happening),
      onError,
    });
    const own = this.#own();
    this.store = new DeferredStore(own.then(() => store));
    this.outbox = new DurableOutbox({
      ...{ store: this.store, clock, random, onError },
      send: (type, payload) => this.#session.request(type, payload, { mayRepeat: false }),
      isSignedOut: () => isSignedOut(this.state),
      onSent: (entry, ack) => this.#tell({ kind: "sent", entry, ack }),
    });
    this.#loaded = own.catch(onError).then(() => this.#load());
  }

  get userId(): string | null {
    return this.#userId;
  }

  get deviceId(): string | null {
    return this.#session.deviceId;
  }

  get state(): ConnectionState {
    return this.#isStarting ? connecting : this.#session.state;
  }

  /** All of the log up to here, on what is followed, has been told; null: there is none yet. For `ack`. */
  get cursor(): string | null {
    return this.#session.cursor;
  }

  /** Resolves once it is known what was kept. */
  get loaded(): Promise<void> {
    return this.#loaded;
  }

  onState(listener: (state: ConnectionState) => void): Unlisten {
    return this.#onState.add(listener);
  }

  onNews(listener: (news: News) => void): Unlisten {
    return this.#onNews.add(listener);
  }

  request<T extends RequestType>(type: T, payload: ClientPayloads[T], options?: RequestOptions): Promise<Reply<T>> {
    if (!isOutboxType(type)) return this.#session.request(type, payload, options);
    // Done past the outbox it is told like what has gone through it: nobody else tells this device [SUB6].
    const entry = entryOf({ type, payload: payload as ClientPayloads[typeof type], createdAt: this.#clock.now() });
    const onReply = (ack: JsonObject) => this.#tell({ kind: "sent", entry, ack });
    return this.#session.request(type, payload, { ...options, onReply });
  }

  follow(
    topics: string[],
    filters?: ClientPayloads["subscribe"]["filters"],
  ): { ready: Promise<Subscribed>; stop: Unlisten } {
    return this.#session.follow({ topics, filters });
  }

  keep(kept: Kept): void {
    this.#kept.add(kept);
  }

  start(): void {
    if (this.state.status !== "stopped") return;
    if (this.#isLoaded || this.#noteOwner !== null) return this.#session.start();
    this.#isStarting = true;
    this.#onState.tell({ status: "connecting" });
    void this.#loaded.then(() => this.#isStarting && this.#session.start());
  }

  /** Closes with 1000. @returns resolves once the line is closed and what is to be kept is written */
  async stop(): Promise<void> {
    this.#isStarting = false;
    if (isSignedOut(this.state)) return;
    await this.#session.stop();
    await this.#save();
  }

  async signOut(): Promise<void> {
    this.#isStarting = false;
    const closed = this.#session.stop("signed_out");
    this.#noteOwner?.(null);
    this.#noteOwner = null;
    const forgotten = this.#forget();
    this.#userId = this.#knownUser();
    await Promise.all([closed, forgotten]);
  }

  leave(): void {
    this.#isStarting = false;
    this.#hasLeft = true;
    this.#dropSave();
    this.outbox.suspend();
    this.#session.leave();
  }

  catchUp(take: (had: Had) => void): void {
    this.#isLoaded = false;
    this.#loaded = this.#loaded.then(() => {
      this.#session.catchUp(take);
      this.#isLoaded = true;
    });
  }

  /** Takes up the session that is kept, and leaves nothing of another user's. @throws where that cannot be read or removed */
  async #own(): Promise<void> {
    const { userId, session, covered } = await takeOver({
      ...this.#owner,
      token: async () => (await this.#tokens?.takeAhead()) ?? null,
      askServer: () =>
        new Promise((resolve) => {
          this.#noteOwner = resolve;
          if (this.#isStarting) this.#session.start();
        }),
    });
    this.#userId = userId;
    if (session === null) return;
    this.#session.deviceId = session.deviceId;
    this.#session.restore(session, covered);
  }

  get #owner() {
    const { store, url } = this.#options;
    return { store, url, userId: this.#userId, onError: this.#onError };
  }

  /** Null: nobody knows before a token, or the server, says it. */
  #knownUser(): string | null {
    const { userId, subject, token, getToken } = this.#options;
    return userId ?? subject ?? (getToken === undefined ? subjectOf(token) : null);
  }

  /** Without a connection nobody else says that it is another's. */
  async #noteSubject(userId: string): Promise<void> {
    if ([null, userId].includes(this.#userId) || this.#options.userId !== undefined || this.state.status === "live")
      return;
    await this.#loaded;
    this.#userId = userId;
    const owner = this.#owner;
    this.#writing = this.#forget()
      .then(() => claim(owner))
      .catch(this.#onError);
  }

  async #load(): Promise<void> {
    const { deviceId, deviceIdBefore = null } = this.#options;
    this.#session.deviceId = deviceId ?? this.#session.deviceId ?? deviceIdBefore;
    await this.outbox.load();
    this.#isLoaded = true;
    if (this.state.status === "live") this.outbox.resume();
  }

  #identify({ userId }: Identity): boolean {
    if (this.#noteOwner !== null) {
      this.#noteOwner(userId);
      this.#noteOwner = null;
      // It comes back with the place that is kept, if that is its own.
      this.#session.reconnect();
      return false;
    }
    const isAnother = this.#userId !== null && this.#userId !== userId;
    this.#userId = userId;
    if (!isAnother) return true;
    // It came with the place of the one before; nothing of that is this one's.
    void this.#forget();
    this.#session.reconnect();
    return false;
  }

  #noteState(state: ConnectionState): void {
    if (this.#hasLeft) return;
    if (state.status === "live") this.outbox.resume();
    else this.outbox.suspend();
    const isTold = this.#isStarting && state.status === "connecting";
    this.#isStarting = false;
    if (!isTold) this.#onState.tell(state);
  }

  #tell(news: News): void {
    if (this.#hasLeft) return;
    this.#onNews.tell(news);
    // At once what is heard from now on, for whoever leads next goes on with that alone.
    this.#saveLater(news.kind === "subscribed" ? 0 : saveAfterMs);
  }

  #noteHappening(happening: Happening): void {
    if (happening === "hide") void this.#save();
  }

  #saveLater(afterMs = saveAfterMs): void {
    if (afterMs === 0) this.#dropSave();
    this.#cancelSave ??= this.#clock.after(afterMs, () => void this.#save());
  }

  /** Writes the place together with all that was folded up to it, both as they are now. */
  #save(): Promise<unknown> {
    this.#dropSave();
    const { deviceId, place, covered, isFromAcked } = this.#session;
    if (this.#hasLeft || this.#userId === null || deviceId === null || isFromAcked) return this.#writing;
    const { url } = this.#options;
    const session: KeptSession = { url, userId: this.#userId, deviceId, ...place };
    for (const kept of this.#kept) for (const [key, value] of kept.takeChanges()) this.#unwritten.set(key, value);
    for (const [key, value] of [
      [keys.session, session],
      [keys.covered, covered],
    ] as const) {
      const text = JSON.stringify(value);
      if (text !== this.#written.get(key)) this.#unwritten.set(key, value);
      this.#written.set(key, text);
    }
    return this.#write();
  }

  #write(): Promise<unknown> {
    const changes = this.#unwritten;
    this.#unwritten = new Map();
    if (changes.size === 0) return this.#writing;
    this.#writing = this.#writing
      .then(() => this.store.write([...changes]))
      .catch((error) => {
        this.#unwritten = new Map([...changes, ...this.#unwritten]);
        this.#onError(error);
      });
    return this.#writing;
  }

  /** Nothing of this user is kept any more, nor known to anybody here. */
  #forget(): Promise<unknown> {
    this.#dropSave();
    this.#session.deviceId = this.#options.deviceId ?? null;
    this.#session.restore(nowhere, []);
    this.#tokens?.drop("connect");
    this.outbox.forget();
    this.#tell({ kind: "forgotten" });
    for (const kept of this.#kept) kept.takeChanges();
    this.#unwritten.clear();
    this.#written.clear();
    this.#dropSave();
    this.#writing = this.#writing.then(() => this.store.clear()).catch(this.#onError);
    return this.#writing;
  }

  #dropSave(): void {
    this.#cancelSave?.();
    this.#cancelSave = null;
  }
}
