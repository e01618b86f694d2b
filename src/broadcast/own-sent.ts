/** Remembers what backends were sent of their own topics, which the feed of the whole log has in it as well [LOG3] [BAK2]. */

import { ownerOf } from "../protocol/topic.ts";
import type { Epochs } from "../storage/epochs.ts";
import type { Recipient } from "./ports.ts";

/** Everything of a topic above one `seq` and up to another. */
interface Stretch {
  after: number;
  /** Infinite while the connection is on the topic. */
  through: number;
}

/** Per topic what was sent, oldest first. */
export type Sent = ReadonlyMap<string, readonly Stretch[]>;

/** Of one topic; beyond it the oldest are forgotten: that comes twice then, and nothing is missing. */
const stretchesMax = 1_000;

interface Heads {
  headOf(topic: string): number | undefined;
}

type Backend = Pick<Recipient, "userId"> & { readonly roles: readonly string[] };

export class OwnSent {
  #byConnection = new WeakMap<object, Map<string, Stretch[]>>();

  constructor(epochs: Epochs) {
    // In a log that has gone back the numbers are given out once more.
    epochs.watch(({ isBroken }) => {
      if (isBroken) this.#byConnection = new WeakMap();
    });
  }

  /** The connection is live on the topic from this turn on, and has been sent what is above the `seq`. Of others than backends nothing is kept. */
  begin(subscriber: Backend, topic: string, after: number): void {
    if (!subscriber.roles.includes("service") || ownerOf(topic) !== subscriber.userId) return;
    const topics = this.#byConnection.get(subscriber) ?? new Map<string, Stretch[]>();
    this.#byConnection.set(subscriber, topics);
    topics.set(
      topic,
      [...(topics.get(topic) ?? []), { after, through: Number.POSITIVE_INFINITY }].slice(-stretchesMax),
    );
  }

  /** One event of the topic passes it by. */
  leaveOut(recipient: Recipient, topic: string, seq: number): void {
    const topics = this.#byConnection.get(recipient);
    const last = topics?.get(topic)?.at(-1);
    if (last === undefined || seq > last.through) return;
    if (last.after >= seq - 1) {
      last.after = Math.max(last.after, seq);
      return;
    }
    last.through = seq - 1;
    const next = { after: seq, through: Number.POSITIVE_INFINITY };
    topics!.set(topic, [...topics!.get(topic)!, next].slice(-stretchesMax));
  }

  /** It leaves topics in this turn, and has been sent what this node has published of them. */
  end(subscriber: object, topics: { name: string }[], heads: Heads): void {
    const sent = this.#byConnection.get(subscriber);
    if (sent === undefined) return;
    for (const { name } of topics) {
      const last = sent.get(name)?.at(-1);
      if (last !== undefined) last.through = Math.min(last.through, heads.headOf(name) ?? 0);
    }
  }

  /** Takes what there is of it, which is not kept any longer. */
  take(subscriber: object): Sent {
    const sent = new Map<string, Stretch[]>();
    for (const [topic, stretches] of this.#byConnection.get(subscriber) ?? []) {
      const some = stretches.filter(({ after, through }) => after < through);
      if (some.length > 0) sent.set(topic, some);
    }
    this.#byConnection.delete(subscriber);
    return sent;
  }
}

export const wasSent = (sent: Sent, { topic, seq }: { topic: string; seq: number }): boolean =>
  sent.get(topic)?.some(({ after, through }) => after < seq && seq <= through) ?? false;
