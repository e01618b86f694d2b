/** Names what a connection is made with. */
import type { Since } from "../protocol/client.ts";
import type { Codec } from "../protocol/codec.ts";
import type { WireFormat } from "../protocol/limits.ts";
import type { UserSession } from "./credentials.ts";

export interface ConnectionOptions {
  connectionId: string;
  deviceId: string;
  address: string;
  /** It has come by the internal listener, which has room of its own. */
  isInternal: boolean;
  format: WireFormat;
  codec: Codec;
  /** Verified by the upgrade; null: `authenticate` has to come. */
  session: UserSession | null;
  since: Since | undefined;
  now: number;
  queueMax: number;
}
