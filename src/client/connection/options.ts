/** Says what a connection is given. */
import type { Clock, Store } from "../core.ts";
import type { Surroundings } from "../ground/surroundings.ts";
import type { Socket } from "./line.ts";
import type { GetToken } from "./tokens.ts";

export type WebSocketConstructor = new (url: string, protocols: string[]) => Socket;

export interface ConnectionOptions {
  /** `wss://chat.example.com/ws` */
  url: string;
  /** Says who this is where the server trusts what it is told; else a token does. */
  userId?: string;
  /** One that does, for as long as it is good. */
  token?: string;
  /** Asked when a token is needed; again, with a pause, where it fails or does not answer. */
  getToken?: GetToken;
  /** The user of the tokens, where it is known; else nothing that is kept is looked at until a token or the server has said it. */
  subject?: string;
  /** Else that which was kept, or one that the server makes. */
  deviceId?: string;
  /** As which device the connection before this one came, where nothing is kept of it yet: a moment passes before it is. */
  deviceIdBefore?: string | null;
  store: Store;
  /** Where there is no global one, as in Node 20: that of the package `ws`. */
  webSocket?: WebSocketConstructor;
  /** Another of the same device has connected: `stop` leaves it to that one, `another_device` comes back beside it. `stop` where left out. */
  whenReplaced?: "stop" | "another_device";
  /**
   * Asked for each line: goes on from the place that is kept here, or from what was acknowledged by `ack`, and tells all that comes
   * after it once more [LOG6]. Until all of that is back the next lines do so too, and nothing is kept; what the server learns meanwhile to be
   * acknowledged is not told again. `place` where left out.
   */
  resumesFrom?(): "place" | "acked";
  /** `user`, `calls` and `notifications` where left out. */
  ownTopics?: readonly string[];
  clock?: Clock;
  /** Like Math.random. */
  random?: () => number;
  surroundings?: Surroundings;
  /** Something went wrong that no request of the application's is told of: what it answers with, what cannot be kept. */
  onError?(error: unknown): void;
}
