/** Keeps a user's session over broken lines: requests and their replies, what is followed, and the place in the log. */
import * as CloseCode from "../../protocol/close-codes.ts";
import type { ConnectionState, Had, Reply, RequestType, Scope, StopReason, Subscribed, Unlisten } from "../core.ts";
import { ClientError, ServerError } from "../errors.ts";
import type { Happening } from "../ground/surroundings.ts";
import type { ClientPayloads, JsonObject, ServerPayloads } from "../wire.ts";
import type { From, Identity, ServerMessage } from "./line.ts";
import { Link, type LinkOptions } from "./link.ts";
import { type KeptPlace, Place } from "./place.ts";
import { type AskOptions, Requests } from "./requests.ts";
import { Subscriptions, type SubscriptionsOptions } from "./subscriptions.ts";

export interface SessionOptions
  extends Omit<LinkOptions, "listener" | "since">,
    Pick<SubscriptionsOptions, "ownTopics" | "onNews" | "onError"> {
  onState(state: ConnectionState): void;
  onHappening?(happening: Happening): void;
  /** The cursor is another one. */
  onCursor?(): void;
  /**
   * Asked for each line. `acked`: goes on from what this device has acknowledged, as a program does that keeps nothing itself, and so
   * do the next lines until all of that is back [LOG6].
   */
  resumesFrom?(): "place" | "acked";
  /** @returns false where the connection is not to be used: whoever says so has stopped it, or had it begin anew */
  onIdentified?(identity: Identity): boolean;
  /** Called with each message as it is taken: not with what was had before, nor with answers to what the session asks by itself. */
  onTaken?(message: ServerMessage): void;
}

export class Session {
  readonly #options: SessionOptions;
  readonly #place: Place;
  readonly #link: Link;
  readonly #requests: Requests;
  readonly #subscriptions: Subscriptions;
  #maxMessageSize = 0;
  #from: From | undefined;

