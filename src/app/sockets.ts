/** Composes what this node's sockets are held by and written to with: who is here, who is subscribed to what, compression. */

import { Coalescer } from "../broadcast/coalescer.ts";
import { realTimers } from "../ground/timers.ts";
import { codecs } from "../protocol/codecs.ts";
import { createTell } from "../subscription/tell.ts";
import { createCompression } from "../websocket/compression.ts";
import { FirstWords } from "../websocket/first-words.ts";
import { Hub } from "../websocket/hub.ts";
import { Listeners } from "../websocket/listeners.ts";
import { Watches } from "../websocket/watches.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";

export type Sockets = PartsOf<typeof composeSockets>;

export function composeSockets(base: Base) {
  const compression = createCompression(base.config);
  const watches = new Watches({ ...base, codecs, showsPayloads: base.config.operations.show_payloads });
  const firstWords = new FirstWords();
  const listeners = new Listeners(compression, firstWords);
  const { coalesce_window: windowMs, coalesce_from: fromSubscribers } = base.config.websocket;
  const coalescer = new Coalescer({ native: listeners, timers: realTimers, windowMs, fromSubscribers });
  const parts = { hub: new Hub(), listeners, coalescer, firstWords, compression, tell: createTell(base), watches };
  return { parts } satisfies Area;
}
