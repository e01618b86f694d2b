/** Keeps `connect` connected: one socket at a time, coming back as the close codes say [ENV5]. */
import { CloseCode } from "../protocol/close.ts";
import { isPlainObject } from "../protocol/envelope.ts";
import { subprotocols } from "../protocol/limits.ts";
import type { ConnectSession, Message } from "./connect-session.ts";
import { type RefusedRequest, refusedStatus } from "./refusal.ts";

const backoffLeastMs = 500;
const backoffMostMs = 30_000;
const overloadLeastMs = 5_000;
/** Attempts in a row that lead nowhere before it gives up. */
const attemptsMost = 20;
const closeWaitMs = 2_000;

/**
 * How long to stay away before coming back, in milliseconds; null: not at all as one is.
 * @param end `code` of the close, `attempt` 0 for the first try after a connection that worked, `announcedMs` from `draining`
 */
export function reconnectDelayMs(
  end: { code: number; attempt: number; announcedMs: number | null },
  random: () => number,
): number | null {
  if (end.code === CloseCode.normal || end.attempt >= attemptsMost) return null;
  if (end.code >= 4000 && end.code < 4100) return null;
  // It takes another token, and there is nobody here who has one.
  if (end.code === CloseCode.tokenExpired) return null;
  if (end.announcedMs !== null && end.attempt === 0) return end.announcedMs;
  const most = Math.min(backoffMostMs, backoffLeastMs * 2 ** end.attempt);
  const least = end.code === CloseCode.overloaded || end.code === CloseCode.rateLimited ? overloadLeastMs : 0;
  return least + most / 2 + (random() * most) / 2;
}

export interface LinkEnd {
  /** Ended because it was told to. */
  wanted: boolean;
  why: string;
}

export interface LinkOptions {
  url: URL;
  session: ConnectSession;
  random: () => number;
  /** Calls back after so many milliseconds. @returns cancels it */
  schedule: (delayMs: number, callback: () => void) => () => void;
  /** Why the server refused, as `HTTP 401 …`. */
  askWhyRefused: (status: number, refused: RefusedRequest) => Promise<string>;
  onMessage: (message: Message) => void;
  /** Something about the connection that a person wants to know. */
  onNote: (text: string) => void;
}

export class ConnectLink {
  /** Resolves when there will be no further connection. */
  readonly ended: Promise<LinkEnd>;
  readonly #options: LinkOptions;
  #end!: (end: LinkEnd) => void;
  #socket: WebSocket | null = null;
  #isLive = false;
  #isStopping = false;
  #waiting: (() => void)[] = [];
  #attempt = 0;
  #hasConnected = false;
  #announcedMs: number | null = null;
  #again: Message[] = [];
  #cancelUpkeep = () => {};
  #cancelReconnect = () => {};

  constructor(options: LinkOptions) {
    this.#options = options;
    this.ended = new Promise((end) => {
      this.#end = end;
    });
    this.#open();
  }

  /** Resolves once messages can be sent, subscriptions back included; false when that will never be. */
  async live(): Promise<boolean> {
    if (this.#isLive) return true;
    return Promise.race([
      new Promise<boolean>((done) => this.#waiting.push(() => done(true))),
      this.ended.then(() => false),
    ]);
  }

  send(message: Message): void {
    this.#socket?.send(JSON.stringify(message));
  }

  /** Leaves for good: a close with 1000 tells others at once that the user is gone [PRE1]. A second call does not wait. */
  stop(): void {
    const end = () => this.#end({ wanted: true, why: "" });
    this.#cancelReconnect();
    if (this.#socket === null || this.#isStopping) {
      end();
      return;
    }
    this.#isStopping = true;
    this.#cancelUpkeep();
    // Leaving before the close frame is out would look like a lost connection.
    const cancel = this.#options.schedule(closeWaitMs, end);
    this.#socket.addEventListener("close", () => {
      cancel();
      end();
    });
    this.#socket.close(CloseCode.normal);
  }

  #open(): void {
    const { session } = this.#options;
    const url = new URL(this.#options.url);
    if (session.deviceId !== null) url.searchParams.set("device_id", session.deviceId);
    if (session.cursor !== null) url.searchParams.set("since", session.cursor);
    // In a header, not in the URL: URLs end up in logs.
    const headers: Record<string, string> = session.token === null ? {} : { authorization: `Bearer ${session.token}` };
    const socket = new WebSocket(url.href, { headers, protocols: [subprotocols.json] });
    this.#socket = socket;
    let failure = "";
    socket.addEventListener("error", (event) => {
      failure = (event as ErrorEvent).message ?? "";
    });
    socket.addEventListener("message", ({ data }) => this.#receive(String(data)));
    socket.addEventListener("close", ({ code, reason }) => this.#closed({ code, reason, failure, url, headers }));
  }

  #receive(text: string): void {
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      // Told below, as any other thing that is no message.
    }
    if (!isPlainObject(message)) {
      this.#options.onNote("The server sent something that is not a message.");
      return;
    }
    const payload = isPlainObject(message.payload) ? message.payload : {};
    if (message.type === "draining") this.#announcedMs = Number(payload.reconnect_after_ms);
    const show = this.#options.session.receive(message);
    if (message.type === "connected") this.#connected(Number(payload.ping_interval_ms));
    if (show) this.#options.onMessage(message);
  }

  #connected(pingIntervalMs: number): void {
    this.#hasConnected = true;
    this.#keepUp(pingIntervalMs);
    const requests = this.#options.session.resume(() => {
      this.#attempt = 0;
      this.#announcedMs = null;
      this.#isLive = true;
      for (const request of this.#again.splice(0)) this.send(request);
      for (const done of this.#waiting.splice(0)) done();
    });
    for (const request of requests) this.send(request);
  }

  /** Asks for the cursor from time to time, and notices a server that has fallen silent. */
  #keepUp(intervalMs: number): void {
    if (!(intervalMs > 0)) return;
    this.#cancelUpkeep = this.#options.schedule(intervalMs, () => {
      const ping = this.#options.session.upkeepPing();
      if (ping === null) return this.#socket?.terminate();
      this.send(ping);
      this.#keepUp(intervalMs);
    });
  }

  #closed(close: { code: number; reason: string; failure: string } & RefusedRequest): void {
    const { code, reason, failure } = close;
    this.#cancelUpkeep();
    this.#isLive = false;
    this.#socket = null;
    if (this.#isStopping) return;
    const { session, onNote, random, askWhyRefused, schedule } = this.#options;
    const { again, lost } = session.disconnected();
    this.#again = again;
    for (const { id, type } of lost) onNote(`No answer to ${id} (${type}): it may have happened or not.`);
    const refused = refusedStatus(failure);
    const said = refused === null ? [code, reason || failure].filter(Boolean).join(" ") : `HTTP ${refused}`;
    const attempt = this.#attempt++;
    const isFinal = !this.#hasConnected || (refused !== null && refused >= 400 && refused < 500 && refused !== 429);
    const delayMs = isFinal ? null : reconnectDelayMs({ code, attempt, announcedMs: this.#announcedMs }, random);
    if (delayMs === null) {
      const end = (why: string) => this.#end({ wanted: false, why });
      if (refused === null) end(said);
      else void askWhyRefused(refused, close).then(end);
      return;
    }
    onNote(`Connection closed (${said}); back in ${(delayMs / 1000).toFixed(1)} s.`);
    this.#cancelReconnect = schedule(delayMs, () => this.#open());
  }
}
