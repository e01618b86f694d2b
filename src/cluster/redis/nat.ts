/** Dials the servers of a Redis Cluster where they are reached, which may not be where they say that they are. */
import { connect, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { AbstractConnector } from "ioredis";
import { type NatMap, reached } from "./address.ts";

/** As much of ioredis' options as says where a connection leads. */
interface Destination {
  host: string;
  port: number;
  tls?: object;
  disconnectTimeout: number;
}

/**
 * Opens connections for ioredis. The map holds here alone: everything above goes by the addresses that the servers
 * announce, also where they send a command elsewhere (MOVED, ASK). ioredis has a `natMap` for this, but commands that are
 * written together do not find their way through it after such an answer (6.0.0).
 */
export function connectorThrough(natMap: NatMap) {
  return class extends AbstractConnector {
    readonly #destination: Destination;

    constructor(options: unknown) {
      const destination = options as Destination;
      super(destination.disconnectTimeout);
      this.#destination = destination;
    }

    override async connect(): Promise<Socket | TLSSocket> {
      const { tls } = this.#destination;
      const endpoint = reached(this.#destination, natMap);
      this.connecting = true;
      const stream = tls === undefined ? connect(endpoint) : connectTls({ ...endpoint, ...tls });
      stream.once("error", (error) => {
        this.firstError = error;
      });
      this.stream = stream;
      return stream;
    }
  };
}
