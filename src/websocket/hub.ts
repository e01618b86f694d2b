/** Who is connected to this node: every connection, and those of a user or a device. */
import type { LocalRecipients } from "../broadcast/ports.ts";
import type { Connection } from "./connection.ts";

/** Nearly every key has one connection; only more of them need a set. */
type OneOrMore = Connection | Set<Connection>;

export class Hub implements LocalRecipients {
  readonly #connections = new Set<Connection>();
  readonly #byUser = new Map<string, OneOrMore>();
  readonly #byDevice = new Map<string, OneOrMore>();
  /** Those that are nobody's yet, by their id. */
  readonly #coming = new Map<string, Connection>();
  #accepted = 0;

  get size(): number {
    return this.#connections.size;
  }

  /** Takes in a connection as it opens. */
  add(connection: Connection): void {
    this.#connections.add(connection);
    this.#coming.set(connection.connectionId, connection);
    this.#accepted++;
  }

  /** Makes an authenticated connection known as its user's and its device's. */
  identify(connection: Connection): void {
    this.#coming.delete(connection.connectionId);
    insert(this.#byUser, connection.userId, connection);
    insert(this.#byDevice, connection.deviceId, connection);
  }

  /** Forgets a connection. @returns whether it was known */
  remove(connection: Connection): boolean {
    this.#coming.delete(connection.connectionId);
    erase(this.#byUser, connection.userId, connection);
    erase(this.#byDevice, connection.deviceId, connection);
    return this.#connections.delete(connection);
  }

  /** A connection that is not identified yet. */
  coming(connectionId: string): Connection | undefined {
    return this.#coming.get(connectionId);
  }

  userIds(): string[] {
    return [...this.#byUser.keys()];
  }

  all(): Iterable<Connection> {
    return this.#connections;
  }

  ofUser(userId: string): Iterable<Connection> {
    return listed(this.#byUser.get(userId));
  }

  ofDevice(deviceId: string): Iterable<Connection> {
    return listed(this.#byDevice.get(deviceId));
  }

  find({
    userId,
    connectionId,
    deviceId,
  }: {
    userId?: string;
    connectionId?: string;
    deviceId?: string;
  }): Connection[] {
    const candidates =
      userId !== undefined ? this.ofUser(userId) : deviceId !== undefined ? this.ofDevice(deviceId) : this.#connections;
    return [...candidates].filter(
      (it) => (connectionId ?? it.connectionId) === it.connectionId && (deviceId ?? it.deviceId) === it.deviceId,
    );
  }

  /** Counts, as `admin.stats` and the metrics show them. */
  stats() {
    let authenticated = 0;
    for (const connection of this.#connections) if (connection.isAuthenticated) authenticated++;
    return { connections: this.#connections.size, authenticated, users: this.#byUser.size, accepted: this.#accepted };
  }
}

function insert(index: Map<string, OneOrMore>, key: string, connection: Connection): void {
  const there = index.get(key);
  if (there === undefined) index.set(key, connection);
  else if (there instanceof Set) there.add(connection);
  else index.set(key, new Set([there, connection]));
}

function erase(index: Map<string, OneOrMore>, key: string, connection: Connection): void {
  const there = index.get(key);
  if (there === connection) index.delete(key);
  else if (there instanceof Set && there.delete(connection) && there.size === 1) {
    for (const last of there) index.set(key, last);
  }
}

function listed(there: OneOrMore | undefined): Iterable<Connection> {
  return there === undefined ? [] : there instanceof Set ? [...there] : [there];
}
