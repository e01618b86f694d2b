/** Composes what this node's sockets are held by and written to with: who is here, who is subscribed to what, compression. */

import { createTell } from "../subscription/tell.ts";
import { createCompression } from "../websocket/compression.ts";
import { Hub } from "../websocket/hub.ts";
import { Listeners } from "../websocket/listeners.ts";
import type { Area, PartsOf } from "./area.ts";
import type { Base } from "./base.ts";

export type Sockets = PartsOf<typeof composeSockets>;

export function composeSockets(base: Base) {
  const compression = createCompression(base.config);
  const parts = { hub: new Hub(), listeners: new Listeners(compression), compression, tell: createTell(base) };
  return { parts } satisfies Area;
}
