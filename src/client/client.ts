/** Is a user's chat on this device: the connection, the conversations, who is here, and events of every type. */
import type { Call } from "./calls/call.ts";
import { Calls, type PlaceOptions } from "./calls/calls.ts";
import type { CallsOptions } from "./calls/rtc.ts";
import type { GetToken } from "./connection/tokens.ts";
import type { WebSocketConstructor } from "./connection.ts";
import type { Conversation } from "./conversations/conversation.ts";
import { Conversations, type Keep } from "./conversations/conversations.ts";
import type { ConversationListView } from "./conversations/list.ts";
import type {
  ConnectionState,
  Core,
  News,
  Reply,
  RequestOptions,
  RequestType,
  ServerEvent,
  Store,
  Unlisten,
} from "./core.ts";
import { Listeners } from "./ground/listeners.ts";
import type { Live } from "./ground/live.ts";
import { systemClock } from "./ground/surroundings.ts";
import { openCore } from "./open-core.ts";
import { type OwnPresence, type Presence, PresenceBook } from "./presence.ts";
import { checkIdentifier, checkOptions, watchRefusals } from "./set-up.ts";
import type { ClientPayloads, JsonObject, ServerPayloads } from "./wire.ts";

export interface ClientOptions {
  /** `wss://chat.example.com/ws` */
  url: string;
  /** Says who this is where the server trusts what it is told (`auth.mode: trusted`); else a token does. 1–128 printable ASCII characters. */
  userId?: string;
  /** A token for as long as it is good; better is `getToken`. */
  token?: string;
  /**
   * Asked when a token is needed: to connect, before one expires, and where one was refused; again, with a pause, where it fails. What it
   * fails with is told as `error`.
   */
  getToken?: GetToken;
  /** Names this device, like a user [CON3]. Left out: that which was kept, or one that the server makes. */
  deviceId?: string;
  /** Where to keep what a page opens with. Left out: IndexedDB in browsers, memory elsewhere. */
  store?: Store;
  /** False: no connection is shared with other tabs of the browser, and nothing kept where no `store` is given. */
  tabs?: boolean;
  /** Where there is no global one, as in Node 20: that of the package `ws`. */
  webSocket?: WebSocketConstructor;
  /** Topics that are followed from the start, looked at or not: `["conversation"]` has all messages marked as delivered when they arrive. */
  autoSubscribe?: readonly string[];
  keep?: Keep;
  calls?: CallsOptions;
}

/** An event of the application's own that a client has sent [MSG4]. */
export interface SentEvent<Data> {
  conversation_id: string;
  user_id: string;
  client_event_id?: string;
  data: Data;
}

/** Maps what may be listened to, to what a listener is called with. */
export type ClientEvents<Events extends object> = {
  state: [state: ConnectionState];
  /** Of these topics something is missing, or it stands otherwise than was told; conversations load themselves anew [LOG4]. */
  gap: [gap: { topics: readonly string[] }];
  /** Something went wrong that no call of the application's is told of; `refused`: no server has ever let this client in. */
  error: [error: unknown];
  /** Somebody calls, or a call goes on in this page, which was loaded anew. */
  call: [call: Call];
} & {
  [T in keyof ServerPayloads]: [payload: ServerPayloads[T], event: ServerEvent<ServerPayloads[T]>];
} & {
  [T in keyof Events]: [payload: SentEvent<Events[T]>, event: ServerEvent<SentEvent<Events[T]>>];
};

/** @typeParam Events the application's own event types, with what each carries: `{ "poll.vote": { poll: string; option: number } }` */
export class Client<Events extends object = Record<never, never>> {
  readonly #core: Core;
  readonly #conversations: Conversations;
  readonly #presence: PresenceBook;
  readonly #calls: Calls;
  readonly #listeners = new Map<string, Listeners<unknown[]>>();
  readonly #autoSubscribe: readonly string[];
  #unfollow: Unlisten | null = null;

