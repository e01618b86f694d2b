/** Keeps what this tab has asked and what it follows, whoever leads meanwhile, until it is answered or let go. */
import { entryId, isSignedOut } from "../connection/outbox.ts";
import { isRepeatable } from "../connection/requests.ts";
import type { Clock, Outbox, OutboxEntry, OutboxType, Scope, Subscribed, Unlisten } from "../core.ts";
import { ClientError } from "../errors.ts";
import { newId } from "../ground/ids.ts";
import type { ClientPayloads, JsonObject } from "../wire.ts";
import type { TabRole } from "./lead.ts";
import { type Answer, type Ask, errorOf, type Shown, type TabFollow } from "./messages.ts";

const requestTimeoutMs = 15_000;
const leadLost = "The tab that led has gone; it may have happened or not.";

interface OpenAsk {
  ask: Ask;
  /** One that leads has had it. */
  wasAsked: boolean;
  /** It had no answer yet when it was last looked at. */
  isLate: boolean;
  settle(answer: Answer<unknown>): void;
  fail(reason: unknown): void;
}

interface OpenFollow extends TabFollow {
  /** The one that leads knows of it. */
  isTold: boolean;
  settle(answer: Answer<Subscribed>): void;
}

export class TabAsks {
  readonly #clock: Clock;
  readonly #asks = new Map<string, OpenAsk>();
  readonly #follows = new Map<string, OpenFollow>();
  /** Let go of while nobody led. */
  readonly #letGo = new Set<string>();
  #role: TabRole | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Lists what this tab follows, for one that leads from now on, who knows of it then. */
  tellFollows(): TabFollow[] {
    return [...this.#follows.values()].map((follow) => {
      follow.isTold = true;
      const { id, scope, isAnswered } = follow;
      return { id, scope, isAnswered };
    });
  }

  /** Another one leads, who knows of what was told: asks what has no answer yet again, where that does no harm. Null: nobody does. */
  enter(role: TabRole | null): void {
    this.#role = role;
    if (role !== null) for (const id of this.#letGo) role.unfollow(id);
    this.#letGo.clear();
    for (const follow of this.#follows.values()) {
      if (role === null) follow.isTold = false;
      else this.#tell(follow);
    }
    for (const [id, open] of [...this.#asks]) {
      const { ask, wasAsked, fail } = open;
      if (wasAsked && !mayRepeat(ask)) fail(new ClientError("lead_lost", { message: leadLost }));
      else if (role !== null) this.#send(id, open);
    }
  }

  /** Asks again what waits for long, where that does no harm: the one that leads knows what it has under way, but for what was lost. */
  askAgain(): void {
    for (const [id, open] of [...this.#asks]) {
      if (open.isLate && mayRepeat(open.ask)) this.#send(id, open);
      open.isLate = true;
    }
  }

  ask(ask: Ask, signal?: AbortSignal): Promise<unknown> {
    const id = newId();
    return new Promise((resolve, reject) => {
      const abort = () => open.fail(signal!.reason);
      const callOff =
        ask.do === "request"
          ? this.#clock.after(ask.timeoutMs ?? requestTimeoutMs, () => open.fail(new ClientError("timeout")))
          : () => {};
      const settled = () => {
        this.#asks.delete(id);
        callOff();
        signal?.removeEventListener("abort", abort);
      };
      const open: OpenAsk = {
        ask,
        wasAsked: false,
        isLate: false,
        settle(answer) {
          settled();
          take(answer, resolve, reject);
        },
        fail(reason) {
          settled();
          reject(reason);
        },
      };
      signal?.addEventListener("abort", abort);
      this.#asks.set(id, open);
      if (this.#role !== null) this.#send(id, open);
    });
  }

  follow(scope: Scope): { ready: Promise<Subscribed>; stop: Unlisten } {
    const id = newId();
    const ready = new Promise<Subscribed>((resolve, reject) => {
      const settle = (answer: Answer<Subscribed>) => {
        follow.isAnswered = true;
        take(answer, resolve, reject);
      };
      const follow: OpenFollow = { id, scope, isAnswered: false, isTold: false, settle };
      this.#follows.set(id, follow);
      this.#tell(follow);
    });
    // Handled, for whoever does not wait for it.
    ready.catch(() => {});
    const stop = () => {
      if (!this.#follows.delete(id)) return;
      if (this.#role === null) this.#letGo.add(id);
      else this.#role.unfollow(id);
    };
    return { ready, stop };
  }

  noteAnswer(id: string, answer: Answer<unknown>): void {
    this.#asks.get(id)?.settle(answer);
  }

  noteFollowed(id: string, answer: Answer<Subscribed>): void {
    this.#follows.get(id)?.settle(answer);
  }

  failAll(reason: Error): void {
    for (const { fail } of [...this.#asks.values()]) fail(reason);
  }

  #tell(follow: OpenFollow): void {
    if (this.#role === null || follow.isTold) return;
    follow.isTold = true;
    const { id, scope, isAnswered } = follow;
    this.#role.follow({ id, scope, isAnswered });
  }

  #send(id: string, open: OpenAsk): void {
    open.wasAsked = true;
    try {
      this.#role!.ask(id, open.ask);
    } catch (error) {
      // Not to be copied to another tab, it could not be sent either.
      open.fail(new ClientError("invalid_payload", { message: String(error) }));
    }
  }
}

function take<Value>(answer: Answer<Value>, resolve: (value: Value) => void, reject: (error: Error) => void): void {
  if ("value" in answer) resolve(answer.value);
  else reject(errorOf(answer.failure));
}

const mayRepeat = (ask: Ask) => ask.do !== "request" || isRepeatable(ask.type, ask.payload);

/** The outbox of whoever leads. What is added there is known by its id, so that it may be asked for once more. */
export function outboxOver(
  asks: TabAsks,
  { shown, onChange }: { shown(): Shown; onChange(listener: () => void): Unlisten },
): Outbox {
  return {
    get entries() {
      return shown().entries;
    },
    onChange,
    async add<T extends OutboxType>(type: T, payload: ClientPayloads[T], id?: string) {
      // Asked here as well: one that leads from now on would not know of it.
      if (isSignedOut(shown().state)) throw new ClientError("stopped");
      const ask = { do: "add", type, payload: payload as JsonObject, id: entryId(payload, id) } as const;
      return (await asks.ask(ask)) as OutboxEntry<T>;
    },
    replace: async (id, payload) => (await asks.ask({ do: "replace", id, payload })) as boolean,
    retry: async (id) => void (await asks.ask({ do: "retry", id })),
    discard: async (id) => void (await asks.ask({ do: "discard", id })),
  };
}
