/** Composes the way of an event: publisher, log, sequencer, broadcaster; and receipts, which become events. */
import { createBroadcasting } from "../broadcast/broadcasting.ts";
import { ReceiptRelay } from "../handlers/receipt-relay.ts";
import { codecs } from "../protocol/codecs.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Foundation } from "./foundation.ts";
import type { Sockets } from "./sockets.ts";

export type Messaging = PartsOf<typeof composeMessaging>;

export function composeMessaging(
  base: Base,
  { storage, cluster, directory, hub, listeners, coalescer, watches }: Foundation & Sockets,
) {
  const { config, logger, counts, now, newId } = base;
  const broadcasting = createBroadcasting({
    native: listeners,
    coalescer,
    recipients: hub,
    codecs,
    bus: cluster.bus,
    log: storage.log,
    watchers: watches,
    waitingMax: config.websocket.broadcast_buffer,
    recent: {
      bytesMax: config.log.replay_memory,
      eventsMax: config.log.events_per_topic,
      retentionMs: config.log.retention,
      now,
    },
    counts,
    now,
    newId,
    logger,
  });
  const { broadcaster, publisher, sequencer } = broadcasting;
  watches.showBy(broadcaster);
  const windowMs = config.messages.receipt_window;
  // Leaves room for all who mark what they were just given; a mark is answered well before it is told of.
  const paceMs = Math.min(100, windowMs / 2);
  const { receipts: store } = storage;
  const receipts = new ReceiptRelay({ store, publisher, directory, windowMs, paceMs, now, newId, logger });
  return {
    parts: { ...broadcasting, receipts },
    async start() {
      await sequencer.start();
      receipts.start();
    },
    async stop() {
      // They have ended with the draining, but for those of requests that came to their end after it.
      await receipts.stop();
      sequencer.stop();
    },
    sweep: () => sequencer.sweep(),
  } satisfies Area;
}
