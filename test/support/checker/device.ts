/** One device of the population: the client's own connection on a recorded line, and what a user does with it. */

import type { KeptPlace } from "../../../src/client/connection/place.ts";
import { Connection } from "../../../src/client/connection.ts";
import type { ConnectionState, News, RequestType } from "../../../src/client/core.ts";
import { ServerError } from "../../../src/client/errors.ts";
import { MemoryStore } from "../../../src/client/stores/memory.ts";
import type { Received } from "../client.ts";
import { positionOf } from "../cursors.ts";
import type { DeviceHistory, Recorder, Told } from "./history.ts";
import type { Random } from "./random.ts";
import { RecordedSocket } from "./recorded-socket.ts";
import { ToldRecord } from "./told.ts";

export interface DeviceOptions {
  userId: string;
  deviceId: string;
  conversationIds: string[];
  /** Of a backend: what it subscribes to instead of its conversations. It keeps nothing itself, the service remembers its place [LOG6]. */
  backend?: { topics: string[] };
  urls: string[];
  recorder: Recorder;
  random: Random;
  /** Called with every message that is not a reply. */
  onEvent?: (device: Device, message: Received) => void;
}

/** `away`: comes back by itself; `asleep`: when it is woken. */
export type DeviceState = "new" | "connecting" | "live" | "away" | "asleep" | "gone";

/** Knows whether a program that starts on it goes on from somewhere. */
class PlaceStore extends MemoryStore {
  hasPlace = false;

  override async write(changes: readonly [key: string, value: unknown][]): Promise<void> {
    await super.write(changes);
    this.hasPlace ||= changes.some(([key, value]) => key === "session" && (value as KeptPlace).cursor !== null);
  }
}

interface Message {
  conversation_id: string;
  client_message_id: string;
  content: string;
}

/** Of the client's own pauses, so that nobody is away for longer than a run has patience. */
const pausePart = 1 / 20;
const backMs = { least: 25, most: 50 };
const retryMs = 1_000;
/** One in so many lines starts from what was acknowledged instead of the cursor. */
const ackedResumeChance = 0.1;
/** One in so many comings back is a program that starts anew on what it has kept. */
const restartChance = 0.3;
/** One in so many messages waits in the outbox for its turn, the others go at once beside each other [ENV7]. */
const outboxChance = 0.5;
const recentMax = 12;

export class Device {
  readonly userId: string;
  readonly deviceId: string;
  readonly conversationIds: string[];
  state: DeviceState = "new";
  /** The newest event of each conversation, to mark. */
  readonly newest = new Map<string, { seq: number; id: string }>();
  /** The last messages of each conversation, its own ones too, to change. */
  readonly recent = new Map<string, { messageId: string; senderId: string }[]>();
  /** How many events of the next replay it hears before it drops the line; null: it stays. */
  dropsReplayAfter: number | null = null;
  /** Sent without the outbox and not acknowledged, by `client_message_id`, in the order of sending. */
  readonly #unanswered = new Map<string, Message>();
  readonly #history: DeviceHistory;
  readonly #told: ToldRecord;
  readonly #store = new PlaceStore();
  readonly #watchers = new Set<() => void>();
  #connection: Connection;
  #socket: RecordedSocket | null = null;
  #hasAcked = false;
  /** Counts the programs that have ended: whatever one of them was about to do it does not do any more. */
  #ended = 0;

  constructor(private readonly options: DeviceOptions) {
    this.userId = options.userId;
    this.deviceId = options.deviceId;
    this.conversationIds = options.conversationIds;
    this.#history = options.recorder.addDevice(options);
    this.#told = new ToldRecord(this.#history);
    this.#connection = this.#open();
  }

  connect(): void {
    this.state = "connecting";
    this.#connection.start();
  }

  /** Sends a request. Resolves with its reply, be it an error; null where it is not connected, or will never be known. */
  async request(type: string, payload: object): Promise<Received | null> {
    if (this.state !== "live") return null;
    try {
      const answer: any = await this.#connection.request(type as RequestType, payload as never);
      this.#told.noteSent(answer);
      return { type: replyTypeOf(type), payload: answer } as Received;
    } catch (error) {
      if (!(error instanceof ServerError)) return null;
      const { code, message, retryable, retryAfterMs: retry_after_ms } = error;
      return { type: "error", payload: { code, message, retryable, retry_after_ms } } as Received;
    }
  }

