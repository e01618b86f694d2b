/** Leads the tabs of a browser: asks and follows on the one connection for all of them, and tells all of them what comes. */
import type { Clock, Connection, News, Scope, Store, Subscribed, Unlisten } from "../core.ts";
import { ClientError } from "../errors.ts";
import { catchUp } from "./catch-up.ts";
import type { TabLocks } from "./locks.ts";
import {
  type Answer,
  type Ask,
  type FromLead,
  failureOf,
  type Shown,
  type TabFollow,
  type ToLead,
} from "./messages.ts";
import type { RecentNews } from "./recent-news.ts";

/** How a tab asks and follows, wherever the connection is. */
export interface TabRole {
  ask(id: string, ask: Ask): void;
  follow(follow: TabFollow): void;
  unfollow(id: string): void;
}

export interface TabListener {
  /** One that is counted already. */
  onNews(news: News): void;
  onShown(shown: Partial<Shown>): void;
  onAnswer(id: string, answer: Answer<unknown>): void;
  onFollowed(id: string, answer: Answer<Subscribed>): void;
}

/** Where the number of the last news is kept that what is kept has in it. */
const numberKey = "news";
/** For those that are there to say what they follow; one that is frozen does not. */
const helloWaitMs = 500;

export interface TabLeadOptions {
  term: string;
  connection: Connection;
  news: RecentNews;
  clock: Clock;
  /** Null where there are no other tabs to speak with. */
  tabs: { locks: TabLocks; post(message: FromLead): void } | null;
  onHappening(happening: "wake" | "online"): void;
  /** Of this tab itself. */
  listener: TabListener;
}

export const readNumber = (store: Store): Promise<number> =>
  store.read(numberKey).then(
    ([kept]) => Number(kept?.[1] ?? 0),
    () => 0,
  );

type Hello = Extract<ToLead, { kind: "hello" }>;

interface Other {
  follows: Map<string, Unlisten>;
  /** Asked and under way. */
  asked: Set<string>;
  noLonger: AbortController;
}

export class TabLead implements TabRole {
  readonly #options: TabLeadOptions;
  readonly #others = new Map<string, Other>();
  /** Until it has begun. */
  #hellos: Map<string, Hello> | null = new Map();
  #noteHello = () => {};
  readonly #follows = new Map<string, Unlisten>();
  #stopListening: Unlisten[] = [];
  #keptNumber = 0;
  #isOver = false;

  constructor(options: TabLeadOptions) {
    this.#options = options;
  }

  get term(): string {
    return this.#options.term;
  }

  /** Other tabs are there. */
  get hasOthers(): boolean {
    return this.#others.size > 0;
  }

  get shown(): Shown {
    const { userId, deviceId, state, outbox } = this.#options.connection;
    return { userId, deviceId, state, entries: outbox.entries };
  }

