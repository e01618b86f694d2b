/** Holds one line at a time, and comes back as the close codes say: when, as whom, or not at all [ENV5]. */
import * as CloseCode from "../../protocol/close-codes.ts";
import type { Clock, ConnectionState, StopReason } from "../core.ts";
import { type Happening, leftUntil, momentIn, never, pauseMs, type Surroundings } from "../ground/surroundings.ts";
import { comingBack, type From, type Identity, Line, type LineEnd, type LineListener, type Socket } from "./line.ts";
import type { Tokens } from "./tokens.ts";

export interface LinkListener extends Omit<LineListener, "onEnd"> {
  onState(state: ConnectionState): void;
  /** There is no line any more; what comes next is told by `onState`. */
  onClosed(code: number): void;
  onHappening(happening: Happening): void;
}

export interface LinkOptions {
  /** `wss://chat.example.com/ws` */
  url: string;
  /** Says who this is where the server trusts what it is told [CON2]. */
  userId: string | null;
  /** Null where the user authenticates in another way. */
  tokens: Tokens | null;
  /** Goes on where the server wants a token and there is none; false where left out. */
  mayBeNobody?: boolean;
  /** After 4010: leave it to the other, or come back as another device. */
  whenReplaced: "stop" | "another_device";
  /** Where the user's own topics go on; asked before each connection. */
  since(): From | undefined;
  open(url: string): Socket;
  clock: Clock;
  /** Like Math.random. */
  random: () => number;
  surroundings: Surroundings;
  listener: LinkListener;
}

type WaitReason = Extract<ConnectionState, { status: "waiting" }>["reason"];

const backoffMs = 500;
/** A server that has said that it restarts is back soon: for so long the pauses double no more often than twice, to 2 s. */
const restartMs = 30_000;
const doubledMost = 16;
const doubledMostAtRestart = 2;
/** A connection that lived shorter does not start the backoff anew. */
const settledAfterMs = 5_000;
/** Where the server has too much to do, or this client asked too much. */
const crowdedMs = 5_000;
const wokenAnswerMs = 5_000;
const offlineAnswerMs = 2_000;
/** Tokens in a row that were refused before it gives up. */
const refusalsMost = 3;

const stopReasons: Record<number, StopReason> = {
  [CloseCode.protocolAbuse]: "protocol_abuse",
  [CloseCode.authenticationFailed]: "authentication",
  [CloseCode.identityChange]: "identity_change",
  [CloseCode.unsupportedVersion]: "version",
  [CloseCode.replaced]: "replaced",
  [CloseCode.revoked]: "revoked",
  [CloseCode.tooManyDevices]: "too_many_devices",
};

export class Link {
  /** As which device it comes; null: the server makes one. */
  deviceId: string | null = null;
  readonly #options: LinkOptions;
  #state: ConnectionState = { status: "stopped", reason: "new" };
  #line: Line | null = null;
  /** Counts beginnings and ends: a token that comes for an earlier one comes too late. */
  #turn = 0;
  #attempt = 0;
  #refusals = 0;
  #wasGreeted = false;
  #liveSince: number | null = null;
  /** The server does not want to see this device before. */
  #notBefore = never;
  #isDraining = false;
  #restartsUntil = never;
  #cancelRetry = () => {};
  #unlisten: (() => void) | null = null;

  /** @throws TypeError where the URL is none */
  constructor(options: LinkOptions) {
    this.#options = options;
    this.#url();
  }

  get state(): ConnectionState {
    return this.#state;
  }

  start(): void {
    if (this.#state.status !== "stopped") return;
    this.#attempt = 0;
    this.#refusals = 0;
    this.#unlisten ??= this.#options.surroundings.listen((happening) => this.#noteHappening(happening));
    void this.#connect();
  }

  /** Says goodbye: with 1000 this user goes [PRE1]. @returns resolves once the line is closed */
  stop(reason: StopReason, { code, message }: { code?: number; message?: string } = {}): Promise<void> {
    const line = this.#release(CloseCode.normal);
    this.#enter({ status: "stopped", reason, code, message });
    return line?.close(CloseCode.normal) ?? Promise.resolve();
  }

  /** Ends without saying that the user goes: somebody else goes on as this device. */
  leave(): void {
    void this.#release(comingBack)?.close(comingBack);
    this.#enter({ status: "stopped", reason: "stopped" });
  }

  /** Everything that was there before is back. */
  noteLive(): void {
    if (this.#line === null || this.#state.status !== "connecting") return;
    this.#liveSince = this.#options.clock.now();
    this.#restartsUntil = never;
    this.#enter({ status: "live" });
  }

  send(text: string): void {
    this.#line?.send(text);
  }

  /** Leaves without saying that the user goes, and comes back. */
  reconnect(): void {
    const line = this.#line;
    if (line === null) return;
    void line.close(comingBack);
    this.#noteEnd({ code: comingBack });
  }

  #release(code: number): Line | null {
    this.#turn++;
    this.#cancelRetry();
    this.#unlisten?.();
    this.#unlisten = null;
    const line = this.#line;
    this.#line = null;
    if (line !== null) this.#options.listener.onClosed(code);
    return line;
  }

  #enter(state: ConnectionState): void {
    this.#state = state;
    this.#options.listener.onState(state);
  }