  /** Sends a message, now or when it is back, until it is acknowledged. */
  sendMessage(message: Message): void {
    if (this.options.random.chance(outboxChance)) {
      void this.#connection.outbox.add("message.send", message);
      return;
    }
    this.#unanswered.set(message.client_message_id, message);
    if (this.state === "live") void this.#deliver(message);
  }

  /** Whether everything that was to be sent is acknowledged. */
  get hasSentAll(): boolean {
    return this.#unanswered.size === 0 && this.#connection.outbox.entries.length === 0;
  }

  get cursor(): string | null {
    return this.#connection.cursor;
  }

  /** Lists what its client has told of the log so far. */
  get told(): readonly Told[] {
    return this.#history.told ?? [];
  }

  /** Tells the server how far it has got, where there is something to tell [LOG6]. */
  async acknowledge(): Promise<void> {
    const { cursor } = this;
    if (cursor === null || this.state !== "live") return;
    const position = positionOf(cursor);
    this.#told.noteAsked(position);
    if ((await this.request("ack", { cursor }))?.type !== "ack") return;
    this.#told.noteAcknowledged(position);
    this.#hasAcked = true;
  }

  async ping(): Promise<void> {
    await this.request("ping", {});
  }

  /** Leaves without a word and comes back; at times as a program that has died, and knows what it has kept. */
  drop(): void {
    const socket = this.#socket;
    const dies = this.options.random.chance(restartChance);
    if (socket !== null && dies && this.#store.hasPlace) this.#restart({ hasDied: true });
    socket?.drop();
  }

  /** Says goodbye and comes back; at times as a program that was ended, and starts again. */
  leave(): void {
    if (this.state !== "live") return;
    this.state = "away";
    const restarts = this.options.random.chance(restartChance);
    const ended = this.#ended;
    // It may die while it says goodbye.
    const isThere = () => ended === this.#ended;
    void this.#connection.stop().then(() => {
      if (!isThere()) return;
      if (restarts) this.#restart({ hasDied: false });
      else setTimeout(() => isThere() && this.state === "away" && this.connect(), this.#pauseMs());
    });
  }

  /** Says goodbye and stays away. */
  signOff(): void {
    this.state = "gone";
    void this.#connection.stop();
  }

  /** Says goodbye and stays away until it is woken. */
  sleep(): void {
    if (this.state !== "live") return;
    this.state = "asleep";
    void this.#connection.stop();
  }

  wake(): void {
    if (this.state === "asleep") this.connect();
  }

  pause(): void {
    this.#socket?.pause();
  }

  resumeReading(): void {
    this.#socket?.resume();
  }