  /**
   * @param given `own` tells what this tab follows; `keptNumber`: the number of the last news that what is kept has in it, and `had`: of the
   * last that this tab has had; null: it has lost its place
   * @returns false where others were told what this tab has not had, and is not told any more
   */
  async begin(given: { own: () => TabFollow[]; keptNumber: number; had: number | null }): Promise<boolean> {
    const { own, keptNumber, had } = given;
    const { tabs, news, connection } = this.#options;
    if (tabs !== null) await this.#hear(tabs);
    await connection.loaded;
    const hellos = [...this.#hellos!.values()];
    this.#hellos = null;
    if (this.#isOver) return false;
    const follows = own();
    const missed = news.last !== null ? news.after(keptNumber) : had === keptNumber ? [] : null;
    if (news.last === null || missed === null) news.beginAt(keptNumber);
    const answered = [...follows, ...hellos.flatMap((hello) => hello.follows)].filter(({ isAnswered }) => isAnswered);
    const followed = answered.map(({ scope }) => scope);
    connection.catchUp((kept) => catchUp(kept, missed ?? [], followed));
    this.#listen();
    for (const follow of follows) this.follow(follow);
    for (const hello of hellos) this.#welcome(hello);
    return missed !== null;
  }

  take(message: ToLead): void {
    const other = this.#others.get(message.from);
    switch (message.kind) {
      case "hello":
        if (this.#hellos === null) return this.#welcome(message);
        this.#hellos.set(message.from, message);
        return this.#noteHello();
      case "bye":
        this.#hellos?.delete(message.from);
        return this.#forget(message.from);
      case "probe":
        if (this.#hellos === null) this.#answerProbe(message.from, { isKnown: other !== undefined });
        if (message.happening !== null) this.#options.onHappening(message.happening);
        return;
      case "ask":
        return other && this.#askFor(message, other);
      case "follow":
        if (other !== undefined) this.#followFor(message.from, other, message);
        return;
      case "unfollow":
        other?.follows.get(message.id)?.();
        other?.follows.delete(message.id);
    }
  }

  ask(id: string, ask: Ask): void {
    void this.#perform(ask).then((answer) => this.#isOver || this.#options.listener.onAnswer(id, answer));
  }

  follow({ id, scope }: TabFollow): void {
    const { ready, stop } = this.#options.connection.follow(scope.topics, scope.filters);
    this.#follows.set(id, stop);
    void answered(ready).then((answer) => this.#isOver || this.#options.listener.onFollowed(id, answer));
  }

  unfollow(id: string): void {
    this.#follows.get(id)?.();
    this.#follows.delete(id);
  }

  /** Nothing is told or answered any more. */
  end(): void {
    this.#isOver = true;
    for (const stop of this.#stopListening.splice(0)) stop();
    for (const tab of [...this.#others.keys()]) this.#forget(tab);
  }

  /** Waits for a word of each tab that is there. */
  async #hear({ locks }: { locks: TabLocks }): Promise<void> {
    this.#post({ kind: "leads" });
    const awaited = new Set(await locks.others());
    await new Promise<void>((resolve) => {
      const callOff = this.#options.clock.after(helloWaitMs, resolve);
      this.#noteHello = () => {
        if ([...awaited].some((tab) => !this.#hellos?.has(tab))) return;
        callOff();
        resolve();
      };
      this.#noteHello();
    });
  }

  #listen(): void {
    const { connection, news, listener } = this.#options;
    const show = (shown: Partial<Shown>) => {
      this.#post({ kind: "shown", shown });
      listener.onShown(shown);
    };
    this.#stopListening = [
      connection.onNews((it) => {
        news.take(it);
        this.#post({ kind: "news", number: news.last!, news: it });
        listener.onNews(it);
      }),
      connection.onState(async (state) => {
        const { userId, deviceId } = connection;
        // By the next one, where this tab was frozen and does not know yet that it does not lead any more.
        const isReplaced = state.status === "stopped" && state.reason === "replaced";
        if (isReplaced && (await this.#options.tabs?.locks.isLead()) === false) return;
        show({ state, userId, deviceId });
      }),
      connection.outbox.onChange(() => show({ entries: connection.outbox.entries })),
    ];
    connection.keep({
      takeChanges: () => {
        if (news.last === this.#keptNumber) return [];
        this.#keptNumber = news.last!;
        return [[numberKey, news.last]];
      },
    });
    listener.onShown(this.shown);
  }

  #welcome({ from, after, follows }: Hello): void {
    const { news, tabs } = this.#options;
    this.#forget(from);
    const other: Other = { follows: new Map(), asked: new Set(), noLonger: new AbortController() };
    this.#others.set(from, other);
    tabs?.locks.gone(from, other.noLonger.signal).then(
      () => this.#others.get(from) === other && this.#forget(from),
      () => {},
    );
    const missed = after === null ? null : news.after(after);
    this.#post({ kind: "welcome", to: from, number: news.last!, news: missed, shown: this.shown });
    for (const follow of follows) this.#followFor(from, other, follow);
  }

  /** One that is not known here, whatever it thinks, is told so by a number that it cannot have: it says hello again. */
  #answerProbe(tab: string, { isKnown }: { isKnown: boolean }): void {
    this.#post({ kind: "awake", to: tab, number: isKnown ? this.#options.news.last! : -1 });
  }

  #askFor({ from, id, ask }: Extract<ToLead, { kind: "ask" }>, { asked }: Other): void {
    if (asked.has(id)) return;
    asked.add(id);
    void this.#perform(ask).then((answer) => {
      asked.delete(id);
      this.#post({ kind: "answer", to: from, id, answer });
    });
  }

  #followFor(tab: string, other: Other, { id, scope }: { id: string; scope: Scope }): void {
    const { ready, stop } = this.#options.connection.follow(scope.topics, scope.filters);
    other.follows.set(id, stop);
    void answered(ready).then((answer) => this.#post({ kind: "followed", to: tab, id, answer }));
  }

  #forget(tab: string): void {
    const other = this.#others.get(tab);
    this.#others.delete(tab);
    other?.noLonger.abort();
    for (const stop of other?.follows.values() ?? []) stop();
  }

  #post(message: WithoutTerm<FromLead>): void {
    if (!this.#isOver) this.#options.tabs?.post({ ...message, term: this.#options.term });
  }

  #perform(ask: Ask): Promise<Answer<unknown>> {
    const { connection } = this.#options;
    const { outbox } = connection;
    switch (ask.do) {
      case "request":
        return answered(connection.request(ask.type, ask.payload as never, { timeoutMs: ask.timeoutMs }));
      case "add":
        return answered(outbox.add(ask.type, ask.payload as never, ask.id));
      case "replace":
        return answered(outbox.replace(ask.id, ask.payload));
      case "retry":
      case "discard":
        return answered(outbox[ask.do](ask.id));
      case "signOut":
        return answered(connection.signOut());
      case "start":
        return answered(Promise.resolve(connection.start()));
      default:
        // Of a later release, and not known here.
        return answered(Promise.reject(new ClientError("invalid_payload")));
    }
  }
}

type WithoutTerm<Message> = Message extends unknown ? Omit<Message, "term"> : never;

const answered = <Value>(promise: Promise<Value>): Promise<Answer<Value>> =>
  promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ failure: failureOf(error) }),
  );
