/** Joins the three parts of broadcasting: publisher → log → sequencer → broadcaster. */
import type { Bus } from "../cluster/ports.ts";
import type { EventLog } from "../storage/ports.ts";
import { Broadcaster, type BroadcasterOptions } from "./broadcaster.ts";
import { Publisher, type PublisherOptions } from "./publisher.ts";
import { Sequencer } from "./sequencer.ts";

export type BroadcastingOptions = BroadcasterOptions &
  Omit<PublisherOptions, "sequencer"> & { log: EventLog; bus: Bus };

export function createBroadcasting(options: BroadcastingOptions) {
  const broadcaster = new Broadcaster(options);
  const sequencer = new Sequencer({
    log: options.log,
    publish: (event, audience) => broadcaster.publishLogged(event, audience),
    hasSubscribers: (topic) => broadcaster.subscriberCount(topic) > 0,
    logger: options.logger,
  });
  return { broadcaster, sequencer, publisher: new Publisher({ ...options, sequencer }) };
}
