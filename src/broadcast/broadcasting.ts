/** Joins the three parts of broadcasting: publisher → log → sequencer → broadcaster. */
import type { Bus } from "../cluster/ports.ts";
import type { EventLog } from "../storage/ports.ts";
import { Broadcaster, type BroadcasterOptions } from "./broadcaster.ts";
import { OwnSent } from "./own-sent.ts";
import { Publisher, type PublisherOptions } from "./publisher.ts";
import type { RecentEventsOptions } from "./recent-events.ts";
import { Sequencer } from "./sequencer.ts";

export type BroadcastingOptions = Omit<BroadcasterOptions, "onLeftOut"> &
  Omit<PublisherOptions, "sequencer"> & { log: EventLog; bus: Bus; recent: RecentEventsOptions };

export function createBroadcasting(options: BroadcastingOptions) {
  const ownSent = new OwnSent(options.log.epochs);
  const broadcaster = new Broadcaster({
    ...options,
    onLeftOut: (recipient, topic, seq) => ownSent.leaveOut(recipient, topic, seq),
  });
  const sequencer = new Sequencer({
    log: options.log,
    publish: (event, audience) => broadcaster.publishLogged(event, audience),
    hasSubscribers: (topic) => broadcaster.subscriberCount(topic) > 0,
    recent: options.recent,
    counts: options.counts,
    logger: options.logger,
  });
  return { broadcaster, sequencer, ownSent, publisher: new Publisher({ ...options, sequencer }) };
}
