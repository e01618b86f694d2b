/** Keeps the samples of the last hour, and from where on they are to be asked for again. */
import type { ServerPayloads } from "../client/wire.ts";

type Answer = ServerPayloads["admin.samples"];
export type Sample = Answer["samples"][number];

const hourMs = 3_600_000;
/** So many of the newest are asked for again: a node whose clock is behind has taken its own of them later. */
const unsettled = 2;

export class LastHour {
  /** Of all nodes: for what a node has not answered, it may yet. */
  #whole: readonly Sample[] = [];

  /** The moment of the last one that need not be asked for again; undefined: all of them. */
  get after(): string | undefined {
    return this.#whole.at(-1)?.at;
  }

  /** @param answer what has come after `after` @returns the hour, oldest first */
  take({ step_ms, samples, missing_nodes }: Answer): readonly Sample[] {
    const all = [...this.#whole, ...samples].slice(-hourMs / step_ms);
    if (missing_nodes.length === 0) this.#whole = all.slice(0, -unsettled);
    return all;
  }
}
