/** Composes the calls of this node. */
import { createCalls } from "../calls/calls.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Foundation } from "./foundation.ts";
import type { Messaging } from "./messaging.ts";
import type { Presence } from "./presence.ts";
import type { Pushing } from "./push.ts";

export type Calls = PartsOf<typeof composeCalls>;

export function composeCalls({ config, logger, now, newId }: Base, parts: Foundation & Messaging & Presence & Pushing) {
  const { storage, cluster, directory: view, broadcaster, publisher, presence, push } = parts;
  const calls = createCalls({
    cluster,
    settings: config.calls,
    broadcaster,
    publisher,
    presence,
    push,
    wakes: config.push.enabled !== "false",
    view,
    directory: storage.directory,
    now,
    newId,
    logger,
  });
  return {
    parts: { calls },
    start: async () => calls.start(),
    async stop() {
      // Again, for those that were begun while everybody was let go.
      await calls.endAll();
      await calls.stop();
    },
  } satisfies Area;
}
