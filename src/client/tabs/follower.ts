/** Speaks with the tab that leads, and notices where none answers. */
import type { Clock, Unlisten } from "../core.ts";
import type { TabListener, TabRole } from "./lead.ts";
import type { Ask, FromLead, TabFollow, ToLead } from "./messages.ts";

const probeEveryMs = 2_000;
/** A tab that is busy is not deaf, and one that the browser has frozen never answers. */
const answerWaitMs = 5_000;

interface Line {
  tab: string;
  post(message: ToLead): void;
}

export class TabFollower implements TabRole {
  readonly #line: Line;
  readonly #listener: TabListener;

  constructor(line: Line, listener: TabListener) {
    this.#line = line;
    this.#listener = listener;
  }

  /** Takes what is meant for this tab, but for news, which are counted before. */
  take(message: FromLead): void {
    if (message.kind === "shown") this.#listener.onShown(message.shown);
    else if (message.kind === "answer") this.#listener.onAnswer(message.id, message.answer);
    else if (message.kind === "followed") this.#listener.onFollowed(message.id, message.answer);
  }

  ask(id: string, ask: Ask): void {
    this.#line.post({ kind: "ask", from: this.#line.tab, id, ask });
  }

  follow({ id, scope }: TabFollow): void {
    this.#line.post({ kind: "follow", from: this.#line.tab, id, scope });
  }

  unfollow(id: string): void {
    this.#line.post({ kind: "unfollow", from: this.#line.tab, id });
  }
}

/** Asks now and then whether there is one that leads, as long as somebody looks at this tab. */
export class LeadWatch {
  readonly #options: Line & { clock: Clock; onDeaf(): void };
  #heardAt = 0;
  #lookedAt = 0;
  #callOff: Unlisten | null = null;

  /** `onDeaf` is called where nothing was heard for long enough; it is not watched any more then. */
  constructor(options: Line & { clock: Clock; onDeaf(): void }) {
    this.#options = options;
  }

  start(): void {
    if (this.#callOff !== null) return;
    this.#heardAt = this.#lookedAt = this.#options.clock.now();
    this.#look();
  }

  stop(): void {
    this.#callOff?.();
    this.#callOff = null;
  }

  noteHeard(): void {
    this.#heardAt = this.#options.clock.now();
  }

  #look(): void {
    const { tab, clock, post, onDeaf } = this.#options;
    const now = clock.now();
    // Asleep itself, or seen by nobody, it has not listened.
    if (now - this.#lookedAt > 2 * probeEveryMs || !isVisible()) this.#heardAt = now;
    this.#lookedAt = now;
    // A clock that was set back must not make it deaf to silence.
    this.#heardAt = Math.min(this.#heardAt, now);
    if (now - this.#heardAt >= answerWaitMs) {
      this.stop();
      return onDeaf();
    }
    if (isVisible()) post({ kind: "probe", from: tab, happening: null });
    this.#callOff = clock.after(probeEveryMs, () => this.#look());
  }
}

/** Looked at: in a tab that nobody sees nobody misses anything. */
const isVisible = () => typeof document === "undefined" || document.visibilityState === "visible";
