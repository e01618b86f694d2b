/** Asks what a list shows of a conversation and nobody here can know: how many are unread, and a last message that was left out [REC3]. */
import type { Clock, Core } from "../core.ts";
import { ServerError } from "../errors.ts";
import type { ConversationState } from "./state.ts";

const atOnceMax = 4;
const againAfterMs = 5_000;

export class Questions {
  readonly #options: { core: Core; clock: Clock; onError(error: unknown): void };
  readonly #open = new Set<ConversationState>();
  readonly #underWay = new Set<ConversationState>();

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
      if (this.#underWay.size >= atOnceMax) return;
      if (this.#underWay.has(state)) continue;
      this.#open.delete(state);
      if (!state.isHeard) continue;
      if (state.fold.unread === null) void this.#await(state, this.#askUnread(state));
      else if (state.fold.lacksLast) void this.#await(state, this.#askLast(state));
    }
  }

  async #await(state: ConversationState, answer: Promise<void>): Promise<void> {
    this.#underWay.add(state);
    try {
      await answer;
      this.#underWay.delete(state);
      state.changed();
    } catch (error) {
      this.#failed(state, error);
    } finally {
      this.#underWay.delete(state);
      this.ask();
    }
  }

  /** By a mark that moves nothing. */
  async #askUnread({ id, fold }: ConversationState): Promise<void> {
    const { question, begun } = fold;
    const ack = await this.#options.core.request("mark.delivered", { conversation_id: id, up_to_seq: 0 });
    if (fold.begun === begun) fold.takeAnswer(ack, question);
  }

  async #askLast({ topic, fold }: ConversationState): Promise<void> {
    const { begun, fromSeq } = fold;
    fold.expect(1);
    try {
      const asked = { topic, before_seq: fromSeq!, limit: 1, types: ["message.new"] };
      const page = await this.#options.core.request("history", asked);
      if (fold.begun === begun) fold.takePage(page, fromSeq);
    } finally {
      fold.expect(-1);
    }
  }

  #failed(state: ConversationState, error: unknown): void {
    const isFinal = error instanceof ServerError && !error.retryable;
    if (isFinal) return this.#options.onError(error);
    const afterMs = error instanceof ServerError ? error.retryAfterMs : undefined;
    this.#options.clock.after(afterMs ?? againAfterMs, () => this.put(state));
  }
}