  /**
   * Does nothing yet: `start` does.
   * @throws TypeError where the URL is none, nothing says who this is, a user or device is no identifier, or there is no WebSocket
   */
  constructor(options: ClientOptions) {
    checkOptions(options);
    const { url, keep, calls, autoSubscribe = [] } = options;
    const onError = (error: unknown) => this.#tell("error", error);
    const { core, store } = openCore({ ...options, onError });
    this.#core = core;
    this.#autoSubscribe = autoSubscribe;
    core.onState((state) => this.#tell("state", state));
    watchRefusals(core, url, onError);
    this.#conversations = new Conversations({ core, store, keep, onError, clock: systemClock, random: Math.random });
    this.#presence = new PresenceBook(core);
    const onCall = (call: Call) => this.#tell("call", call);
    this.#calls = new Calls({ ...calls, core, url, clock: systemClock, onCall, onError });
    core.onState((state) => this.#calls.noteState(state));
    core.onNews((news) => this.#takeNews(news));
  }

  /** Where the connection is, and why. */
  get state(): ConnectionState {
    return this.#core.state;
  }

  /** Null until somebody is known: from the options, the server, or what was kept. */
  get userId(): string | null {
    return this.#core.userId;
  }

  get deviceId(): string | null {
    return this.#core.deviceId;
  }

  /** Connects, and stays connected until `stop`. */
  start(): void {
    if (this.#autoSubscribe.length > 0) this.#unfollow ??= this.#core.follow([...this.#autoSubscribe]).stop;
    this.#core.start();
  }

  /** Closes: this user goes [PRE1]. What is kept stays, and what waits to be sent. @returns resolves once it is written */
  async stop(): Promise<void> {
    this.#calls.hangUp();
    await this.#core.stop();
  }

  /** Stops, and wipes what is kept of this user on the device. */
  signOut(): Promise<void> {
    this.#calls.hangUp();
    return this.#core.signOut();
  }

  /**
   * Listens to `state`, `gap`, `error`, or to events of a type: `client.on("message.new", ({ content }) => …)`.
   * @returns what ends it
   */
  on<K extends keyof ClientEvents<Events> & string>(
    type: K,
    listener: (...args: ClientEvents<Events>[K]) => void,
  ): Unlisten {
    const listeners = this.#listeners.get(type) ?? new Listeners();
    this.#listeners.set(type, listeners);
    return listeners.add((args) => listener(...(args as ClientEvents<Events>[K])));
  }

  /**
   * Sends a request of the protocol and waits for its answer, also for the connection.
   * @throws ServerError what the server answers @throws ClientError `timeout`, `stopped`, …
   */
  request<T extends RequestType>(type: T, payload: ClientPayloads[T], options?: RequestOptions): Promise<Reply<T>> {
    return this.#core.request(type, payload, options);
  }

  /** All conversations of this user, followed while somebody is subscribed. */
  conversations(): Live<ConversationListView> {
    return this.#conversations.list;
  }

  /** The same object for the same id. @throws TypeError where it is no identifier: 1–128 printable ASCII characters without spaces */
  conversation(id: string): Conversation<Events & Record<string, JsonObject>> {
    checkIdentifier("A conversation's id", id);
    return this.#conversations.get(id) as Conversation<Events & Record<string, JsonObject>>;
  }

  /** How these users are to be seen, followed while somebody is subscribed; one of whom nothing was told yet is not in it. */
  presence(userIds: readonly string[]): Live<ReadonlyMap<string, Presence>> {
    return this.#presence.view(userIds);
  }

  /** Sets this user's own status [PRE2]. @throws ServerError, ClientError */
  async setPresence(presence: OwnPresence): Promise<void> {
    await this.#presence.set(presence);
  }

  /** Calls a user: rings on all of their devices until one of them answers [CALL1]. */
  call(userId: string, options: PlaceOptions): Call {
    return this.#calls.place(userId, options);
  }

  /** Calls that ring here or live in this tab, in the order in which they came; without those that are over. */
  get calls(): Live<readonly Call[]> {
    return this.#calls;
  }

  #takeNews(news: News): void {
    this.#calls.take(news);
    this.#presence.take(news);
    if (news.kind === "gap") this.#tell("gap", { topics: news.topics });
    if (news.kind === "event") this.#tell(news.event.type, news.event.payload, news.event);
  }

  #tell(type: string, ...args: unknown[]): void {
    this.#listeners.get(type)?.tell(args);
  }
}
