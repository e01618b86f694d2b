/** Shares one connection among the tabs of a browser: one leads, the others speak through it, and another leads when it goes. */
import { isSignedOut } from "../connection/outbox.ts";
import type {
  Clock,
  Connection,
  ConnectionState,
  Core,
  Kept,
  News,
  Outbox,
  Reply,
  RequestOptions,
  RequestType,
  Scope,
  Store,
  Subscribed,
  Unlisten,
} from "../core.ts";
import { ClientError } from "../errors.ts";
import { newId } from "../ground/ids.ts";
import { Listeners } from "../ground/listeners.ts";
import { type Happening, joined, type Surroundings } from "../ground/surroundings.ts";
import type { ClientPayloads, JsonObject } from "../wire.ts";
import { outboxOver, TabAsks } from "./asks.ts";
import { LeadWatch, TabFollower } from "./follower.ts";
import { readNumber, TabLead, type TabListener, type TabRole } from "./lead.ts";
import { fenced, Membership, TabLocks } from "./locks.ts";
import { type FromLead, type Shown, type TabMessage, termAfter } from "./messages.ts";
import { RecentNews } from "./recent-news.ts";

export interface TabCoreOptions {
  /** Where it is known beforehand. */
  userId: string | null;
  /** Tabs of the same name share: who is signed in at which service. Null: this one is by itself. */
  name: Promise<string | null>;
  /** All tabs of the name have it. */
  store: Store;
  /** Makes the connection, where this tab leads. */
  connect(parts: { store: Store; surroundings: Surroundings; isShared: boolean; deviceId: string | null }): Connection;
  surroundings: Surroundings;
  clock: Clock;
  onError(error: unknown): void;
}

export class TabCore implements Core {
  readonly outbox: Outbox;
  readonly #options: TabCoreOptions;
  readonly #tab = newId();
  readonly #asks: TabAsks;
  readonly #kept = new Set<Kept>();
  readonly #news: RecentNews;
  readonly #onState: Listeners<ConnectionState>;
  readonly #onNews: Listeners<News>;
  readonly #onOutbox: Listeners<void>;
  readonly #onHappening: Listeners<Happening>;
  #shown: Shown;
  #member: Membership | null = null;
  #lead: { tab: TabLead; connection: Connection } | null = null;
  #follower: TabFollower | null = null;
  /** Of the last one that was heard of. */
  #term = "0";
  readonly #watch: LeadWatch;