  /** @throws TypeError where the URL is none */
  constructor(options: SessionOptions) {
    const { clock } = options;
    const place = new Place(clock.now, () => options.onCursor?.());
    this.#options = options;
    this.#place = place;
    this.#link = new Link({
      ...options,
      since: () => this.#goOnFrom(),
      listener: {
        onState: (state) => this.#noteState(state),
        onIdentified: (identity) => this.#identify(identity),
        onMessage: (message) => this.#take(message),
        onClosed: (code) => this.#noteClosed(code),
        onError: options.onError,
        onHappening: (happening) => options.onHappening?.(happening),
        wants: () => ({
          answer: this.#requests.isWaiting || this.#subscriptions.isWaiting,
          patience: this.#subscriptions.isWaiting,
          cursor: this.#subscriptions.isBack && place.hasMoved,
        }),
      },
    });
    this.#requests = new Requests({ clock, link: this.#link });
    this.#subscriptions = new Subscriptions({
      ...options,
      place,
      link: this.#link,
      onBack: () => this.#goLive(),
    });
  }

  get state(): ConnectionState {
    return this.#link.state;
  }

  get deviceId(): string | null {
    return this.#link.deviceId;
  }

  /** As which device it comes from the next connection on; null: the server makes one. */
  set deviceId(deviceId: string | null) {
    this.#link.deviceId = deviceId;
  }

  /** All of the log up to here, on what is followed, has been told. */
  get cursor(): string | null {
    return this.#place.cursor;
  }

  /** Whether the place is not to be kept: it is none until all is back that comes after what was acknowledged [LOG6]. */
  get isFromAcked(): boolean {
    return this.#place.isFromAcked;
  }

  get place(): KeptPlace {
    return this.#place.toKeep();
  }

  /** Lists what the place speaks for. */
  get covered(): string[] {
    return [...this.#subscriptions.covered];
  }

  /** Goes on from what was kept of an earlier session of the same user. */
  restore(place: KeptPlace, covered: readonly string[]): void {
    this.#place.restore(place);
    this.#subscriptions.covered.clear();
    for (const key of covered) this.#subscriptions.covered.add(key);
  }

  start(): void {
    this.#link.start();
  }

  /** @returns resolves once the line is closed */
  stop(reason: StopReason = "stopped"): Promise<void> {
    return this.#link.stop(reason);
  }

  /** Ends without saying that the user goes: somebody else goes on as this device. */
  leave(): void {
    this.#link.leave();
  }

  /** Has what was restored put right by what was told elsewhere since it was written. */
  catchUp(take: (had: Had) => void): void {
    take({ place: this.#place, covered: this.#subscriptions.covered });
  }

  /** Leaves without saying that the user goes, and comes back. */
  reconnect(): void {
    this.#link.reconnect();
  }

  request<T extends RequestType>(type: T, payload: ClientPayloads[T], options?: AskOptions): Promise<Reply<T>> {
    return this.ask(type, payload as JsonObject, options) as Promise<JsonObject> as Promise<Reply<T>>;
  }

  /** Asks whatever it is. What is subscribed to like this comes back over broken lines, until it is unsubscribed. */
  ask(type: string, payload: JsonObject, options?: AskOptions): Promise<JsonObject> {
    const { state } = this;
    if (state.status === "stopped" && state.reason !== "new") return Promise.reject(new ClientError("stopped"));
    return this.#requests.ask(type, payload, options);
  }

  /** Sends something as it is; whether it is answered is not looked for. */
  post(message: JsonObject): void {
    this.#link.send(JSON.stringify(message));
  }

  follow(scope: Scope): { ready: Promise<Subscribed>; stop: Unlisten } {
    return this.#subscriptions.follow(scope);
  }

  #noteState(state: ConnectionState): void {
    if (state.status === "stopped") this.#requests.failAll(new ClientError("stopped"));
    this.#options.onState(state);
  }

  #identify(identity: Identity): void {
    this.#maxMessageSize = identity.maxMessageSize;
    if (this.#options.onIdentified?.(identity) !== false) this.#subscriptions.resume(this.#from);
  }

  #goOnFrom(): From | undefined {
    // Nothing is known to be had by whoever keeps nothing.
    if (this.#options.resumesFrom?.() === "acked") this.#place.goBackToAcked();
    this.#from = this.#place.since();
    return this.#from;
  }

  #goLive(): void {
    this.#link.noteLive();
    if (this.state.status === "live") this.#requests.noteLive(this.#maxMessageSize);
  }

  #noteClosed(code: number): void {
    this.#subscriptions.noteClosed();
    this.#requests.noteClosed({ isTooLarge: code === CloseCode.tooLarge });
  }

  #take(message: ServerMessage): void {
    const { type, payload, reply_to } = message;
    const isOwn = reply_to?.startsWith("~") === true;
    const typed = this.#requests.find(reply_to)?.payload as Scope | undefined;
    switch (type) {
      case "subscribed":
        this.#subscriptions.takeSubscribed(message, typed);
        break;
      case "unsubscribed":
        if (typed !== undefined) this.#subscriptions.drop(typed);
        if (!isOwn) this.#options.onTaken?.(message);
        this.#subscriptions.takeUnsubscribed(payload as unknown as ServerPayloads["unsubscribed"]);
        break;
      case "connected":
        this.#options.onTaken?.(message);
        break;
      default:
        if (reply_to === undefined && type !== "error") this.#subscriptions.takeEvent(message);
        else this.#takeReply(message, { isOwn });
    }
    this.#requests.take(message);
  }

  #takeReply(message: ServerMessage, { isOwn }: { isOwn: boolean }): void {
    const { type, payload, reply_to } = message;
    if (type === "ack") this.#place.noteSent(payload as ServerPayloads["ack"]);
    if (type === "pong" && this.#subscriptions.isBack && typeof payload.cursor === "string")
      this.#place.moveCursor(payload.cursor);
    const error = type === "error" ? (payload as unknown as ServerPayloads["error"]) : null;
    const isMine = error !== null && reply_to !== undefined && this.#subscriptions.takeError(reply_to, error);
    if (error !== null && reply_to === undefined) this.#options.onError(new ServerError(error));
    if (!isOwn && !isMine) this.#options.onTaken?.(message);
  }
}
