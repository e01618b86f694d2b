/** Tells everybody who is connected that the log has gone back: what they have heard may not be so, and they load anew [LOG4]. */
import type { Sequencer } from "../broadcast/sequencer.ts";
import { nextTurn } from "../ground/next-turn.ts";
import type { EpochChange } from "../storage/epochs.ts";
import type { SubscriptionManager } from "../subscription/manager.ts";
import type { Logger } from "../telemetry/logger.ts";
import { warnsOnce } from "../telemetry/outage.ts";
import type { Connection } from "./connection.ts";
import type { Hub } from "./hub.ts";

export interface LogBreakListenerOptions {
  sequencer: Pick<Sequencer, "epochs" | "level">;
  subscriptions: Pick<SubscriptionManager, "logBreaks" | "tellLogBreak">;
  hub: Pick<Hub, "all" | "size">;
  logger: Logger;
}

/** Topics that are told of in one turn of the loop, over all connections: what others ask comes in between. */
const toldAtOnce = 2_000;
/** Until the log answers it is asked again, ms. */
const retryMs = 1_000;

/** Begins to follow; a log that ends with the process has nobody to tell. */
export function listenForLogBreaks({ sequencer, subscriptions, hub, logger }: LogBreakListenerOptions): void {
  const { epochs } = sequencer;
  const levelling = warnsOnce(
    logger,
    "nobody is told of the loss until the log answers",
    "everybody is told of the loss",
  );

  epochs.watch((change) => {
    note(change);
    if (!change.isBroken) return;
    subscriptions.logBreaks.owe(hub.all());
    void tellAll(epochs.breaks);
  });

  function note({ previous, current, isBroken, heldThrough }: EpochChange): void {
    const facts = { epoch: current.id, previous: previous.id, held_through: heldThrough, line: current.line };
    if (isBroken)
      logger.error(facts, "the log has gone back: acknowledged events are lost, and everybody is told to load anew");
    else logger.info(facts, "the log goes on in another epoch, for all that is known without a loss");
  }

  async function tellAll(breaks: number): Promise<void> {
    // Another break tells everybody by itself, and whoever comes later begins with the log as it is.
    const isCalledOff = () => epochs.breaks !== breaks || hub.size === 0;
    while (!(await levelling.attempt(sequencer.level())) && !isCalledOff()) await Bun.sleep(retryMs);
    if (isCalledOff()) return;
    let topics = 0;
    for (const connection of [...hub.all()]) {
      topics += tell(connection);
      if (topics < toldAtOnce) continue;
      topics = 0;
      await nextTurn();
      if (isCalledOff()) return;
    }
  }

  /** @returns how many topics it is on */
  function tell(connection: Connection): number {
    if (!connection.isAuthenticated || connection.isClosed) return 0;
    // Not waited for: what it asked for before may take long.
    void subscriptions.tellLogBreak(connection);
    return connection.topics().length;
  }
}
