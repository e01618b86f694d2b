/** The connection of one tab or program: its session and outbox, and what is kept of both beside what the models keep. */
import { subprotocols } from "../protocol/limits.ts";
import type { Identity, Socket } from "./connection/line.ts";
import { DurableOutbox, entryOf, isSignedOut } from "./connection/outbox.ts";
import { isOutboxType } from "./connection/pace.ts";
import type { KeptPlace } from "./connection/place.ts";
import { Session } from "./connection/session.ts";
import { type GetToken, Tokens } from "./connection/tokens.ts";
import type {
  Clock,
  Connection as ConnectionOfAll,
  ConnectionState,
  Kept,
  News,
  Reply,
  RequestOptions,
  RequestType,
  Scope,
  Store,
  Subscribed,
  Unlisten,
} from "./core.ts";
import { Listeners } from "./ground/listeners.ts";
import { type Happening, pageSurroundings, type Surroundings, systemClock } from "./ground/surroundings.ts";
import { DeferredStore } from "./stores/deferred.ts";
import type { ClientPayloads, JsonObject } from "./wire.ts";

export type WebSocketConstructor = new (url: string, protocols: string[]) => Socket;

export interface ConnectionOptions {
  /** `wss://chat.example.com/ws` */
  url: string;
  /** Says who this is where the server trusts what it is told; else a token does. */
  userId?: string;
  /** One that does, for as long as it is good. */
  token?: string;
  /** Asked when a token is needed; again, with a pause, where it fails or does not answer. */
  getToken?: GetToken;
  /** Else that which was kept, or one that the server makes. */
  deviceId?: string;
  store: Store;
  /** Where there is no global one, as in Node 20: that of the package `ws`. */
  webSocket?: WebSocketConstructor;
  /** Another of the same device has connected: `stop` leaves it to that one, `another_device` comes back beside it. `stop` where left out. */
  whenReplaced?: "stop" | "another_device";
  /**
   * Asked for each line: goes on from the place that is kept here, or from what was acknowledged by `ack`, and tells all that comes
   * after it once more [LOG6]. Until all of that is back the next lines do so too, and nothing is kept. `place` where left out.
   */
  resumesFrom?(): "place" | "acked";
  /** `user`, `calls` and `notifications` where left out. */
  ownTopics?: readonly string[];
  clock?: Clock;
  /** Like Math.random. */
  random?: () => number;
  surroundings?: Surroundings;
  /** Something went wrong that no request of the application's is told of: what it answers with, what cannot be kept. */
  onError?(error: unknown): void;
}

interface KeptSession extends KeptPlace {
  url: string;
  userId: string;
  /** Null: it was never connected. */
  deviceId: string | null;
}

