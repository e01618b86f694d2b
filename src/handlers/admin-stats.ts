/** Joins the figures of all nodes to those of the whole cluster [ADM1]. */
import type { Stats } from "./admin-questions.ts";

/** What every node says of all nodes together, so that it is not added up. */
const shared: Record<string, readonly string[]> = {
  presence: ["users", "devices"],
  calls: ["calls"],
  log: ["events", "topics", "position", "epoch", "losses"],
  sequencer: ["position"],
};
/** Users with devices on several nodes would count more than once; `presence.users` has them right. */
const notAdded: Record<string, readonly string[]> = { hub: ["users"] };

/** @param own the figures of the node that answers; what is shared is taken from it */
export function joinStats(own: Stats, all: Stats[]): Stats {
  const joined: Stats = {};
  for (const figures of all) {
    for (const [part, counts] of Object.entries(figures)) {
      const sums = (joined[part] ??= {});
      for (const [name, count] of Object.entries(counts)) {
        if (notAdded[part]?.includes(name)) continue;
        if (shared[part]?.includes(name)) sums[name] = own[part]?.[name] ?? count;
        else sums[name] = (sums[name] ?? 0) + count;
      }
    }
  }
  return joined;
}
