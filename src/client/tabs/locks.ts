/** Knows by the locks of a browser which tabs are there and which one leads, whatever becomes of them. */
import type { Clock, Store } from "../core.ts";

/** Shorter than it takes to find that a tab is frozen. */
const answerLastsMs = 1_000;

/** The locks of a name: one that whoever leads has, and one that each tab has as long as it is there. */
export class TabLocks {
  readonly #name: string;
  readonly #tab: string;

  constructor(name: string, tab: string) {
    this.#name = name;
    this.#tab = tab;
  }

  /** Waits until nobody else leads; `steal`: takes it from one that does not answer. @returns resolves once it is not had any more */
  async lead(run: () => Promise<void>, options: { signal: AbortSignal; steal?: boolean }): Promise<void> {
    const { signal, steal = false } = options;
    await navigator.locks.request(`${this.#name} lead`, steal ? { steal } : { signal }, run);
  }

  /** Says that this tab is there. */
  stay(run: () => Promise<void>): Promise<void> {
    return navigator.locks.request(this.#nameOf(this.#tab), run);
  }

  /** Waits until a tab is not there any more: closed, crashed, or gone by itself. */
  async gone(tab: string, signal: AbortSignal): Promise<void> {
    await navigator.locks.request(this.#nameOf(tab), { signal }, () => {});
  }

  async others(): Promise<string[]> {
    const { held = [] } = await navigator.locks.query();
    const prefix = this.#nameOf("");
    const tabs = held.flatMap(({ name }) => (name?.startsWith(prefix) ? [name.slice(prefix.length)] : []));
    return tabs.filter((tab) => tab !== this.#tab);
  }

  /** Whether this tab is the one that leads; one that was frozen for a while may not know yet that it does not. */
  async isLead(): Promise<boolean> {
    const { held = [] } = await navigator.locks.query();
    const holder = (name: string) => held.find((lock) => lock.name === name)?.clientId;
    const leads = holder(`${this.#name} lead`);
    return leads !== undefined && leads === holder(this.#nameOf(this.#tab));
  }

  #nameOf = (tab: string) => `${this.#name} tab ${tab}`;
}

/** Being among the tabs, from `start` until `stop`. */
export class Membership {
  readonly #over = new AbortController();
  /** Of waiting for the lead. */
  waiting = new AbortController();
  locks: TabLocks | null = null;
  channel: BroadcastChannel | null = null;
  readonly over = new Promise<void>((resolve) => this.#over.signal.addEventListener("abort", () => resolve()));

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** Gives back the locks, the lead first of all. */
  end(): void {
    this.#over.abort();
    this.waiting.abort();
    this.channel?.close();
  }
}

/**
 * Takes nothing from a tab that was frozen while another took the lead: what it would write is of long ago. It is not answered either, so
 * that what was asked of it is asked of the next one.
 */
export const fenced = (store: Store, { locks, clock }: { locks: TabLocks; clock: Clock }): Store => {
  const never = new Promise<never>(() => {});
  const ensureLead = async () => {
    for (;;) {
      const askedAt = clock.now();
      if (!(await locks.isLead())) return never;
      // Frozen while it asked, it has an answer of before.
      if (clock.now() - askedAt < answerLastsMs) return;
    }
  };
  return {
    read: (prefix) => store.read(prefix),
    async write(changes) {
      await ensureLead();
      await store.write(changes);
    },
    async clear() {
      await ensureLead();
      await store.clear();
    },
  };
};
