/** Paces what counts towards one rate of the server: it waits as told, and then goes on with little at once [LIM]. */
import type { Clock, OutboxType } from "../core.ts";
import { leftUntil, momentIn, never, pauseMs } from "../ground/surroundings.ts";

/** Requests at once, where the server takes them all. */
const atOnceMax = 16;
const firstWaitMs = 500;

export type PaceName = "marks" | "events" | "messages";

/** Which of the server's rates a request counts towards. */
export function paceOf(type: OutboxType): PaceName {
  if (type === "event.send") return "events";
  return type === "mark.read" || type === "mark.delivered" ? "marks" : "messages";
}

export class Pace {
  readonly #options: { clock: Clock; random: () => number };
  readonly #onReady: () => void;
  #underWay = 0;
  #atOnce = atOnceMax;
  #refusals = 0;
  #notBefore = never;
  #callOff: (() => void) | null = null;

  /** `onReady` is called when a wait is over. */
  constructor(options: { clock: Clock; random: () => number }, onReady: () => void) {
    this.#options = options;
    this.#onReady = onReady;
  }

  /** There is a line. What the server has told to wait for, it tells each line of a user. */
  resume(): void {
    this.#wait(leftUntil(this.#notBefore, this.#options.clock.now()));
  }

  /** There is none, so nothing is under way. */
  suspend(): void {
    this.#underWay = 0;
    this.#callOff?.();
    this.#callOff = null;
  }

  /** @returns whether one more may go now, which is counted then */
  take(): boolean {
    if (this.#callOff !== null || this.#underWay >= this.#atOnce) return false;
    this.#underWay++;
    return true;
  }

  took(): void {
    this.#underWay--;
    this.#refusals = 0;
    this.#atOnce = Math.min(this.#atOnce + 1, atOnceMax);
  }

  /** Waits: so long where it was told, else longer each time. Several that were under way at once are one refusal. */
  refused(retryAfterMs: number | undefined): void {
    this.#underWay--;
    this.#atOnce = 1;
    if (retryAfterMs !== undefined) {
      this.#notBefore = momentIn(retryAfterMs, this.#options.clock.now());
      this.#wait(retryAfterMs);
    } else if (this.#callOff === null) this.#wait(pauseMs(firstWaitMs, this.#refusals++) * this.#options.random());
  }

  #wait(waitMs: number): void {
    this.#callOff?.();
    this.#callOff = null;
    if (waitMs <= 0) return;
    this.#callOff = this.#options.clock.after(waitMs, () => {
      this.#callOff = null;
      this.#onReady();
    });
  }
}
