/** Reads this node's stats, and the cluster's where they are kept there [ADM1]. */
import type { Publisher } from "../broadcast/publisher.ts";
import type { Sequencer } from "../broadcast/sequencer.ts";
import type { CallService } from "../calls/service.ts";
import type { Bus } from "../cluster/ports.ts";
import type { Ingest } from "../ingest/ingest.ts";
import type { PresenceTracker } from "../presence/tracker.ts";
import type { TypingTracker } from "../presence/typing.ts";
import type { Push } from "../push/push.ts";
import type { ErasureStore } from "../storage/erasure-store.ts";
import type { EventLog } from "../storage/ports.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import type { NodeStats } from "../telemetry/stats.ts";
import type { CleanUp } from "./clean-up.ts";
import type { Hub } from "./hub.ts";

export interface StatsOptions {
  hub: Hub;
  subscriptions: SubscriptionManager;
  presence: PresenceTracker;
  calls: CallService;
  log: EventLog;
  publisher: Publisher;
  sequencer: Sequencer;
  typing: TypingTracker;
  cleanUp: CleanUp;
  bus: Bus;
  ingest: Ingest;
  push: Push;
  erasures: Pick<ErasureStore, "running">;
}

/** So long is waited for a part, ms: other nodes count one that says nothing for longer as missing. */
const patienceMs = 1_000;

/** Leaves out a part that is away, or does not answer in time: the others have theirs. */
function unlessAway<Part extends object>(part: Promise<Part>): Promise<Part | Record<never, never>> {
  const { promise, resolve } = Promise.withResolvers<Part | Record<never, never>>();
  const timer = setTimeout(resolve, patienceMs, {});
  part.then(resolve, () => resolve({}));
  return promise.finally(() => clearTimeout(timer));
}

export async function statsOf(parts: StatsOptions): Promise<NodeStats> {
  const [presence, calls, log, ingest, push, erasure] = await Promise.all([
    unlessAway(parts.presence.stats()),
    unlessAway(parts.calls.stats()),
    unlessAway(parts.log.stats()),
    unlessAway(parts.ingest.stats()),
    unlessAway(parts.push.stats()),
    unlessAway(parts.erasures.running().then((running) => ({ running }))),
  ]);
  const { epochs } = parts.log;
  return {
    hub: parts.hub.stats(),
    subscriptions: parts.subscriptions.stats(),
    presence,
    calls,
    log: {
      ...log,
      held_ms: parts.log.heldMs?.(),
      ...parts.publisher.stats(),
      epoch: epochs.current.no,
      losses: epochs.losses,
    },
    sequencer: parts.sequencer.stats(),
    typing: parts.typing.stats(),
    sessions: parts.cleanUp.stats(),
    cluster: parts.bus.stats?.() ?? {},
    ingest,
    push,
    erasure,
  };
}
