/** Composes what backends hand in by other ways than the socket: the outbox of the database and the stream of Redis. */
import { createIngest } from "../ingest/ingest.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";
import type { Foundation } from "./foundation.ts";
import type { Messaging } from "./messaging.ts";

export type Ingest = PartsOf<typeof composeIngest>;

export function composeIngest(
  { config, logger, now, newId }: Base,
  { storage, cluster, publisher }: Foundation & Messaging,
) {
  const payloadBytesMax = config.websocket.max_message_size;
  const ingest = createIngest([storage.outbox, cluster.stream], { publisher, payloadBytesMax, now, newId, logger });
  // It has ended with the draining.
  return { parts: { ingest }, start: () => ingest.start() } satisfies Area;
}
