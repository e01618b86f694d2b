/** Joins the stats of all nodes to those of the whole cluster [ADM1]. */
import type { AnyStats, NodeStats } from "../telemetry/stats.ts";

type Names = { [Part in keyof NodeStats]?: readonly (keyof NodeStats[Part])[] };

/** Lists what every node says of all nodes together, so that it is not added up. */
const shared: Names = {
  presence: ["users", "devices"],
  calls: ["calls"],
  log: ["events", "topics", "position", "epoch", "losses", "held_ms"],
  erasure: ["running"],
  sequencer: ["position"],
  push: ["on", "behind", "oldest_ms"],
};
/** Of these the most counts: it is of the one that is farthest behind. */
const most: Names = { subscriptions: ["feed_behind"] };
/** Users with devices on several nodes would count more than once; `presence.users` has them right. */
const notAdded: Names = { hub: ["users"] };

const names = (lists: Names, part: string) => (lists as Record<string, readonly string[] | undefined>)[part] ?? [];

/** @param own the stats of the node that answers; what is shared is taken from it */
export function joinStats(own: AnyStats, all: AnyStats[]): AnyStats {
  const joined: AnyStats = {};
  for (const stats of all) {
    for (const [part, counts] of Object.entries(stats)) {
      const sums = (joined[part] ??= {});
      for (const [name, count] of Object.entries(counts)) {
        if (names(notAdded, part).includes(name)) continue;
        if (names(shared, part).includes(name)) sums[name] = own[part]?.[name] ?? count;
        else if (names(most, part).includes(name)) sums[name] = Math.max(sums[name] ?? 0, count);
        else sums[name] = (sums[name] ?? 0) + count;
      }
    }
  }
  return joined;
}
