/** Matches replies to requests: pipelined, in order, with a time for each, over broken lines where that does no harm [ENV3] [ENV7]. */
import { ordinaryMessageBytes } from "../../protocol/limits.ts";
import type { Clock, RequestOptions } from "../core.ts";
import { ClientError, ServerError } from "../errors.ts";
import type { JsonObject, ServerPayloads } from "../wire.ts";
import type { ServerMessage } from "./line.ts";
import type { Link } from "./link.ts";

export interface AskOptions extends RequestOptions {
  /** Of the wire; made up where it is left out. */
  id?: string;
  /** Sent as it is, in place of what would be made of id, type and payload. */
  message?: JsonObject;
  /** Called with the answer before anything that comes after it is taken; the promise is told a moment later. */
  onReply?: (payload: JsonObject) => void;
  /** False: whoever asks does so again by itself where the line breaks. */
  mayRepeat?: boolean;
}

interface Pending {
  id: string;
  type: string;
  payload: JsonObject;
  text: string;
  isSent: boolean;
  mayRepeat: boolean;
  onReply: ((payload: JsonObject) => void) | undefined;
  resolve(payload: JsonObject): void;
  reject(reason: unknown): void;
}

const timeoutMs = 15_000;
const pendingMost = 1_000;
/** Types that carry what people and applications say, of any size. */
const ofAnySize: ReadonlySet<string> = new Set(["message.send", "message.edit", "publish"]);

export class Requests {
  readonly #clock: Clock;
  readonly #link: Pick<Link, "send">;
  readonly #pending = new Map<string, Pending>();
  #isLive = false;
  #maxMessageSize = Number.POSITIVE_INFINITY;
  #count = 0;

  constructor({ clock, link }: { clock: Clock; link: Pick<Link, "send"> }) {
    this.#clock = clock;
    this.#link = link;
  }

  /** Whether something that was sent has no answer yet. */
  get isWaiting(): boolean {
    return this.#isLive && this.#pending.size > 0;
  }

  /** @returns what it was asked with, while it has no answer */
  find(id: string | undefined): Pending | undefined {
    return this.#pending.get(id!);
  }

  ask(type: string, payload: JsonObject, options: AskOptions = {}): Promise<JsonObject> {
    const { signal, id = `r${++this.#count}`, onReply } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#pending.size >= pendingMost) return Promise.reject(new ClientError("too_many_requests"));
    return new Promise((resolve, reject) => {
      const text = JSON.stringify(options.message ?? { id, type, payload });
      const mayRepeat = options.mayRepeat ?? isRepeatable(type, payload);
      const request: Pending = { id, type, payload, text, isSent: false, mayRepeat, onReply, resolve, reject };
      const abort = () => this.#fail(request, signal!.reason);
      const cancel = this.#clock.after(options.timeoutMs ?? timeoutMs, () =>
        this.#fail(request, new ClientError("timeout")),
      );
      const settled = () => {
        cancel();
        signal?.removeEventListener("abort", abort);
      };
      request.resolve = (payload) => [settled(), resolve(payload)];
      request.reject = (reason) => [settled(), reject(reason)];
      signal?.addEventListener("abort", abort);
      this.#pending.set(id, request);
      if (this.#isLive) this.#sendOut(request);
    });
  }

  /** Settles the one that it answers, if it does. */
  take({ reply_to, type, payload }: ServerMessage): void {
    const request = this.find(reply_to);
    if (request === undefined) return;
    if (type === "error" || type === "auth.failed")
      return this.#fail(request, new ServerError(payload as unknown as ServerPayloads["error"]));
    this.#pending.delete(request.id);
    request.onReply?.(payload);
    request.resolve(payload);
  }

  /** Sends what has waited, in the order in which it was asked. */
  noteLive(maxMessageSize: number): void {
    this.#isLive = true;
    this.#maxMessageSize = maxMessageSize;
    for (const request of [...this.#pending.values()]) this.#sendOut(request);
  }

  /** Lets what may be asked twice wait for the next line; `isTooLarge`: the line broke for the largest of them. */
  noteClosed({ isTooLarge }: { isTooLarge: boolean }): void {
    this.#isLive = false;
    const sent = [...this.#pending.values()].filter(({ isSent }) => isSent);
    const largest = Math.max(...sent.map(({ text }) => text.length));
    for (const request of sent) {
      request.isSent = false;
      if (isTooLarge && request.text.length === largest) this.#fail(request, tooLarge(request));
      else if (!request.mayRepeat) this.#fail(request, new ClientError("connection_lost"));
    }
  }

  /** Nothing comes any more. */
  failAll(error: Error): void {
    for (const request of [...this.#pending.values()]) this.#fail(request, error);
  }

  #sendOut(request: Pending): void {
    const most = ofAnySize.has(request.type) ? this.#maxMessageSize : ordinaryMessageBytes;
    if (bytesOf(request.text) > most) return this.#fail(request, tooLarge(request));
    request.isSent = true;
    this.#link.send(request.text);
  }

  #fail(request: Pending, reason: unknown): void {
    if (this.#pending.get(request.id) === request) this.#pending.delete(request.id);
    request.reject(reason);
  }
}

/** Whether a second sending is harmless [LOG2] [SUB4]. */
export function isRepeatable(type: string, payload: JsonObject): boolean {
  if (type === "publish") return payload.event_key !== undefined;
  if (type === "event.send") return payload.client_event_id !== undefined;
  return !/^(call|admin|typing|authenticate)\b/.test(type);
}

const tooLarge = ({ payload }: Pending) =>
  new ClientError("too_large", { field: ["content", "payload"].find((field) => field in payload) ?? "payload" });

/** In UTF-8; counted only where it may matter. */
const bytesOf = (text: string) =>
  text.length * 3 <= ordinaryMessageBytes ? text.length : new TextEncoder().encode(text).length;
