/** Asks how many messages are unread where nobody here can know it: by a mark that moves nothing [REC3]. */
import type { Clock, Core } from "../core.ts";
import { ServerError } from "../errors.ts";
import type { ConversationState } from "./state.ts";

const atOnceMax = 4;
const againAfterMs = 5_000;

export class UnreadQuestions {
  readonly #options: { core: Core; clock: Clock; onError(error: unknown): void };
  readonly #open = new Set<ConversationState>();
  #underWay = 0;

  constructor(options: { core: Core; clock: Clock; onError(error: unknown): void }) {
    this.#options = options;
  }

  put(state: ConversationState): void {
    this.#open.add(state);
    this.ask();
  }

  drop(state: ConversationState): void {
    this.#open.delete(state);
  }

  /** Asks, a few at a time, where there is a connection. */
  ask(): void {
    if (this.#options.core.state.status !== "live") return;
    for (const state of this.#open) {
      if (this.#underWay >= atOnceMax) return;
      this.#open.delete(state);
      if (state.isHeard && state.fold.unread === null) void this.#askOf(state);
    }
  }

  async #askOf(state: ConversationState): Promise<void> {
    const { question, begun } = state.fold;
    this.#underWay++;
    try {
      const ack = await this.#options.core.request("mark.delivered", { conversation_id: state.id, up_to_seq: 0 });
      if (state.fold.begun === begun) state.fold.takeAnswer(ack, question);
      state.changed();
    } catch (error) {
      this.#failed(state, error);
    } finally {
      this.#underWay--;
      this.ask();
    }
  }

  #failed(state: ConversationState, error: unknown): void {
    const isFinal = error instanceof ServerError && !error.retryable;
    if (isFinal) return this.#options.onError(error);
    const afterMs = error instanceof ServerError ? error.retryAfterMs : undefined;
    this.#options.clock.after(afterMs ?? againAfterMs, () => this.put(state));
  }
}
