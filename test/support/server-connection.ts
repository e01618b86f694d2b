/** Makes connections of the service's by themselves: they speak JSON, are nobody's yet, and write to a socket of the test's. */
import { jsonCodec } from "../../src/protocol/codec.ts";
import { type Attachment, Connection } from "../../src/websocket/connection.ts";
import type { ConnectionOptions } from "../../src/websocket/connection-options.ts";
import { FirstWords } from "../../src/websocket/first-words.ts";

export const plainConnection: ConnectionOptions = {
  connectionId: "k1",
  deviceId: "d1",
  address: "192.0.2.1",
  isInternal: false,
  format: "json",
  codec: jsonCodec,
  session: null,
  since: undefined,
  now: 0,
  queueMax: 64,
};

/** @param socket has of a socket's methods those that the test comes to */
export function connectionOn(socket: object, options: Partial<ConnectionOptions & Attachment> = {}): Connection {
  const connection = new Connection({ ...plainConnection, ...options });
  connection.attach(socket as never, {
    onGone() {},
    onSent() {},
    waiting: { bringLevel() {}, bringLevelOn() {}, passBy() {} },
    firstWords: new FirstWords(),
    lastWordWaitMs: 10_000,
    queueBytesLast: 1 << 20,
    compresses: () => false,
    ...options,
  });
  return connection;
}