  /** Resolves once the condition holds, false where it did not within the time. Looks whenever something came. */
  until(condition: () => boolean, patienceMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const end = (held: boolean) => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        resolve(held);
      };
      const look = () => void (condition() && end(true));
      const timer = setTimeout(() => end(false), patienceMs);
      this.#watchers.add(look);
      look();
    });
  }

  /** Names everything that it follows. */
  get subscription() {
    const { backend } = this.options;
    if (backend !== undefined) return { topics: backend.topics, filters: undefined };
    return {
      topics: ["conversation", "typing", "presence"],
      filters: { conversation_ids: this.conversationIds },
    };
  }

  get isConnected(): boolean {
    return this.#socket !== null;
  }

  #open(): Connection {
    const { urls, recorder, random, userId, deviceId, backend } = this.options;
    const base = new URL(urls[0]!);
    if (backend !== undefined) base.searchParams.set("roles", "service,admin");
    const open = (url: string) => this.#openSocket(url);
    let isFromAcked = false;
    const connection: Connection = new Connection({
      ...{ url: base.href, userId, deviceId, store: this.#store },
      webSocket: class {
        constructor(url: string) {
          // biome-ignore lint/correctness/noConstructorReturn: the client makes a socket of its own by the class that it is given.
          return open(url);
        }
      } as unknown as new (
        url: string,
      ) => RecordedSocket,
      random: () => random.next() * pausePart,
      resumesFrom: () => {
        // It keeps what it was sent: where the log may have gone back, what the server remembers has gone back with it [LOG4].
        const mayAsk = this.#hasAcked && recorder.history.logLosses.length === 0;
        const isAcked = backend !== undefined || (mayAsk && random.chance(ackedResumeChance));
        if (isAcked) this.#told.beginAnew();
        else if (isFromAcked) this.#told.goOn();
        isFromAcked ||= isAcked;
        return isAcked ? "acked" : "place";
      },
    });
    const isMine = () => connection === this.#connection;
    connection.keep(this.#told);
    connection.onNews((news) => isMine() && this.#take(news));
    connection.onState((state) => {
      // All of it is back: there is a place to go on from.
      if (state.status === "live") isFromAcked = false;
      if (isMine()) this.#noteState(state);
    });
    connection.outbox.onChange(() => isMine() && this.#notify());
    connection.follow(this.subscription.topics, this.subscription.filters);
    return connection;
  }

  /** Of one service: any node will do. */
  #openSocket(url: string): RecordedSocket {
    const { urls, recorder, random } = this.options;
    const target = new URL(random.pick(urls));
    target.search = new URL(url).search;
    const socket: RecordedSocket = new RecordedSocket(target, {
      recorder,
      device: this.#history,
      onMessage: (message) => this.#hear(message),
      onClose: () => {
        if (this.#socket === socket) this.#socket = null;
        this.#notify();
      },
    });
    this.#socket = socket;
    return socket;
  }

  /** The program is gone with all that it had not kept, and starts again. */
  #restart({ hasDied }: { hasDied: boolean }): void {
    const isGone = () => this.state === "gone" || this.state === "asleep";
    this.state = "away";
    this.#ended++;
    if (hasDied) this.#connection.leave();
    setTimeout(async () => {
      if (hasDied) await this.#told.goBack(this.#store);
      this.#connection = this.#open();
      if (isGone()) return;
      this.connect();
    }, this.#pauseMs());
  }

  #pauseMs(): number {
    return this.options.random.between(backMs.least, backMs.most);
  }

  #noteState({ status }: ConnectionState): void {
    const isAway = this.state === "asleep" || this.state === "gone" || this.state === "away";
    switch (status) {
      case "connecting":
        this.state = "connecting";
        break;
      case "live":
        this.state = "live";
        this.dropsReplayAfter = null;
        this.options.recorder.noteLive(this.#socket!.history);
        for (const message of this.#unanswered.values()) void this.#deliver(message);
        break;
      case "waiting":
        this.state = "away";
        break;
      case "stopped":
        // 4000–4099: do not come back as you are [ENV5].
        if (!isAway) this.state = "gone";
        break;
    }
    this.#notify();
  }

  #hear({ reply_to, seq }: Received): void {
    if (reply_to === undefined && seq !== undefined && this.dropsReplayAfter !== null && this.state === "connecting") {
      this.dropsReplayAfter -= 1;
      if (this.dropsReplayAfter > 0) return;
      this.dropsReplayAfter = null;
      const socket = this.#socket;
      queueMicrotask(() => socket?.drop());
    }
  }

  #take(news: News): void {
    this.#told.note(news);
    if (news.kind === "gap") {
      this.newest.clear();
      this.recent.clear();
    }
    if (news.kind === "sent" && news.entry.type === "message.send")
      this.#remember(news.entry.payload.conversation_id, { messageId: news.ack.message_id!, senderId: this.userId });
    if (news.kind === "event") {
      const message = news.event as Received;
      const { type, topic, seq, payload } = message;
      if (seq !== undefined && type === "message.new") {
        const conversationId = topic!.slice(topic!.indexOf(":") + 1);
        this.newest.set(conversationId, { seq, id: message.id });
        this.#remember(conversationId, { messageId: payload.message_id, senderId: payload.sender_id });
      }
      this.options.onEvent?.(this, message);
    }
    this.#notify();
  }

  #remember(conversationId: string, message: { messageId: string; senderId: string }): void {
    const others = (this.recent.get(conversationId) ?? []).filter(({ messageId }) => messageId !== message.messageId);
    this.recent.set(conversationId, [...others, message].slice(-recentMax));
  }

  async #deliver(message: Message): Promise<void> {
    const reply = await this.request("message.send", message);
    if (reply === null) return;
    if (reply.type === "ack")
      this.#remember(message.conversation_id, { messageId: reply.payload.message_id, senderId: this.userId });
    if (reply.type !== "error" || !reply.payload.retryable) this.#unanswered.delete(message.client_message_id);
    else setTimeout(() => this.#retry(message), reply.payload.retry_after_ms ?? retryMs);
    this.#notify();
  }

  #retry(message: Message): void {
    if (this.state === "live" && this.#unanswered.has(message.client_message_id)) void this.#deliver(message);
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

const replyTypes: Record<string, string> = {
  ping: "pong",
  subscribe: "subscribed",
  unsubscribe: "unsubscribed",
  "presence.query": "presence.update",
};
const ofTheirOwn = new Set(["history", "members"]);
const replyTypeOf = (type: string) => replyTypes[type] ?? (ofTheirOwn.has(type) ? type : "ack");
