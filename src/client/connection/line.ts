/** Owns one socket from its first byte to its end: greeting, authentication, refreshed tokens, and silence that is looked into. */
import * as CloseCode from "../../protocol/close-codes.ts";
import type { Clock } from "../core.ts";
import { pauseMs, type Surroundings } from "../ground/surroundings.ts";
import type { ClientPayloads, JsonObject, ServerPayloads } from "../wire.ts";
import type { TokenReason, Tokens } from "./tokens.ts";

/** Says what has happened to a socket: `data` is that of a message, `code` that of a close. */
export interface SocketEvent {
  type: string;
  data?: unknown;
  code?: number;
}

/** Lists what is needed of a WebSocket: a browser's, Bun's, Node's and that of the package `ws` have it. */
export interface Socket {
  addEventListener(type: SocketEvent["type"], listener: (event: SocketEvent) => void): void;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** A message of the server's as the wire has it [ENV2]. */
export interface ServerMessage {
  id: string;
  type: string;
  payload: JsonObject;
  timestamp: string;
  reply_to?: string;
  topic?: string;
  seq?: number;
  position?: number;
}

/** Names the user as the server does. */
export interface Identity {
  userId: string;
  deviceId: string;
  maxMessageSize: number;
}

export type Since = Exclude<ClientPayloads["authenticate"]["since"], "acked" | undefined>;

/** Where to go on: a place, or what this device has acknowledged [LOG6]. */
export type From = Since | "acked";

export interface LineEnd {
  code: number;
  /** For people. */
  message?: string;
  /** Of `auth.failed`: whether another token can do. */
  isRetryable?: boolean;
  /** The server wants to be left alone for so long, ms. */
  leastMs?: number;
}

export interface LineOptions {
  url: string;
  open(url: string): Socket;
  /** Null: nobody authenticates by message here. */
  token: string | null;
  /** Goes on where the server wants a token and there is none: somebody else will say who this is. */
  mayBeNobody?: boolean;
  tokens: Tokens | null;
  deviceId: string | null;
  /** Where the user's own topics go on. */
  since: From | undefined;
  clock: Clock;
  /** Like Math.random. */
  random: () => number;
  surroundings: Surroundings;
  listener: LineListener;
}

export interface LineListener {
  /** The line is somebody's: everything may be asked. */
  onIdentified(identity: Identity): void;
  onMessage(message: ServerMessage): void;
  /** Called once, unless it was closed from here. */
  onEnd(end: LineEnd): void;
  onError(error: unknown): void;
  /** Whether an answer is waited for, whether that may take long, and whether a cursor is wanted. */
  wants(): { answer: boolean; patience: boolean; cursor: boolean };
}

/** Not a code of the server's: says that this device comes back [ENV5]. */
export const comingBack = 4000;
export const wantsToken = "The server wants a token.";
/** From the first byte until the line is somebody's. */
const openingMs = 15_000;
/** How often silence is looked for; a timer that is late by as much has slept. */
const lookEveryMs = 5_000;
const cursorEveryMs = 20_000;
/** Until a line that says nothing is given up; longer while much was asked for. */
const usualAnswerMs = 10_000;
const busyAnswerMs = 30_000;
const closingMs = 2_000;
const refreshAgainMs = 1_000;
const longestWaitMs = 86_400_000;

export class Line {
  readonly #options: LineOptions;
  #socket: Socket | null = null;
  #greeting: ServerPayloads["connected"] | null = null;
  #greetedAt = 0;
  #isIdentified = false;
  #authentication: { id: string; isRefresh: boolean } | null = null;
  #failure: Partial<LineEnd> = {};
  #refreshes = 0;
  #isRefreshing = false;
  #requests = 0;
  #heardAt: number;
  #cursorAt: number;
  #timers = new Set<() => void>();
  /** Ended by the answer to it, or by any sign of life where that does. */
  #probe: { id: string; byAnyWord: boolean; cancel: () => void } | null = null;

