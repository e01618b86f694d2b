/** Asks for what an open conversation lacks: its newest page, what it missed, older pages, messages to be read anew, members. */
import type { Clock, Core, Unlisten } from "../core.ts";
import { ServerError } from "../errors.ts";
import type { ServerPayloads } from "../wire.ts";
import type { LoggedEvent } from "./message.ts";
import type { ConversationState } from "./state.ts";

/** Messages in a page. */
const pageSize = 50;
/** Events in a page of what was missed, and pages of it before it is loaded anew instead. */
const missedSize = 200;
const missedPagesMax = 3;
/** Others' clients ask at the same time: each after a moment of its own, ms. */
const anewWithinMs = 2_000;
const againAfterMs = 3_000;
const membersSize = 500;
const membersPagesMax = 20;

export interface FillingOptions {
  state: ConversationState;
  core: Core;
  clock: Clock;
  random: () => number;
  /** Follows it once more, for a new snapshot. */
  followAgain(state: ConversationState): void;
  onChange(): void;
  onError(error: unknown): void;
}

export class Filling {
  readonly #options: FillingOptions;
  /** Of which beginning of the conversation the newest page was asked for: one that is forgotten begins anew. */
  #firstOf: number | null = null;
  #loading: Promise<void> | null = null;
  #isMending = false;
  #anew: Unlisten | null = null;
  #members: Promise<readonly string[]> | null = null;
  #membersSoon: Unlisten | null = null;
  /** Something could not be had, and is asked for again after this. */
  #again: Unlisten | null = null;

  constructor(options: FillingOptions) {
    this.#options = options;
  }

  /** A page is here, or was kept, or there is nothing more. */
  get isFilled(): boolean {
    const { state } = this.#options;
    return this.#firstOf === state.fold.begun || state.wasKept || state.fold.fromSeq === 0;
  }

  get isLoadingOlder(): boolean {
    return this.#loading !== null;
  }

  /** Looks at what is missing, and asks for it where there is a connection. */
  look(): void {
    const { state, core } = this.#options;
    const isResting = this.#again !== null;
    if (core.state.status !== "live" || state.isRemoved || isResting) return;
    if (state.holeAfter !== null) void this.#mend();
    else if (state.isWhole && this.#firstOf !== state.fold.begun) {
      this.#firstOf = state.fold.begun;
      if (state.fold.size < pageSize && state.fold.fromSeq !== 0)
        this.loadOlder().catch((error) => {
          if (this.#failed(error)) this.#firstOf = null;
        });
    }
    if (state.fold.doubtful.length > 0) this.#anew ??= this.#soon(() => this.#readAnew());
    if (state.areMembersOld) this.#membersSoon ??= this.#soon(() => this.#loadMembersAgain());
  }

  /** Called when nobody looks any more. */
  leave(): void {
    for (const callOff of [this.#anew, this.#membersSoon, this.#again]) callOff?.();
    this.#anew = this.#membersSoon = this.#again = null;
  }

  loadOlder(): Promise<void> {
    this.#loading ??= this.#loadOlder().finally(() => {
      this.#loading = null;
      this.#options.onChange();
    });
    this.#options.onChange();
    return this.#loading;
  }

  reload(): void {
    const { state, followAgain } = this.#options;
    state.takeGap();
    followAgain(state);
  }

  loadMembers(): Promise<readonly string[]> {
    this.#members ??= this.#loadMembers().finally(() => {
      this.#members = null;
    });
    return this.#members;
  }

  async #loadOlder(): Promise<void> {
    const { state, core } = this.#options;
    const { fold, topic } = state;
    const before = await this.#known();
    if (before === 0) return;
    fold.expect(1);
    try {
      const asked = { topic, before_seq: before, limit: pageSize, types: ["message.new"] };
      const { begun } = fold;
      const page = await core.request("history", asked);
      // Of one that was forgotten meanwhile the page is of another time, and its own is still to be had.
      if (fold.begun !== begun) return this.#loadOlder();
      fold.takePage(page, before);
      state.changed();
    } finally {
      fold.expect(-1);
    }
  }

  /** Waits until it is known from where on it is whole. */
  #known(): Promise<number> {
    const { state } = this.#options;
    return new Promise((resolve) => {
      const look = () => {
        if (state.isRemoved) resolve(0);
        else if (state.fold.fromSeq !== null) resolve(state.fold.fromSeq);
        else state.onNext(look);
      };
      look();
    });
  }

  /** Asks again, as long as somebody looks: after as long as was told, or some seconds. @returns false where that is in vain */
  #failed(error: unknown): boolean {
    const { state, clock, random, onError } = this.#options;
    onError(error);
    if (error instanceof ServerError && !error.retryable) return false;
    if (!state.isLookedAt) return true;
    const toldMs = error instanceof ServerError ? error.retryAfterMs : undefined;
    this.#again ??= clock.after(toldMs ?? againAfterMs * (0.5 + random()), () => {
      this.#again = null;
      this.look();
    });
    return true;
  }

  async #mend(): Promise<void> {
    const { state, core } = this.#options;
    if (this.#isMending) return;
    this.#isMending = true;
    state.fold.expect(1);
    try {
      for (let pages = 0; state.holeAfter !== null; pages++) {
        if (pages === missedPagesMax) return this.reload();
        const asked = { topic: state.topic, after_seq: state.holeAfter, limit: missedSize };
        const { begun } = state.fold;
        const page = await core.request("history", asked);
        if (state.fold.begun !== begun) return;
        if (state.holeAfter === asked.after_seq) state.fill(page);
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      state.fold.expect(-1);
      this.#isMending = false;
    }
  }

  /** One after the other: a reaction of hundreds is read anew as often as there is time. */
  async #readAnew(): Promise<void> {
    const { state } = this.#options;
    const [id] = state.fold.doubtful;
    const message = id === undefined ? null : state.fold.get(id);
    if (message !== null && state.fold.expectAnew(message.id)) {
      const event = await this.#read(message.id, message.seq);
      state.fold.takeAnew(message.id, event);
    }
    this.#anew = null;
    state.changed();
  }

  async #read(id: string, seq: number): Promise<LoggedEvent | null> {
    const { state, core } = this.#options;
    const asked = { topic: state.topic, after_seq: seq - 1, limit: 1, types: ["message.new"] };
    const page = await core.request("history", asked).catch(() => null);
    return page?.events.find(({ payload }) => payload.message_id === id) ?? null;
  }

  async #loadMembersAgain(): Promise<void> {
    this.#membersSoon = null;
    await this.loadMembers().catch(this.#options.onError);
  }

  async #loadMembers(): Promise<readonly string[]> {
    const { state, core } = this.#options;
    const asked = { conversation_id: state.id, limit: membersSize };
    const all: string[] = [];
    const { membersTold } = state;
    state.areMembersOld = false;
    for (let pages = 0, after: string | null | undefined; after !== null && pages < membersPagesMax; pages++) {
      const page: ServerPayloads["members"] = await core.request("members", { ...asked, after });
      all.push(...page.user_ids);
      after = page.next;
    }
    state.members = new Set(all);
    // One who came or went meanwhile may be on a page or not.
    state.areMembersOld = membersTold !== state.membersTold;
    state.changed();
    return all;
  }

  #soon(run: () => void): Unlisten {
    const { clock, random } = this.#options;
    return clock.after(random() * anewWithinMs, run);
  }
}
