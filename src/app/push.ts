/** Composes what backends are told of: events that found no device, and calls to somebody who has none [BAK3]. */
import { createPush } from "../push/push.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Foundation } from "./foundation.ts";
import type { Messaging } from "./messaging.ts";

export type Pushing = PartsOf<typeof composePush>;

export function composePush(
  { config, logger, now, newId }: Base,
  { storage, cluster, directory, publisher }: Foundation & Messaging,
) {
  const push = createPush({
    settings: config.push,
    store: storage.push,
    log: storage.log,
    presence: cluster.presence,
    nodes: cluster.nodes,
    deadAfterMs: config.cluster.dead_after,
    directory,
    publisher,
    now,
    newId,
    logger,
  });
  // It has ended with the draining.
  return { parts: { push }, start: () => push.start() } satisfies Area;
}
