/** Proves that the stats of nodes become those of the cluster: sums, but for what all of them say of the whole, and for the farthest behind [ADM1]. */
import { expect, test } from "bun:test";
import { joinStats } from "../../src/handlers/admin-stats.ts";
import type { AnyStats } from "../../src/telemetry/stats.ts";

test("[ADM1] what each node has is added up, what is of the whole cluster is not, and of what is behind the farthest counts", () => {
  const node = (connections: number, behind: number): AnyStats => ({
    hub: { connections, users: connections },
    subscriptions: { feeds: 1, feed_behind: behind },
    presence: { users: 7, leaving: 1 },
    log: { position: 40, waiting: 2 },
  });
  const own = node(3, 5);
  // Redis is away for one of them.
  const { presence: _, ...other } = node(4, 20);
  expect(joinStats(own, [own, other, node(5, 0)])).toEqual({
    hub: { connections: 12 },
    subscriptions: { feeds: 3, feed_behind: 20 },
    presence: { users: 7, leaving: 2 },
    log: { position: 40, waiting: 6 },
  });
});
