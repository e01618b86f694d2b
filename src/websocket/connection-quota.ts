/** Bounds how many connections may be nobody's yet, and how many one address may have: what a node can be made to hold without a token [CON2]. */
import type { Config } from "../config/schema.ts";
import { addressBlock, addressNetwork, networkAddresses } from "./address-limiter.ts";
import type { Connection } from "./connection.ts";

/** Why there is no place, and when there may be one again. */
export interface Shortage {
  message: string;
  retryAfterMs: number;
}

const busyRetryMs = 5_000;

export class ConnectionQuota {
  /** Connections that are nobody's, with what counts as one address, and the network around it. */
  readonly #anonymous = new Map<Connection, string[]>();
  readonly #anonymousOf = new Tally();
  /** Of every connection, where addresses are limited. */
  readonly #all = new Tally();
  /** Connections of the internal listener, which take nobody's place, nor does anybody take theirs. */
  readonly #internal = new Set<Connection>();

  constructor(private readonly config: Pick<Config, "auth" | "websocket" | "operations">) {}

  /** Counts those of the internal listener. */
  get internal(): number {
    return this.#internal.size;
  }

  /** Takes a place for a connection that is about to be upgraded; it is given back by `leave`. */
  take(connection: Connection): Shortage | null {
    return connection.isInternal ? this.#takeInternal(connection) : this.#takePublic(connection);
  }

  #takeInternal(connection: Connection): Shortage | null {
    if (this.#internal.size >= this.config.operations.max_connections)
      return { message: "The internal listener has as many connections as it may.", retryAfterMs: busyRetryMs };
    this.#internal.add(connection);
    return null;
  }

  #takePublic(connection: Connection): Shortage | null {
    const { max_anonymous, max_anonymous_per_address, timeout } = this.config.auth;
    const { max_connections_per_address: addressMax } = this.config.websocket;
    if (addressMax === null && connection.session !== null) return null;
    const block = addressBlock(connection.address);
    if (addressMax !== null && this.#all.of(block) >= addressMax) {
      return { message: "This address has as many connections as it may.", retryAfterMs: busyRetryMs };
    }
    const isAnonymous = connection.session === null;
    // By then those who are nobody now have authenticated or are gone.
    if (isAnonymous && this.#anonymous.size >= max_anonymous) {
      return { message: "Too many connections have not authenticated yet.", retryAfterMs: timeout };
    }
    const network = addressNetwork(connection.address);
    const isCrowded =
      this.#anonymousOf.of(block) >= max_anonymous_per_address ||
      (network !== null && this.#anonymousOf.of(network) >= networkAddresses * max_anonymous_per_address);
    if (isAnonymous && isCrowded) {
      return { message: "Too many connections of this address have not authenticated yet.", retryAfterMs: timeout };
    }
    if (addressMax !== null) this.#all.add(block);
    if (isAnonymous) {
      const names = network === null ? [block] : [block, network];
      this.#anonymous.set(connection, names);
      for (const name of names) this.#anonymousOf.add(name);
    }
    return null;
  }

  /** The connection is somebody's now. */
  identify(connection: Connection): void {
    for (const name of this.#anonymous.get(connection) ?? []) this.#anonymousOf.remove(name);
    this.#anonymous.delete(connection);
  }

  /** The connection has gone, or did not come; called once for each that has taken a place. */
  leave(connection: Connection): void {
    if (this.#internal.delete(connection)) return;
    this.identify(connection);
    if (this.config.websocket.max_connections_per_address !== null) this.#all.remove(addressBlock(connection.address));
  }
}

/** Counts by name; what is at zero is forgotten. */
class Tally {
  readonly #counts = new Map<string, number>();

  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  add(name: string): void {
    this.#counts.set(name, this.of(name) + 1);
  }

  remove(name: string): void {
    const left = this.of(name) - 1;
    if (left > 0) this.#counts.set(name, left);
    else this.#counts.delete(name);
  }
}