const keys = { session: "session", covered: "session/covered" };
const saveAfterMs = 500;
const nowhere: KeptPlace = { cursor: null, seen: {}, own: {} };

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
  #hasLeft = false;
  #userId: string | null;
  /** Waits for what was kept to be read. */
  #isStarting = false;
  #cancelSave: (() => void) | null = null;
  #writing: Promise<unknown> = Promise.resolve();
  /** Goes with the next write, for the cursor is no further than what could not be written. */
  #unwritten = new Map<string, unknown>();
  #written = "";
  #writtenCovered = "";

  /** @throws TypeError where the URL is none, or there is no WebSocket */
  constructor(options: ConnectionOptions) {
    const { url, userId, token, getToken, store, clock = systemClock, random = Math.random } = options;
    const WebSocket = options.webSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
    if (WebSocket === undefined) throw new TypeError("There is no WebSocket here: give one as `webSocket`.");
    const source = getToken ?? token;
    this.#options = options;
    this.#clock = clock;
    const onError = (error: unknown) => options.onError?.(error);
    this.#onState = new Listeners(onError);
    this.#onNews = new Listeners(onError);
    this.#userId = userId ?? null;
    this.#tokens = source === undefined ? null : new Tokens(source, clock);
    this.#session = new Session({
      url,
      userId: userId ?? null,
      tokens: this.#tokens,
      whenReplaced: options.whenReplaced ?? "stop",
      ownTopics: options.ownTopics ?? ["user", "calls", "notifications"],
      open: (url) => new WebSocket(url, [subprotocols.json]),
      clock,
      random,
      surroundings: options.surroundings ?? pageSurroundings,
      resumesFrom: () => options.resumesFrom?.() ?? "place",
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
      store: this.store,
      clock,
      random,
      send: (type, payload) => this.#session.request(type, payload, { mayRepeat: false }),
      isSignedOut: () => isSignedOut(this.state),
      onSent: (entry, ack) => this.#tell({ kind: "sent", entry, ack }),
      onError,
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
    if (this.#isLoaded) return this.#session.start();
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
    const forgotten = this.#forget();
    this.#userId = this.#options.userId ?? null;
    await Promise.all([closed, forgotten]);
  }

  leave(): void {
    this.#isStarting = false;
    this.#hasLeft = true;
    this.#cancelSave?.();
    this.outbox.suspend();
    this.#session.leave();
  }

  catchUp(news: readonly News[], followed: readonly Scope[]): void {
    this.#isLoaded = false;
    this.#loaded = this.#loaded.then(() => {
      this.#session.catchUp(news, followed);
      this.#isLoaded = true;
    });
  }

  /** Takes up the session that is kept, and leaves nothing of another user's. @throws where that cannot be removed */
  async #own(): Promise<void> {
    const { store, url, onError } = this.#options;
    const read = store.read(keys.session);
    // A store that cannot be read has nothing.
    const kept = new Map(await read.catch((error) => void onError?.(error)));
    const session = kept.get(keys.session) as KeptSession | undefined;
    if (session?.url === url && (this.#userId === null || session.userId === this.#userId)) {
      this.#userId = session.userId;
      this.#session.deviceId = session.deviceId;
      return this.#session.restore(session, (kept.get(keys.covered) as string[] | undefined) ?? []);
    }
    if (session !== undefined) await store.clear();
    if (this.#userId === null) return;
    // Before anything that is this user's, so that the next one knows whose it is.
    const own: KeptSession = { url, userId: this.#userId, deviceId: null, ...nowhere };
    await store.write([[keys.session, own]]).catch((error) => onError?.(error));
  }

  async #load(): Promise<void> {
    const { deviceId } = this.#options;
    if (deviceId !== undefined) this.#session.deviceId = deviceId;
    await this.outbox.load();
    this.#isLoaded = true;
  }

  #identify({ userId }: Identity): boolean {
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
    this.#saveLater();
  }

  #noteHappening(happening: Happening): void {
    if (happening === "hide") void this.#save();
  }

  #saveLater(): void {
    this.#cancelSave ??= this.#clock.after(saveAfterMs, () => void this.#save());
  }

  /** Writes the place together with all that was folded up to it, both as they are now. */
  #save(): Promise<unknown> {
    this.#cancelSave?.();
    this.#cancelSave = null;
    const { deviceId, place, covered, isFromAcked } = this.#session;
    if (this.#hasLeft || this.#userId === null || deviceId === null || isFromAcked) return this.#writing;
    const { url } = this.#options;
    const session: KeptSession = { url, userId: this.#userId, deviceId, ...place };
    for (const kept of this.#kept) for (const [key, value] of kept.takeChanges()) this.#unwritten.set(key, value);
    const [text, coveredText] = [JSON.stringify(session), JSON.stringify(covered)];
    if (text !== this.#written) this.#unwritten.set(keys.session, session);
    if (coveredText !== this.#writtenCovered) this.#unwritten.set(keys.covered, covered);
    [this.#written, this.#writtenCovered] = [text, coveredText];
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
        this.#options.onError?.(error);
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
    this.#written = this.#writtenCovered = "";
    this.#dropSave();
    this.#writing = this.#writing.then(() => this.store.clear()).catch((error) => this.#options.onError?.(error));
    return this.#writing;
  }

  #dropSave(): void {
    this.#cancelSave?.();
    this.#cancelSave = null;
  }
}
