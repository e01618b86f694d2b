/** Gets tokens from the application and keeps the one that is good, so that coming back does not ask for another each time [AUTH3]. */
import type { Clock } from "../core.ts";

/** `connect`: any that is good; `expiring`: one that lasts longer; `refused`: another one. */
export type TokenReason = "connect" | "expiring" | "refused";
export type GetToken = (why: TokenReason) => Promise<string> | string;

/** After it an answer is not waited for any more. */
const patienceMs = 30_000;
/** As early as the server itself asks for another one. */
const earlyMs = 60_000;

export class Tokens {
  readonly #clock: Clock;
  readonly #getToken: GetToken;
  /** The only one that there is; then nothing else is asked for. */
  readonly #fixed: string | null;
  #token: string | null = null;
  #goodUntil = 0;
  #why: TokenReason = "connect";

  /** @param source where they come from, or the only one */
  constructor(source: GetToken | string, clock: Clock) {
    this.#clock = clock;
    this.#fixed = typeof source === "string" ? source : null;
    this.#getToken = typeof source === "string" ? () => source : source;
  }

  /** @throws what the application throws, or an Error where it does not answer, or not with a token */
  async take(): Promise<string> {
    if (this.#token !== null && this.#clock.now() < this.#goodUntil) return this.#token;
    const why = this.#token === null ? this.#why : "expiring";
    const token: unknown = await this.#inTime(Promise.resolve(this.#getToken(why)));
    if (typeof token !== "string" || token === "") throw new TypeError("getToken must give a token as text.");
    this.#token = token;
    this.#goodUntil = 0;
    return token;
  }

  /** @param lifeMs how long it is still good; null: for ever */
  accept(lifeMs: number | null): void {
    this.#why = "connect";
    const earlyBy = lifeMs === null ? 0 : Math.min(earlyMs, lifeMs / 3);
    this.#goodUntil = this.#clock.now() + (lifeMs ?? Number.POSITIVE_INFINITY) - earlyBy;
  }

  /** Has the next one be another. @returns false where there is none */
  drop(why: TokenReason): boolean {
    this.#token = null;
    this.#why = why;
    return this.#fixed === null;
  }

  #inTime(answer: Promise<unknown>): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(patienceMs, () => reject(new Error("getToken does not answer.")));
      void answer.then(resolve, reject).finally(cancel);
    });
  }
}
