/** Shows the list of conversations, the one with the newest message first [REC3]. */
import type { Core, Unlisten } from "../core.ts";
import { LiveValue } from "../ground/live.ts";
import type { Receipt } from "./fold.ts";
import type { Message } from "./message.ts";
import { readOf } from "./overlay.ts";
import type { ConversationState } from "./state.ts";

/** A conversation as a list shows it. Never changed in place: the same object until something of it has changed. */
export interface ConversationSummary {
  readonly id: string;
  /** The newest, also one that waits to be sent; null where there is none. */
  readonly lastMessage: Message | null;
  /** Messages of others that are not read. */
  readonly unread: number;
  /** How far this user has read, and has come. */
  readonly readSeq: number;
  readonly deliveredSeq: number;
  readonly mayWrite: boolean;
  /** The others who type now. */
  readonly typing: readonly string[];
  /** How far the others have come. */
  readonly receipts: readonly Receipt[];
}

/** All of this user's conversations. */
export interface ConversationListView {
  /** `loading`: nothing is here yet. `kept`: what the device has kept, or how it was when it was last heard. `live`: as it is. */
  readonly status: "loading" | "kept" | "live";
  /** The one with the newest message first. */
  readonly items: readonly ConversationSummary[];
}

interface Row {
  state: ConversationState;
  summary: ConversationSummary;
  /** When its newest message was made; what is sorted by. */
  at: string;
}

export class ConversationList extends LiveValue<ConversationListView> {
  /** Set once all that is kept on the device has been read. */
  isLoaded = false;
  /** All of them have been told of. */
  isWhole = false;
  readonly #core: Core;
  readonly #watched: (isWatched: boolean) => void;
  readonly #rows = new Map<ConversationState, Row>();
  #sorted: Row[] = [];
  readonly #changed = new Set<ConversationState>();
  #stops: Unlisten[] = [];

  constructor({ core, watched }: { core: Core; watched: (isWatched: boolean) => void }) {
    super();
    this.#core = core;
    this.#watched = watched;
  }

  get isFollowed(): boolean {
    return this.#stops.length > 0;
  }

  follow(stop: Unlisten): void {
    this.#stops.push(stop);
  }

  leave(): void {
    for (const stop of this.#stops.splice(0)) stop();
    this.isWhole = false;
  }

  tell(): void {
    this.changed();
  }

  /** A conversation is not as it was. */
  put(state: ConversationState): void {
    this.#changed.add(state);
    this.changed();
  }

  drop(state: ConversationState): void {
    this.#changed.delete(state);
    this.#remove(state);
    this.#rows.delete(state);
    this.changed();
  }

  protected make(): ConversationListView {
    this.#sort();
    const isLive = this.isWhole && this.#core.state.status === "live";
    const isHere = this.isWhole || (this.isLoaded && this.#sorted.length > 0);
    const items = this.#sorted.map(({ summary }) => summary);
    return { status: isLive ? "live" : isHere ? "kept" : "loading", items };
  }

  protected override watched(isWatched: boolean): void {
    this.#watched(isWatched);
  }

  /** Puts those that have changed into their places; where many have, all are sorted anew. */
  #sort(): void {
    const changed = [...this.#changed];
    this.#changed.clear();
    const isMany = changed.length > this.#sorted.length / 8;
    if (isMany) {
      const olds = new Set(changed);
      this.#sorted = this.#sorted.filter(({ state }) => !olds.has(state));
    }
    for (const state of changed) {
      if (!isMany) this.#remove(state);
      this.#rows.delete(state);
      if (state.fold.fromSeq === null || state.isRemoved) continue;
      const row = rowOf(state);
      this.#rows.set(state, row);
      if (isMany) this.#sorted.push(row);
      else this.#sorted.splice(placeOf(this.#sorted, row), 0, row);
    }
    if (isMany) this.#sorted.sort(byTime);
  }

  #remove(state: ConversationState): void {
    const row = this.#rows.get(state);
    if (row !== undefined) this.#sorted.splice(placeOf(this.#sorted, row), 1);
  }
}

/** Where a row stands among those that are sorted, or would. */
function placeOf(sorted: readonly Row[], row: Row): number {
  let [from, to] = [0, sorted.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (byTime(sorted[middle]!, row) < 0) from = middle + 1;
    else to = middle;
  }
  return from;
}

const compared = (one: string, other: string) => (one < other ? -1 : one > other ? 1 : 0);
const byTime = (one: Row, other: Row) => compared(other.at, one.at) || compared(one.state.id, other.state.id);

function rowOf(state: ConversationState): Row {
  const { fold, lastMessage, entries } = state;
  const readSeq = Math.max(fold.readSeq, readOf(entries));
  const summary = {
    id: state.id,
    lastMessage,
    unread: fold.guessUnread(readSeq),
    readSeq,
    deliveredSeq: fold.deliveredSeq,
    mayWrite: state.mayWrite,
    typing: state.typing,
    receipts: fold.receipts,
  };
  return { state, summary, at: lastMessage?.createdAt ?? "" };
}
