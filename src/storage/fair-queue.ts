/** Lets each user have few questions before the storage at once, so that the next one of anybody else stands behind few of each. */
import type { AtOnce } from "../ground/at-once.ts";
import { Unavailable } from "../ground/unavailable.ts";

/** Names a connection that a question is asked for, which may go while it waits. */
export interface Asker {
  readonly userId: string;
  readonly isClosed: boolean;
}

export interface FairQueueOptions {
  /** Questions of one user that are worked on at once, over all its connections. */
  perUser: number;
}

/** The connection went before its turn came: there is nobody to answer, and nothing is wrong with the storage. */
export class AskerGone extends Error {
  constructor() {
    super("The connection has gone.");
    this.name = "AskerGone";
  }
}

/** Of one user: each of its connections has few, so that this is for what joins by itself. */
const waitingMax = 1_024;

interface UserQueue {
  running: number;
  /** Oldest first; each starts one, or lets it go. */
  waiting: (() => void)[];
}

/**
 * Makes a round of the order in which the engines take what they are given: with few of each user among it a user's next
 * question comes in behind one of everybody else who has asked meanwhile. Appends pass by.
 */
export class FairQueue {
  /** Only users with a question. */
  readonly #queues = new Map<string, UserQueue>();

  constructor(private readonly options: FairQueueOptions) {}

  /**
   * Asks once it is the user's turn, mostly now. A question must not wait for the client nor for another question of this queue.
   * @throws AskerGone where the connection has closed by then; Unavailable where too many wait
   */
  ask<Answer>(asker: Asker, question: () => Promise<Answer>): Promise<Answer>;
  ask<Answer>(asker: Asker, question: () => AtOnce<Answer>): AtOnce<Answer>;
  ask<Answer>(asker: Asker, question: () => AtOnce<Answer>): AtOnce<Answer> {
    const queue = this.#queues.get(asker.userId);
    if (queue !== undefined && queue.running >= this.options.perUser) return this.#askLater(asker, queue, question);
    if (asker.isClosed) throw new AskerGone();
    const answer = question();
    // One that is answered by now has kept nobody waiting.
    return answer instanceof Promise ? this.#count(asker.userId, answer) : answer;
  }

  async #askLater<Answer>(asker: Asker, queue: UserQueue, question: () => AtOnce<Answer>): Promise<Answer> {
    await this.#wait(queue);
    try {
      if (asker.isClosed) throw new AskerGone();
      return await question();
    } finally {
      this.#passOn(asker.userId, queue);
    }
  }

  async #count<Answer>(userId: string, answer: Promise<Answer>): Promise<Answer> {
    const queue = this.#queues.get(userId) ?? { running: 0, waiting: [] };
    this.#queues.set(userId, queue);
    queue.running++;
    try {
      return await answer;
    } finally {
      this.#passOn(userId, queue);
    }
  }

  /** Users with a question. */
  get size(): number {
    return this.#queues.size;
  }

  /** Resolves with the turn of one that has ended. */
  #wait(queue: UserQueue): Promise<void> {
    if (queue.waiting.length >= waitingMax) {
      throw new Unavailable("storage", "Too many questions of this user wait.");
    }
    return new Promise((resolve) => queue.waiting.push(resolve));
  }

  #passOn(userId: string, queue: UserQueue): void {
    const next = queue.waiting.shift();
    // Not in this turn of the loop: what others have sent meanwhile comes first.
    if (next !== undefined) setImmediate(next);
    else if (--queue.running === 0) this.#queues.delete(userId);
  }
}
