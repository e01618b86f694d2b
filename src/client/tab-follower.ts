/** Speaks with the tab that leads, and notices where that one does not answer. */
import type { Clock, Unlisten } from "./core.ts";
import type { TabListener, TabRole } from "./tab-lead.ts";
import type { Ask, FromLead, TabFollow, ToLead } from "./tab-line.ts";

const probeEveryMs = 2_000;
/** A tab that is busy is not deaf, and one that the browser has frozen never answers. */
const answerWaitMs = 5_000;

export interface TabFollowerOptions {
  tab: string;
  clock: Clock;
  post(message: ToLead): void;
  /** It has not been heard for long enough. */
  onDeaf(): void;
  listener: TabListener;
}

export class TabFollower implements TabRole {
  readonly isLead = false;
  readonly #options: TabFollowerOptions;
  #heardAt: number;
  #lookedAt: number;
  #callOff: Unlisten = () => {};

  constructor(options: TabFollowerOptions) {
    this.#options = options;
    this.#heardAt = this.#lookedAt = options.clock.now();
    this.#look();
  }

  noteHeard(): void {
    this.#heardAt = this.#options.clock.now();
  }

  /** Takes what is meant for this tab, but for news, which are counted before. */
  take(message: FromLead): void {
    const { listener } = this.#options;
    this.noteHeard();
    if (message.kind === "shown") listener.onShown(message.shown);
    else if (message.kind === "answer") listener.onAnswer(message.id, message.answer);
    else if (message.kind === "followed") listener.onFollowed(message.id, message.answer);
  }

  ask(id: string, ask: Ask): void {
    this.#options.post({ kind: "ask", from: this.#options.tab, id, ask });
  }

  follow({ id, scope }: TabFollow): void {
    this.#options.post({ kind: "follow", from: this.#options.tab, id, scope });
  }

  unfollow(id: string): void {
    this.#options.post({ kind: "unfollow", from: this.#options.tab, id });
  }

  probe(happening: "wake" | "online" | null): void {
    this.#options.post({ kind: "probe", from: this.#options.tab, happening });
  }

  end(): void {
    this.#callOff();
  }

  #look(): void {
    const { clock, onDeaf } = this.#options;
    const now = clock.now();
    // Asleep itself, or seen by nobody, it has not listened.
    if (now - this.#lookedAt > 2 * probeEveryMs || !isVisible()) this.#heardAt = now;
    this.#lookedAt = now;
    if (now - this.#heardAt >= answerWaitMs) return onDeaf();
    if (isVisible()) this.probe(null);
    this.#callOff = clock.after(probeEveryMs, () => this.#look());
  }
}

/** Looked at: in a tab that nobody sees nobody misses anything. */
const isVisible = () => typeof document === "undefined" || document.visibilityState === "visible";
