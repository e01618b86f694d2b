/** Composes what erases users in the background. */
import { Eraser } from "../erasure/eraser.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Calls } from "./calls.ts";
import type { Foundation } from "./foundation.ts";
import type { Messaging } from "./messaging.ts";

export type Erasure = PartsOf<typeof composeErasure>;

export function composeErasure(
  { config, logger, now, newId }: Base,
  { storage, publisher, sequencer, calls }: Foundation & Messaging & Calls,
) {
  // A request that was under way may wait for the storage twice. Presence notes when somebody has gone once the grace is over,
  // and of a node that was killed once that counts as dead.
  const settleMs =
    2 * config.storage.query_timeout +
    config.presence.offline_grace +
    (config.cluster.url === null ? 0 : config.cluster.dead_after);
  const eraser = new Eraser({
    store: storage.erasures,
    directory: storage.directory,
    publisher,
    calls,
    onTakenOut: () => sequencer.forgetPublished(),
    settleMs,
    now,
    newId,
    logger,
  });
  return {
    parts: { eraser },
    async start() {
      eraser.start();
    },
    stop: () => eraser.stop(),
    sweep: () => eraser.wake(),
  } satisfies Area;
}
