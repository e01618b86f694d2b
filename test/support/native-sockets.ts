/** The platform's sockets and its topics, by hand: what is written to a socket is kept, in order. */
import type { EncodedFrame, NativeTopics } from "../../src/broadcast/ports.ts";
import type { Attachment, Connection } from "../../src/websocket/connection.ts";
import type { ConnectionOptions } from "../../src/websocket/connection-options.ts";
import { connectionOn } from "./server-connection.ts";

export const readFrame = (frame: EncodedFrame) => JSON.parse(String(frame));

export interface NativeSocket {
  connection: Connection;
  /** Everything that was written to it. */
  frames: EncodedFrame[];
}

export class NativeSockets implements NativeTopics {
  readonly #topics = new Map<string, Set<EncodedFrame[]>>();

  /** Opens a live connection of a user. */
  open(userId: string, options: Partial<ConnectionOptions & Attachment>): NativeSocket {
    const frames: EncodedFrame[] = [];
    const isOn = (topic: string) => this.#on(topic).has(frames);
    const socket = {
      get subscriptions() {
        return [...topics.keys()].filter(isOn);
      },
      isSubscribed: isOn,
      subscribe: (topic: string) => this.#on(topic).add(frames),
      unsubscribe: (topic: string) => this.#on(topic).delete(frames),
      send: (frame: EncodedFrame) => frames.push(frame),
      cork: (write: () => void) => write(),
      getBufferedAmount: () => 0,
      close() {
        for (const sockets of topics.values()) sockets.delete(frames);
      },
    };
    const topics = this.#topics;
    const session = { userId, roles: [], grants: [], expiresAt: null, expiryWarningAt: null };
    const connection = connectionOn(socket, { session, ...options });
    connection.moveTo("authenticating");
    connection.assume(session);
    connection.moveTo("live");
    return { connection, frames };
  }

  publish(topic: string, frame: EncodedFrame): void {
    for (const frames of this.#on(topic)) frames.push(frame);
  }

  subscriberCount(topic: string): number {
    return this.#on(topic).size;
  }

  #on(topic: string): Set<EncodedFrame[]> {
    const sockets = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, sockets);
    return sockets;
  }
}