  constructor(options: TabCoreOptions) {
    const { userId, surroundings, onError } = options;
    this.#options = options;
    this.#shown = { userId, deviceId: null, state: { status: "stopped", reason: "new" }, entries: [] };
    this.#onState = new Listeners(onError);
    this.#onNews = new Listeners(onError);
    this.#onOutbox = new Listeners(onError);
    this.#onHappening = new Listeners(onError);
    this.#asks = new TabAsks(options.clock);
    this.#news = new RecentNews(readNumber(options.store));
    this.outbox = outboxOver(this.#asks, { shown: () => this.#shown, onChange: (it) => this.#onOutbox.add(it) });
    const line = { tab: this.#tab, post: (message: TabMessage) => this.#post(message) };
    this.#watch = new LeadWatch({ ...line, clock: options.clock, onDeaf: () => this.#waitForLead(true) });
    surroundings.listen((happening) => {
      if (happening === "wake" || happening === "online") this.#post({ kind: "probe", from: this.#tab, happening });
    });
    if (typeof document === "undefined") return;
    addEventListener("pagehide", () => (this.#lead?.tab.hasOthers || this.#follower !== null) && void this.#leave());
    addEventListener("pageshow", ({ persisted }) => persisted && this.state.status !== "stopped" && this.start());
  }

  get userId(): string | null {
    return this.#shown.userId;
  }

  get deviceId(): string | null {
    return this.#shown.deviceId;
  }

  get isLead(): boolean {
    return this.#lead !== null;
  }

  get state(): ConnectionState {
    return this.#shown.state;
  }

  onState(listener: (state: ConnectionState) => void): Unlisten {
    return this.#onState.add(listener);
  }

  onNews(listener: (news: News) => void): Unlisten {
    return this.#onNews.add(listener);
  }

  keep(kept: Kept): void {
    this.#kept.add(kept);
    this.#lead?.connection.keep(kept);
  }

  start(): void {
    this.#join();
    this.#asks.ask({ do: "start" }).catch(() => {});
  }

  /** This tab goes; the connection with it where there is no other. */
  stop(): Promise<void> {
    const left = this.#leave();
    if (!isSignedOut(this.state)) this.#show({ state: { status: "stopped", reason: "stopped" } });
    this.#asks.failAll(new ClientError("stopped"));
    return left;
  }

  /** In all tabs. */
  async signOut(): Promise<void> {
    this.#join();
    await this.#asks.ask({ do: "signOut" });
  }

  async request<T extends RequestType>(
    type: T,
    payload: ClientPayloads[T],
    { timeoutMs, signal }: RequestOptions = {},
  ): Promise<Reply<T>> {
    signal?.throwIfAborted();
    const { state } = this;
    if (state.status === "stopped" && state.reason !== "new") throw new ClientError("stopped");
    const ask = { do: "request", type, payload: payload as JsonObject, timeoutMs } as const;
    return (await this.#asks.ask(ask, signal)) as Reply<T>;
  }

  follow(topics: string[], filters?: Scope["filters"]): { ready: Promise<Subscribed>; stop: Unlisten } {
    return this.#asks.follow({ topics, filters });
  }

  #join(): void {
    if (this.#member !== null) return;
    const member = new Membership();
    this.#member = member;
    this.#show({ state: { status: "connecting" } });
    this.#enterTabs(member).catch((error) => this.#options.onError(error));
  }

  async #enterTabs(member: Membership): Promise<void> {
    const name = await this.#options.name;
    await this.#news.had();
    if (member.isOver) return;
    if (name === null) return this.#beginLead(member, { isHeld: true });
    const locks = new TabLocks(name, this.#tab);
    member.locks = locks;
    member.channel = new BroadcastChannel(name);
    member.channel.onmessage = ({ data }: MessageEvent<TabMessage>) => this.#take(data);
    await locks.stay(async () => {
      await this.#hello();
      this.#waitForLead();
      await member.over;
    });
  }

  /** @param steal takes the lead from one that does not answer */
  #waitForLead(steal = false): void {
    const member = this.#member;
    const locks = member?.locks;
    if (!member || !locks) return;
    if (steal) this.#follow(null);
    else this.#watch.start();
    member.waiting.abort();
    member.waiting = new AbortController();
    const { signal } = member.waiting;
    const grant = { isHeld: true };
    const lead = async () => {
      await this.#beginLead(member, grant).catch((error) => this.#options.onError(error));
      await member.over;
    };
    locks.lead(lead, { signal, steal }).catch(() => {
      if (member.isOver || signal.aborted) return;
      // Taken by another, to which this tab did not answer.
      grant.isHeld = false;
      this.#yield();
      void this.#hello();
    });
  }

  async #beginLead(member: Membership, grant: { readonly isHeld: boolean }): Promise<void> {
    const { store, clock, connect, surroundings } = this.#options;
    const { locks, channel } = member;
    this.#watch.stop();
    this.#follow(null);
    const [keptNumber, had] = await Promise.all([readNumber(store), this.#news.had()]);
    if (member.isOver || !grant.isHeld) return;
    const connection = connect({
      ...{ isShared: locks !== null, deviceId: this.deviceId },
      store: locks === null ? store : fenced(store, { locks, clock }),
      surroundings: joined(surroundings, this.#onHappening),
    });
    for (const kept of this.#kept) connection.keep(kept);
    const tab = new TabLead({
      term: (this.#term = termAfter(this.#term, clock.now())),
      connection,
      news: this.#news,
      clock,
      tabs: locks && channel && { locks, post: (message) => channel.postMessage(message) },
      onHappening: (happening) => this.#onHappening.tell(happening),
      listener: this.#listener,
    });
    this.#lead = { tab, connection };
    const isWhole = await tab.begin({ own: () => this.#asks.tellFollows(), keptNumber, had });
    if (member.isOver || this.#lead?.tab !== tab) return;
    this.#news.isBehind = false;
    if (!isWhole) this.#onNews.tell(this.#news.gap);
    // As it was with the one before.
    if (this.#shown.state.status !== "stopped") connection.start();
    this.#asks.enter(tab);
  }

  /** Another has taken the lead from this tab, which was frozen: it has its place no more. */
  #yield(): void {
    this.#lead?.tab.end();
    this.#lead?.connection.leave();
    this.#lead = this.#news.last = null;
    this.#asks.enter(null);
    this.#news.isBehind = true;
    this.#waitForLead();
  }

  /** @returns resolves once what is to be kept is written, where this tab has it to write */
  async #leave(): Promise<void> {
    const member = this.#member;
    const lead = this.#lead;
    if (member === null) return;
    const hadOthers = lead?.tab.hasOthers === true;
    this.#watch.stop();
    this.#member = this.#lead = null;
    this.#follow(null);
    member.channel?.postMessage({ kind: "bye", from: this.#tab } satisfies TabMessage);
    lead?.tab.end();
    // Its last word has to be written, which only the one that leads may.
    if (lead !== null && !hadOthers) return lead.connection.stop().finally(() => member.end());
    lead?.connection.leave();
    member.end();
  }

  async #hello(): Promise<void> {
    const after = await this.#news.had();
    const follows = this.#asks.tellFollows();
    this.#post({ kind: "hello", from: this.#tab, after, follows });
  }

  #post(message: TabMessage): void {
    this.#member?.channel?.postMessage(message);
  }

  #take(message: TabMessage): void {
    if (!("term" in message)) return this.#lead?.tab.take(message);
    // One that was frozen does not know yet that it does not lead any more: this tab, or the one that has sent this.
    if (this.#member === null || message.term < (this.#lead?.tab.term ?? this.#term)) return;
    if (this.#lead !== null) {
      this.#yield();
      this.#term = message.term;
      return void this.#hello();
    }
    this.#watch.noteHeard();
    const isMine = !("to" in message) || message.to === this.#tab;
    if (message.kind === "welcome" && isMine) return this.#enterAsFollower(message);
    if (message.term !== this.#term) {
      this.#term = message.term;
      this.#follow(null);
      return void this.#hello();
    }
    if (!isMine || message.kind === "welcome") return;
    // Compared, for one that was frozen may have lost what it was told meanwhile.
    if (message.kind === "awake") return this.#noteAwake(message.number);
    if (message.kind === "news") this.#takeNews(message);
    else this.#follower?.take(message);
  }

  #noteAwake(number: number): void {
    if (this.#follower !== null && !this.#news.isBehind && this.#news.last === number) this.#asks.askAgain();
    else this.#fallBehind();
  }

  #takeNews({ number, news }: Extract<FromLead, { kind: "news" }>): void {
    if (this.#news.isBehind || this.#follower === null) return;
    if (number === this.#news.last! + 1) this.#tell(news);
    else this.#fallBehind();
  }

  /** Passes over what comes until its welcome, which tells that as well. */
  #fallBehind(): void {
    this.#news.isBehind ||= this.#news.last !== null;
    void this.#hello();
  }

  #enterAsFollower({ term, number, news, shown }: Extract<FromLead, { kind: "welcome" }>): void {
    this.#news.isBehind = false;
    // Before the news, whose listeners ask whose it is.
    this.#shown = { ...this.#shown, userId: shown.userId, deviceId: shown.deviceId };
    if (news === null) {
      this.#news.beginAt(number);
      this.#onNews.tell(this.#news.gap);
    } else for (const it of this.#news.notHad(number, news)) this.#tell(it);
    this.#show(shown);
    if (term === this.#term && this.#follower !== null) return;
    this.#term = term;
    this.#follow(new TabFollower({ tab: this.#tab, post: (it) => this.#post(it) }, this.#listener));
  }

  #follow(follower: TabFollower | null): void {
    this.#follower = follower;
    this.#asks.enter(follower satisfies TabRole | null);
  }

  #tell(news: News): void {
    this.#news.take(news);
    this.#onNews.tell(news);
  }

  #show(shown: Partial<Shown>): void {
    const before = this.#shown;
    const { state } = shown;
    // A connection that is new is about to be started.
    const isNew = state?.status === "stopped" && state.reason === "new";
    this.#shown = { ...before, ...shown, ...(isNew && { state: before.state }) };
    if (shown.entries !== undefined) this.#onOutbox.tell();
    if (JSON.stringify(before.state) !== JSON.stringify(this.#shown.state)) this.#onState.tell(this.#shown.state);
  }

  readonly #listener: TabListener = {
    onNews: (news) => this.#onNews.tell(news),
    onShown: (shown) => this.#show(shown),
    onAnswer: (id, answer) => this.#asks.noteAnswer(id, answer),
    onFollowed: (id, answer) => this.#asks.noteFollowed(id, answer),
  };
}