  #url(since?: From): URL {
    const { url, userId } = this.#options;
    const target = new URL(url);
    if (userId !== null) target.searchParams.set("user_id", userId);
    if (this.deviceId !== null) target.searchParams.set("device_id", this.deviceId);
    // A token says it in its own message, with room for what was seen; but it may have come in a header of the application's [CON2].
    if (since !== undefined) target.searchParams.set("since", since === "acked" ? since : since.cursor);
    return target;
  }

  async #connect(): Promise<void> {
    const turn = ++this.#turn;
    const { tokens, listener } = this.#options;
    this.#cancelRetry();
    this.#notBefore = never;
    this.#enter({ status: "connecting" });
    try {
      // Before there is a socket: the server does not wait long for it.
      const token = tokens === null ? null : await tokens.take();
      if (turn === this.#turn) this.#open(token);
    } catch (error) {
      if (turn !== this.#turn) return;
      listener.onError(error);
      this.#wait("no_token");
    }
  }

  #open(token: string | null): void {
    const { listener, ...options } = this.#options;
    this.#liveSince = null;
    this.#wasGreeted = this.#isDraining = false;
    try {
      const since = options.since();
      const line: Line = new Line({
        ...options,
        url: this.#url(since).href,
        token,
        deviceId: this.deviceId,
        since,
        listener: {
          ...listener,
          onIdentified: (identity) => this.#noteIdentity(identity),
          onMessage: (message) => {
            if (message.type === "connected") this.#wasGreeted = true;
            if (message.type === "draining") this.#noteDraining(Number(message.payload.reconnect_after_ms) || 0);
            listener.onMessage(message);
          },
          onEnd: (end) => this.#line === line && this.#noteEnd(end),
        },
      });
      this.#line = line;
    } catch (error) {
      listener.onError(error);
      this.#wait("refused");
    }
  }

  #noteIdentity(identity: Identity): void {
    this.deviceId = identity.deviceId;
    this.#refusals = 0;
    this.#options.listener.onIdentified(identity);
  }

  #noteDraining(afterMs: number): void {
    this.#isDraining = true;
    this.#notBefore = momentIn(afterMs, this.#options.clock.now());
  }

  #noteEnd(end: LineEnd): void {
    const { clock, listener } = this.#options;
    this.#line = null;
    this.#turn++;
    if (this.#liveSince !== null && clock.now() - this.#liveSince >= settledAfterMs) this.#attempt = 0;
    const turn = this.#turn;
    listener.onClosed(end.code);
    // Told of it somebody may have stopped it.
    if (turn === this.#turn) this.#decide(end);
  }

  /** Does what the close code means [ENV5]. */
  #decide({ code, message, isRetryable = false, leastMs = 0 }: LineEnd): void {
    const { tokens, whenReplaced } = this.#options;
    switch (code) {
      case CloseCode.authenticationFailed:
        if (tokens?.drop("refused") && isRetryable && ++this.#refusals < refusalsMost)
          return this.#wait("refused", { code, leastMs });
        break;
      case CloseCode.authenticationTimeout:
        return this.#wait("no_token", { code });
      case CloseCode.tokenExpired:
        if (tokens?.drop("expiring")) return this.#wait("closed", { code });
        return void this.stop("authentication", { code });
      case CloseCode.replaced:
        if (whenReplaced === "stop") break;
        this.deviceId = null;
        return this.#wait("closed", { code });
      case CloseCode.rateLimited:
      case CloseCode.overloaded:
        return this.#wait("closed", { code, leastMs: crowdedMs });
      case comingBack:
        return this.#wait(this.#wasGreeted ? "closed" : "refused", { code, leastMs });
    }
    // A code of that range that is not known yet is of a protocol that is not spoken here.
    if (code >= 4000 && code < 4100) return void this.stop(stopReasons[code] ?? "version", { code, message });
    this.#wait(this.#isDraining ? "draining" : this.#wasGreeted ? "closed" : "refused", { code });
  }

  /** Comes back after a random time that grows with each try that leads nowhere, not before the server wants it. */
  #wait(reason: WaitReason, { code, leastMs = 0 }: { code?: number; leastMs?: number } = {}): void {
    const { clock, random, surroundings } = this.#options;
    const now = clock.now();
    const soonestMs = Math.max(leastMs, leftUntil(this.#notBefore, now));
    this.#notBefore = momentIn(soonestMs, now);
    if (reason === "draining" || code === CloseCode.serviceRestart)
      this.#restartsUntil = momentIn(soonestMs + restartMs, now);
    const isRestarting = leftUntil(this.#restartsUntil, now) > 0;
    const doubled = Math.min(this.#attempt, isRestarting ? doubledMostAtRestart : doubledMost);
    this.#attempt = doubled + 1;
    const retryAt = now + soonestMs + random() * pauseMs(backoffMs, doubled);
    this.#cancelRetry = clock.after(retryAt - now, () => void this.#connect());
    const isOffline = !surroundings.isOnline();
    this.#enter({ status: "waiting", reason: isOffline ? "offline" : reason, code, retryAt });
  }

  #noteHappening(happening: Happening): void {
    const { clock, listener } = this.#options;
    listener.onHappening(happening);
    if (happening === "hide") return;
    if (happening === "offline") return this.#line?.probe(offlineAnswerMs, false);
    this.#line?.probe(wokenAnswerMs);
    // Somebody looks at it, or the network is back: what was waited for has come, unless it is the server that waits.
    if (this.#state.status === "waiting" && leftUntil(this.#notBefore, clock.now()) === 0) void this.#connect();
  }
}
