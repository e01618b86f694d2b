/** Says what of the conversations is kept on the device: the newest, so many, each with its newest messages. */
import type { Kept, Store } from "../core.ts";
import type { ConversationState, KeptConversation } from "./state.ts";

const prefix = "conversation/";
/** Of one conversation, so that a few with large messages do not take it all: characters of JSON. */
const sizeMax = 256 * 1024;

export class KeptConversations implements Kept {
  readonly #store: Store;
  readonly conversationsMax: number;
  readonly messagesMax: number;
  /** By id, of all that are in the store, or will be: when the newest message was made. */
  readonly #kept = new Map<string, string>();
  readonly #changed = new Set<ConversationState>();
  readonly #gone = new Set<string>();

  constructor(store: Store, { conversations, messages }: { conversations: number; messages: number }) {
    this.#store = store;
    this.conversationsMax = conversations;
    this.messagesMax = messages;
  }

  /** Reads them all, by their ids. */
  async load(): Promise<[id: string, kept: KeptConversation][]> {
    const read = await this.#store.read(prefix);
    const all = read.map(([key, value]): [string, KeptConversation] => [
      key.slice(prefix.length),
      value as KeptConversation,
    ]);
    this.#kept.clear();
    for (const [id, kept] of all) this.#kept.set(id, kept.messages?.at(-1)?.createdAt ?? "");
    return all;
  }

  changed(state: ConversationState): void {
    this.#changed.add(state);
  }

  /** Nothing of it is taken any more, so what is kept would go stale unseen. */
  drop({ id }: ConversationState): void {
    if (this.#kept.delete(id)) this.#gone.add(id);
  }

  /** The store is empty. */
  forget(): void {
    this.#kept.clear();
    this.#changed.clear();
    this.#gone.clear();
  }

  takeChanges(): [key: string, value: unknown][] {
    const changes: [key: string, value: unknown][] = [];
    for (const state of this.#changed) this.#take(state, changes);
    this.#changed.clear();
    for (const id of this.#gone) changes.push([prefix + id, undefined]);
    this.#gone.clear();
    return changes;
  }

  #take(state: ConversationState, changes: [key: string, value: unknown][]): void {
    const { id, lastAt: at } = state;
    if (!this.#makeRoom(id, at)) return;
    const kept = state.keep(this.messagesMax);
    if (kept === null) {
      if (this.#kept.delete(id)) this.#gone.add(id);
      return;
    }
    this.#kept.set(id, at);
    this.#gone.delete(id);
    changes.push([prefix + id, bounded(kept)]);
  }

  /** @returns whether it is one of the newest; the oldest of the others goes for it */
  #makeRoom(id: string, at: string): boolean {
    if (this.#kept.has(id) || this.#kept.size < this.conversationsMax) return true;
    const [oldest] = [...this.#kept].sort(([, one], [, other]) => (one < other ? -1 : 1));
    if (oldest === undefined || oldest[1] >= at) return false;
    this.#kept.delete(oldest[0]);
    this.#gone.add(oldest[0]);
    return true;
  }
}

/** Leaves out the oldest messages where it is too large. */
function bounded(kept: KeptConversation): KeptConversation {
  let size = 0;
  const first = kept.messages.findLastIndex((message) => {
    size += JSON.stringify(message).length;
    return size > sizeMax;
  });
  if (first < 0) return kept;
  const messages = kept.messages.slice(first + 1);
  return { ...kept, messages, fromSeq: kept.messages[first]!.seq + 1 };
}