  /** @throws what the socket's constructor throws */
  constructor(options: LineOptions) {
    this.#options = options;
    const { clock } = options;
    this.#heardAt = this.#cursorAt = clock.now();
    const socket = options.open(options.url);
    this.#socket = socket;
    const isOpen = () => this.#socket === socket;
    // The close that follows is told of.
    socket.addEventListener("error", () => {});
    socket.addEventListener("close", ({ code = 1006 }) => void (isOpen() && this.#end({ code })));
    socket.addEventListener("message", ({ data }) => void (isOpen() && this.#receive(String(data))));
    this.#after(openingMs, () => !this.#isIdentified && this.#end({ code: comingBack }));
  }

  send(text: string): void {
    this.#socket?.send(text);
  }

  /** Ends it from here. @returns resolves once the other side has heard of it, or does not answer */
  close(code: number): Promise<void> {
    const socket = this.#socket;
    this.#forget();
    if (socket === null) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#options.clock.after(closingMs, resolve);
      socket.addEventListener("close", () => {
        cancel();
        resolve();
      });
      socket.close(code);
    });
  }

  /**
   * Asks whether there is still anybody; gives the line up where nothing is heard within the time.
   * @param byAnyWord false: nothing but the answer counts, for what has just come may be of before, and what else is waited for is no reason to wait
   */
  probe(mostMs: number = usualAnswerMs, byAnyWord = true): void {
    // Answers come in their order: a ping waits for what was asked before it.
    const patienceMs = byAnyWord && this.#options.listener.wants().patience ? busyAnswerMs : mostMs;
    if (this.#greeting === null || this.#socket === null) return;
    this.#probe?.cancel();
    const id = `~${++this.#requests}`;
    this.#probe = { id, byAnyWord, cancel: this.#after(patienceMs, () => this.#end({ code: comingBack })) };
    this.send(JSON.stringify({ id, type: "ping" }));
  }

  #receive(text: string): void {
    const message = readMessage(text);
    if (message === null) return;
    const { clock, listener } = this.#options;
    this.#heardAt = clock.now();
    const { type, payload, reply_to } = message;
    if (this.#probe !== null && (this.#probe.byAnyWord || this.#probe.id === reply_to)) {
      this.#probe.cancel();
      this.#probe = null;
    }
    if (typeof payload.cursor === "string") this.#cursorAt = this.#heardAt;
    listener.onMessage(message);
    if (this.#socket === null) return;
    if (type === "connected") this.#greet(payload as unknown as ServerPayloads["connected"]);
    else if (type === "auth.expiring") this.#refreshSoon();
    else if (reply_to !== undefined && reply_to === this.#authentication?.id) this.#noteAuthentication(message);
  }

  #greet(greeting: ServerPayloads["connected"]): void {
    const { token, deviceId, since, mayBeNobody } = this.#options;
    this.#greeting = greeting;
    this.#greetedAt = this.#heardAt;
    if (greeting.authenticated) return this.#identify(greeting.user_id!, greeting.device_id);
    if (token !== null)
      return this.#authenticate({ token, device_id: deviceId ?? undefined, since: since && ofUser(since) });
    if (mayBeNobody) return this.#identify("", greeting.device_id);
    this.#failure = { isRetryable: false, message: wantsToken };
    this.#end({ code: CloseCode.authenticationFailed });
  }

  #authenticate(payload: ClientPayloads["authenticate"]): void {
    this.#authentication = { id: `~${++this.#requests}`, isRefresh: this.#isIdentified };
    this.send(JSON.stringify({ id: this.#authentication.id, type: "authenticate", payload }));
  }

  #noteAuthentication({ type, payload }: ServerMessage): void {
    const { isRefresh } = this.#authentication!;
    this.#authentication = null;
    if (type === "auth.success") {
      const { user_id, device_id, expires_at } = payload as unknown as ServerPayloads["auth.success"];
      this.#options.tokens?.accept(expires_at === null ? Infinity : Date.parse(expires_at) - this.#serverNow());
      this.#refreshes = 0;
      // Another one is not asked for at once, whatever the server says of this one.
      if (isRefresh) this.#after(refreshAgainMs, () => (this.#isRefreshing = false));
      if (!isRefresh) this.#identify(user_id, device_id);
      return;
    }
    const leastMs = Number(payload.retry_after_ms ?? 0);
    if (isRefresh) return this.#refreshLater(type === "auth.failed" ? "refused" : "expiring", leastMs);
    this.#failure = { isRetryable: payload.retryable === true, message: String(payload.code), leastMs };
    // After `auth.failed` the server closes; what else it may answer leaves the line nobody's.
    if (type !== "auth.failed") this.#end({ code: payload.retryable ? comingBack : CloseCode.authenticationFailed });
  }

  #identify(userId: string, deviceId: string): void {
    this.#isIdentified = true;
    this.#look(this.#options.clock.now());
    this.#options.listener.onIdentified({ userId, deviceId, maxMessageSize: this.#greeting!.max_message_size });
  }

  /** By the server's clock, for a device's own may be wrong. */
  #serverNow(): number {
    return Date.parse(this.#greeting!.server_time) + this.#options.clock.now() - this.#greetedAt;
  }

  #refreshSoon(): void {
    if (this.#isRefreshing) return;
    this.#isRefreshing = true;
    void this.#refresh("expiring");
  }

  async #refresh(why: TokenReason): Promise<void> {
    const { tokens, listener } = this.#options;
    if (tokens === null || !tokens.drop(why)) return;
    try {
      const token = await tokens.take();
      if (this.#socket !== null) this.#authenticate({ token });
    } catch (error) {
      listener.onError(error);
      this.#refreshLater(why, 0);
    }
  }

  #refreshLater(why: TokenReason, leastMs: number): void {
    const { random } = this.#options;
    const most = pauseMs(refreshAgainMs, this.#refreshes++);
    if (this.#socket !== null) this.#after(leastMs + most * (0.5 + random() / 2), () => void this.#refresh(why));
  }

  /** Looks into silence every few seconds; what sleeps wakes up late. */
  #look(dueAt: number): void {
    const { clock, surroundings, listener } = this.#options;
    const now = clock.now();
    const isLate = now - dueAt >= lookEveryMs;
    // A clock that was set back must not make it deaf to silence.
    this.#heardAt = Math.min(this.#heardAt, now);
    this.#cursorAt = Math.min(this.#cursorAt, now);
    const { answer, cursor } = listener.wants();
    const patientMs = answer || !surroundings.isOnline() ? lookEveryMs : this.#greeting!.ping_interval_ms / 2;
    const wantsCursor = cursor && now - this.#cursorAt >= cursorEveryMs;
    if (this.#probe === null && (isLate || wantsCursor || now - this.#heardAt >= patientMs)) this.probe();
    this.#after(lookEveryMs, () => this.#look(now + lookEveryMs));
  }

  #after(delayMs: number, run: () => void): () => void {
    const off = this.#options.clock.after(delayMs, () => {
      this.#timers.delete(cancel);
      run();
    });
    const cancel = () => {
      this.#timers.delete(cancel);
      off();
    };
    this.#timers.add(cancel);
    return cancel;
  }

  #end(end: LineEnd): void {
    const socket = this.#socket;
    if (socket === null) return;
    this.#forget();
    if (end.code === comingBack) socket.close(comingBack);
    else if (end.code === CloseCode.authenticationFailed) socket.close(CloseCode.normal);
    this.#options.listener.onEnd({ ...this.#failure, ...end });
  }

  #forget(): void {
    this.#socket = null;
    for (const cancel of [...this.#timers]) cancel();
  }
}

function readMessage(text: string): ServerMessage | null {
  try {
    const message = JSON.parse(text) as ServerMessage | null;
    if (typeof message?.type !== "string") return null;
    if (typeof message.payload !== "object" || message.payload === null) return { ...message, payload: {} };
    const { retry_after_ms: waitMs } = message.payload;
    // A wait that is none is left out: the pauses of this side grow with each try, and come to an end.
    if (waitMs !== undefined && !(Number(waitMs) > 0 && Number(waitMs) < longestWaitMs))
      delete message.payload.retry_after_ms;
    return message;
  } catch {
    // Nothing is said by what is no message of the protocol's.
    return null;
  }
}

/** Of what was seen the user's own topics: an unauthenticated message is small [ENV6]. */
function ofUser(since: From): From {
  if (since === "acked") return since;
  const { cursor, seen = {} } = since;
  const own = Object.entries(seen).filter(([topic]) => /^(user|notifications):/.test(topic));
  return { cursor, seen: Object.fromEntries(own) };
}
