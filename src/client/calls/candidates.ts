/** Sends where this device may be reached: as it is found out, several at once, and no faster than the server takes it [CALL3] [LIM]. */
import type { Clock, Unlisten } from "../core.ts";
import { ServerError } from "../errors.ts";
import type { ClientPayloads, JsonObject } from "../wire.ts";

type Sent = ClientPayloads["call.ice"]["candidates"];

const perMessage = 32;
/** So that those that are found at once go at once. */
const gatherMs = 20;
/** The server takes 300 a minute, of all calls of a device. */
const everyMs = 400;

export class Candidates {
  readonly #clock: Clock;
  readonly #send: (candidates: Sent) => Promise<unknown>;
  #waiting: (JsonObject | null)[] = [];
  #callOff: Unlisten | null = null;

  constructor(options: { clock: Clock; send(candidates: Sent): Promise<unknown> }) {
    this.#clock = options.clock;
    this.#send = options.send;
  }

  /** Null: there are no more. */
  add(candidate: RTCIceCandidate | null): void {
    this.#waiting.push(candidate && (candidate.toJSON() as JsonObject));
    if (this.#callOff === null) this.#wait(gatherMs);
  }

  /** Forgets those of a connection that is no more. */
  clear(): void {
    this.#waiting = [];
    this.#callOff?.();
    this.#callOff = null;
  }

  #wait(waitMs: number): void {
    this.#callOff?.();
    this.#callOff = this.#clock.after(waitMs, () => {
      this.#callOff = null;
      this.#sendSome();
    });
  }

  #sendSome(): void {
    if (this.#waiting.length === 0) return;
    const end = this.#waiting.indexOf(null);
    const some = this.#waiting.splice(0, Math.min(perMessage, end < 0 ? perMessage : Math.max(end, 1)));
    this.#wait(everyMs);
    this.#send(end === 0 ? null : (some as JsonObject[])).catch((error: unknown) => {
      // A broken line has lost nothing that is not found again: the connection is made anew.
      if (!(error instanceof ServerError) || error.retryAfterMs === undefined) return;
      this.#waiting.unshift(...some);
      this.#wait(error.retryAfterMs);
    });
  }
}
