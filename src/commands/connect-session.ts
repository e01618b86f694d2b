/** Remembers for `connect` what was typed: what it is completed with, what has no answer yet, and whether all of it went well. */
import type { Session } from "../client/connection/session.ts";
import { ClientError } from "../client/errors.ts";
import { isPlainObject } from "../protocol/envelope.ts";

export type Message = Record<string, unknown>;

/** For ever: a script says itself how long it waits. */
const patienceMs = 2 ** 31 - 1;

export class TypedRequests {
  readonly #session: Pick<Session, "ask" | "post">;
  readonly #newId: () => string;
  readonly #onLost: (request: { id: string; type: string }, why: ClientError) => void;
  #count = 0;
  #pending = 0;
  #settled: (() => void)[] = [];
  #hasFailed = false;

  /** @param options `onLost` is told of what has no answer, and why that is so */
  constructor(options: {
    session: Pick<Session, "ask" | "post">;
    newId: () => string;
    onLost: (request: { id: string; type: string }, why: ClientError) => void;
  }) {
    this.#session = options.session;
    this.#newId = options.newId;
    this.#onLost = options.onLost;
  }

  /** Completes a typed message and sends it. */
  send(typed: Message): void {
    const message = this.#complete(typed);
    const { id, type, payload } = message;
    if (typeof id !== "string" || typeof type !== "string") {
      // No answer can name it, or it is no request.
      this.#hasFailed = true;
      return this.#session.post(message);
    }
    this.#pending++;
    const asked = isPlainObject(payload) ? payload : {};
    void this.#session
      .ask(type, asked, { id, message, timeoutMs: patienceMs })
      .catch((error: unknown) => {
        this.#hasFailed = true;
        if (error instanceof ClientError && error.code !== "stopped") this.#onLost({ id, type }, error);
      })
      .finally(() => {
        if (--this.#pending === 0) for (const done of this.#settled.splice(0)) done();
      });
  }

  /** Notes a line that became no request, or an error that answers none. */
  noteFault(): void {
    this.#hasFailed = true;
  }

  /** Whether every line was a request, and every request has an answer that is no error. */
  get hasSucceeded(): boolean {
    return !this.#hasFailed && this.#pending === 0;
  }

  /** Resolves once every request has its answer. */
  settled(): Promise<void> {
    return this.#pending === 0 ? Promise.resolve() : new Promise((done) => this.#settled.push(done));
  }

  #complete({ id = `r${++this.#count}`, ...others }: Message): Message {
    const { type, payload } = others;
    if (type !== "message.send" || !isPlainObject(payload)) return { id, ...others };
    return { id, ...others, payload: { client_message_id: this.#newId(), ...payload } };
  }
}
