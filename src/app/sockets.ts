/** Composes what this node's sockets are held by and written to with: who is here, who is subscribed to what, compression. */

import { codecs } from "../protocol/codecs.ts";
import { createTell } from "../subscription/tell.ts";
import { createCompression } from "../websocket/compression.ts";
import { Hub } from "../websocket/hub.ts";
import { Listeners } from "../websocket/listeners.ts";
import { Watches } from "../websocket/watches.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";

export type Sockets = PartsOf<typeof composeSockets>;

export function composeSockets(base: Base) {
  const compression = createCompression(base.config);
  const watches = new Watches({ ...base, codecs, showsPayloads: base.config.operations.show_payloads });
  const parts = { hub: new Hub(), listeners: new Listeners(compression), compression, tell: createTell(base), watches };
  return { parts } satisfies Area;
}
