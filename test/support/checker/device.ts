/** One device as a good client has it: it resumes where it was, retries what was not answered, and comes back with backoff. */
import { CloseCode } from "../../../src/protocol/close.ts";
import type { Received } from "../client.ts";
import type { ConnectionHistory, DeviceHistory, Recorder } from "./history.ts";
import { type Link, openLink } from "./link.ts";
import { isUnrecovered } from "./losses.ts";
import { Place } from "./place.ts";
import type { Random } from "./random.ts";
import { PresentView } from "./views.ts";

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

/** `resuming`: connected, its subscriptions are on their way. `away`: waits before it connects again; `asleep`: until it is woken. */
export type DeviceState = "new" | "connecting" | "resuming" | "live" | "away" | "asleep" | "gone";

const backoffMs = { first: 50, most: 1_000 };
/** One in so many resumes starts from what was acknowledged instead of the cursor. */
const ackedResumeChance = 0.1;
const recentMax = 12;

export class Device {
  readonly userId: string;
  readonly deviceId: string;
  readonly conversationIds: string[];
  readonly place = new Place();
  view = new PresentView();
  state: DeviceState = "new";
  /** The newest event of each conversation, to mark. */
  readonly newest = new Map<string, { seq: number; id: string }>();
  /** The last messages of each conversation, its own ones too, to change. */
  readonly recent = new Map<string, { messageId: string; senderId: string }[]>();
  /** Sent, not acknowledged: by `client_message_id`, in the order of sending. */
  readonly outbox = new Map<string, { conversation_id: string; client_message_id: string; content: string }>();
  /** How many events of the next replay it hears before it drops the line; null: it stays. */
  dropsReplayAfter: number | null = null;
  readonly #history: DeviceHistory;
  readonly #waiting = new Map<string, (reply: Received | null) => void>();
  readonly #watchers = new Set<() => void>();
  #link: Link | null = null;
  #connection: ConnectionHistory | null = null;
  #failures = 0;
  #requests = 0;
  #hasAcked = false;
  #resumesFromAcked = false;
  #leavingByItself = false;

  constructor(private readonly options: DeviceOptions) {
    this.userId = options.userId;
    this.deviceId = options.deviceId;
    this.conversationIds = options.conversationIds;
    this.#history = options.recorder.addDevice(options);
  }

