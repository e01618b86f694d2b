/** Knows who is connected to this node: every connection, and those of a user or a device. */
import type { LocalRecipients } from "../broadcast/ports.ts";
import { Multimap } from "../ground/multimap.ts";
import type { Connection } from "./connection.ts";

export class Hub implements LocalRecipients {
  readonly #connections = new Set<Connection>();
  readonly #byUser = new Multimap<string, Connection>();
  readonly #byDevice = new Multimap<string, Connection>();
  /** Connections that are nobody's yet, by their id. */
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
    this.#byUser.add(connection.userId, connection);
    this.#byDevice.add(connection.deviceId, connection);
  }

  /** Forgets a connection. @returns whether it was known */
  remove(connection: Connection): boolean {
    this.#coming.delete(connection.connectionId);
    this.#byUser.remove(connection.userId, connection);
    this.#byDevice.remove(connection.deviceId, connection);
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
    return this.#byUser.of(userId);
  }

  ofDevice(deviceId: string): Iterable<Connection> {
    return this.#byDevice.of(deviceId);
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
    const found: Connection[] = [];
    for (const it of candidates)
      if ((connectionId ?? it.connectionId) === it.connectionId && (deviceId ?? it.deviceId) === it.deviceId)
        found.push(it);
    return found;
  }

  /** Counts, as `admin.stats` and the metrics show them. */
  stats() {
    let authenticated = 0;
    for (const connection of this.#connections) if (connection.isAuthenticated) authenticated++;
    return { connections: this.#connections.size, authenticated, users: this.#byUser.size, accepted: this.#accepted };
  }
}
