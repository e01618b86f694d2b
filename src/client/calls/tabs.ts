/** Knows in which tab of a browser a call lives: the one that has placed or accepted it, also after it was loaded anew [CALL7]. */
import type { Unlisten } from "../core.ts";
import type { CallFacts, CallMark } from "./call.ts";

export type CallTabMessage =
  /** It lives in the tab that says so. */
  | { kind: "taken"; callId: string }
  /** A tab that was opened while it rings asks what is to be answered, and is told. */
  | { kind: "wanted"; callId: string }
  | { kind: "rings"; facts: CallFacts };

/** A page that is loaded anew gives its locks back before the next one asks. */
const claimWithinMs = 3_000;
/** And it is there again by then. */
const backWithinMs = 10_000;

export class CallTabs {
  readonly #scope: () => string;
  readonly #locks =
    typeof document === "undefined" || !("BroadcastChannel" in globalThis) ? undefined : navigator.locks;
  readonly #channel = this.#locks && new BroadcastChannel("ws-service calls");

  /** @param scope names the device: what else is open of this site may be of another user. */
  constructor(scope: () => string, onMessage: (message: CallTabMessage) => void) {
    this.#scope = scope;
    this.#channel?.addEventListener("message", ({ data }: MessageEvent<CallTabMessage & { scope: string }>) => {
      if (data.scope === this.#scope()) onMessage(data);
    });
  }

  post(message: CallTabMessage): void {
    this.#channel?.postMessage({ ...message, scope: this.#scope() });
  }

  /** Whether there may be other tabs. */
  get isShared(): boolean {
    return this.#locks !== undefined;
  }

  /**
   * Has a call live here, and tells the others.
   * @param isBack it lived in this tab before the page was loaded anew, which may not be gone yet
   * @returns resolves with what lets go of it; null where another tab has it
   */
  async take(callId: string, isBack: boolean): Promise<Unlisten | null> {
    if (this.#locks === undefined) return () => {};
    const name = this.#nameOf(callId);
    const options = isBack ? { signal: AbortSignal.timeout(claimWithinMs) } : { ifAvailable: true };
    return new Promise((resolve) => {
      const hold = (lock: Lock | null) =>
        new Promise<void>((release) => {
          if (lock === null) return release(resolve(null));
          this.post({ kind: "taken", callId });
          resolve(release);
        });
      this.#locks!.request(name, options, hold).catch(() => resolve(null));
    });
  }

  /** Waits until the tab that has it has gone for longer than a page takes to be loaded anew. */
  async left(callId: string, signal: AbortSignal): Promise<void> {
    const name = this.#nameOf(callId);
    for (let isHeld = true; isHeld; ) {
      await this.#locks!.request(name, { signal }, () => {});
      await new Promise((resolve) => setTimeout(resolve, backWithinMs));
      signal.throwIfAborted();
      const { held = [] } = await this.#locks!.query();
      isHeld = held.some((lock) => lock.name === name);
    }
  }

  /** @returns what this tab, and no other, has written down */
  markOf(callId: string): CallMark | null {
    try {
      return JSON.parse(sessionStorage.getItem(this.#nameOf(callId)) ?? "null");
    } catch {
      return null;
    }
  }

  /** Null: it is over. */
  mark(callId: string, mark: CallMark | null): void {
    try {
      if (mark === null) sessionStorage.removeItem(this.#nameOf(callId));
      else sessionStorage.setItem(this.#nameOf(callId), JSON.stringify(mark));
    } catch {
      // Where nothing may be kept, the call does not outlive its page.
    }
  }

  #nameOf = (callId: string) => `ws-service call ${this.#scope()} ${callId}`;
}