  connect(): void {
    const { urls, recorder, random, userId, deviceId, backend } = this.options;
    this.state = "connecting";
    this.#leavingByItself = false;
    this.view = new PresentView();
    const target = new URL(random.pick(urls));
    target.searchParams.set("user_id", userId);
    target.searchParams.set("device_id", deviceId);
    if (backend !== undefined) target.searchParams.set("roles", "service,admin");
    const { logLosses } = recorder.history;
    // It keeps what it was sent: where the log may have gone back, what the server remembers has gone back with it [LOG4].
    const mayAsk = this.#hasAcked && logLosses.length === 0;
    this.#resumesFromAcked = backend !== undefined || (mayAsk && random.chance(ackedResumeChance));
    const since = this.#resumesFromAcked ? "acked" : this.place.cursor;
    if (since !== null) target.searchParams.set("since", since);
    const connection = recorder.openConnection(this.#history, { url: target.href, since });
    this.#connection = connection;
    this.#link = openLink(target, {
      onOpen: () => void this.#resume(),
      onMessage: (text) => this.#take(JSON.parse(text) as Received),
      onClose: ({ code }) => this.#closed(connection, code),
    });
  }

  /** Sends a request. Resolves with its reply, be it an error; null where the connection closed before. */
  request(type: string, payload: object): Promise<Received | null> {
    if (this.#link === null || (this.state !== "live" && this.state !== "resuming")) return Promise.resolve(null);
    const id = `r${++this.#requests}`;
    this.options.recorder.noteRequest(this.#connection!, { id, type, payload });
    const reply = new Promise<Received | null>((resolve) => this.#waiting.set(id, resolve));
    this.#link.send(JSON.stringify({ id, type, payload }));
    return reply;
  }

  /** Sends a message, now or when it is back, until it is acknowledged. */
  sendMessage(message: { conversation_id: string; client_message_id: string; content: string }): void {
    this.outbox.set(message.client_message_id, message);
    if (this.state === "live") void this.#deliver(message);
  }

  /** Tells the server how far it has got, where there is something to tell [LOG6]. */
  async acknowledge(): Promise<void> {
    const { cursor } = this.place;
    if (cursor === null || this.state !== "live") return;
    if ((await this.request("ack", { cursor }))?.type === "ack") this.#hasAcked = true;
  }

  async ping(): Promise<void> {
    await this.request("ping", {});
  }

  /** Leaves without a word and comes back. */
  drop(): void {
    this.#leavingByItself = true;
    this.#link?.drop();
  }

  /** Says goodbye and comes back. */
  leave(): void {
    this.#leavingByItself = true;
    this.#link?.close(CloseCode.normal);
  }

  /** Says goodbye and stays away. */
  signOff(): void {
    this.state = "gone";
    this.leave();
  }

  /** Says goodbye and stays away until it is woken. */
  sleep(): void {
    if (this.state !== "live") return;
    this.state = "asleep";
    this.leave();
  }

  wake(): void {
    if (this.state !== "asleep") return;
    if (this.isConnected) this.state = "away";
    else this.connect();
  }

  pause(): void {
    this.#link?.pause();
  }

  resumeReading(): void {
    this.#link?.resume();
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
    if (this.options.backend !== undefined) return { topics: this.options.backend.topics };
    return {
      topics: ["conversation", "typing", "presence"],
      filters: { conversation_ids: this.conversationIds },
    };
  }

  get isConnected(): boolean {
    return this.#connection !== null;
  }

  async #resume(): Promise<void> {
    if (this.state !== "connecting") return;
    this.state = "resuming";
    const since = this.#resumesFromAcked ? "acked" : this.place.since();
    const reply = await this.request("subscribe", { ...this.subscription, ...(since === undefined ? {} : { since }) });
    if (reply === null || this.state !== "resuming") return;
    // A refusal to resume is a fault that the judge sees; coming back is all that a client can do about it.
    if (reply.type !== "subscribed") return this.drop();
    this.state = "live";
    this.#failures = 0;
    this.dropsReplayAfter = null;
    if (isUnrecovered(reply)) this.#beginAnew(reply);
    else this.place.noteCursor(reply.payload.cursor);
    for (const message of this.outbox.values()) void this.#deliver(message);
    this.#notify();
  }

  #take(message: Received): void {
    this.options.recorder.noteMessage(this.#connection!, message);
    this.view.note(message);
    const { type, payload, reply_to, topic, seq } = message;
    if (reply_to !== undefined) {
      this.#waiting.get(reply_to)?.(message);
      this.#waiting.delete(reply_to);
      if (type === "pong" && this.state === "live") this.place.noteCursor(payload.cursor);
    } else {
      if (this.state === "live" && isUnrecovered(message)) this.#beginAnew(message);
      if (seq !== undefined && this.place.noteEvent(message) && type === "message.new") {
        const conversationId = topic!.slice(topic!.indexOf(":") + 1);
        this.newest.set(conversationId, { seq, id: message.id });
        this.#remember(conversationId, { messageId: payload.message_id, senderId: payload.sender_id });
      }
      this.options.onEvent?.(this, message);
      if (seq !== undefined && this.state === "resuming" && this.dropsReplayAfter !== null) this.#hearReplay();
    }
    this.#notify();
  }

  /** As a client that was told to load anew. */
  #beginAnew({ payload }: Received): void {
    this.place.beginAnew(payload.cursor);
    this.newest.clear();
    this.recent.clear();
  }

  #remember(conversationId: string, message: { messageId: string; senderId: string }): void {
    const others = (this.recent.get(conversationId) ?? []).filter(({ messageId }) => messageId !== message.messageId);
    this.recent.set(conversationId, [...others, message].slice(-recentMax));
  }

  #hearReplay(): void {
    this.dropsReplayAfter! -= 1;
    if (this.dropsReplayAfter! > 0) return;
    this.dropsReplayAfter = null;
    this.drop();
  }

  async #deliver(message: { client_message_id: string; conversation_id: string; content: string }): Promise<void> {
    const reply = await this.request("message.send", message);
    if (reply === null) return;
    if (reply.type === "ack")
      this.#remember(message.conversation_id, { messageId: reply.payload.message_id, senderId: this.userId });
    if (reply.type !== "error" || !reply.payload.retryable) this.outbox.delete(message.client_message_id);
    else setTimeout(() => this.#retry(message), reply.payload.retry_after_ms ?? backoffMs.most);
    this.#notify();
  }

  #retry(message: { client_message_id: string; conversation_id: string; content: string }): void {
    if (this.state === "live" && this.outbox.has(message.client_message_id)) void this.#deliver(message);
  }

  #closed(connection: ConnectionHistory, code: number): void {
    const { recorder, random } = this.options;
    recorder.noteClosed(connection, { code, byClient: this.#leavingByItself });
    this.#link = null;
    this.#connection = null;
    for (const [id, resolve] of this.#waiting) {
      this.#waiting.delete(id);
      resolve(null);
    }
    // 4000–4099: do not come back as you are [ENV5].
    const isTurnedAway = code >= 4000 && code < 4100;
    if (isTurnedAway) this.state = "gone";
    if (this.state !== "gone" && this.state !== "asleep") {
      this.state = "away";
      const most = Math.min(backoffMs.most, backoffMs.first * 2 ** this.#failures++);
      setTimeout(() => this.state === "away" && this.connect(), most * (0.5 + random.next() / 2));
    }
    this.#notify();
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
