/** Gets tokens from the application and keeps the one that is good, so that coming back does not ask for another each time [AUTH3]. */
import type { Clock } from "../core.ts";

/** `connect`: any that is good; `expiring`: one that lasts longer; `refused`: another one. */
export type TokenReason = "connect" | "expiring" | "refused";
export type GetToken = (why: TokenReason) => Promise<string> | string;

/** After it an answer is not waited for any more. */
const patienceMs = 30_000;
/** As early as the server itself asks for another one. */
const earlyMs = 60_000;
/** A token that was asked for to know whose it is serves for connecting as well, if that is at once. */
export const tokenServesMs = 10_000;
/** Waits no longer than that for it: without a network there may be none. */
export const tokenWaitMs = 5_000;

export class Tokens {
  readonly #clock: Clock;
  readonly #getToken: GetToken;
  readonly #noteUser: (userId: string) => Promise<void>;
  /** The only one that there is; then nothing else is asked for. */
  readonly #isFixed: boolean;
  #token: string | null = null;
  #ahead: { token: string; until: number } | null = null;
  #goodUntil = 0;
  #why: TokenReason = "connect";

  /** @param source where they come from, or the only one @param noteUser is told whose it is that has come */
  constructor(source: GetToken | string, clock: Clock, noteUser: (userId: string) => Promise<void> = async () => {}) {
    this.#clock = clock;
    this.#noteUser = noteUser;
    this.#isFixed = typeof source === "string";
    this.#getToken = typeof source === "string" ? () => source : source;
  }

  /** @throws what the application throws, or an Error where it does not answer, or not with a token */
  async take(): Promise<string> {
    if (this.#token !== null && this.#clock.now() < this.#goodUntil) return this.#token;
    const ahead = this.#ahead;
    this.#ahead = null;
    const why = this.#token === null ? this.#why : "expiring";
    const isServing = ahead !== null && why === "connect" && this.#clock.now() < ahead.until;
    this.#token = isServing ? ahead.token : await this.#ask(why);
    this.#goodUntil = 0;
    return this.#token;
  }

  /** Takes one before it is needed, to know whose it is. @returns null where none comes soon */
  async takeAhead(): Promise<string | null> {
    const asked = this.#ask("connect").then((token) => {
      this.#ahead = { token, until: this.#clock.now() + tokenServesMs };
      return token;
    });
    return this.#within(tokenWaitMs, asked).catch(() => null);
  }

  /** @param lifeMs how long it is still good; may be infinite */
  accept(lifeMs: number): void {
    this.#why = "connect";
    this.#goodUntil = this.#clock.now() + lifeMs - Math.min(earlyMs, lifeMs / 3);
  }

  /** Has the next one be another. @returns false where there is none */
  drop(why: TokenReason): boolean {
    this.#token = null;
    this.#why = why;
    return !this.#isFixed;
  }

  async #ask(why: TokenReason): Promise<string> {
    const token: unknown = await this.#within(patienceMs, Promise.resolve(this.#getToken(why)));
    if (typeof token !== "string" || token === "") throw new TypeError("getToken must give a token as text.");
    const userId = subjectOf(token);
    if (userId !== null) await this.#noteUser(userId);
    return token;
  }

  #within<Token>(ms: number, answer: Promise<Token>): Promise<Token> {
    return new Promise((resolve, reject) => {
      const cancel = this.#clock.after(ms, () => reject(new Error("getToken does not answer.")));
      void answer.then(resolve, reject).finally(cancel);
    });
  }
}

/** @returns the user whom a JWT names, unverified: the server decides who it is [AUTH2]; null where it does not say */
export function subjectOf(token: string | undefined): string | null {
  try {
    const bytes = atob(token!.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
    return typeof claims.sub === "string" ? claims.sub : null;
  } catch {
    return null;
  }
}
