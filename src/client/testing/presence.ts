/** Knows who is there: users with a connection, and those of whom the test says so [PRE3] [PRE4]. */
import type { ClientPayloads, ServerPayloads } from "../wire.ts";
import type { FakeChat } from "./chat.ts";
import type { Connections, FakeConnection } from "./connections.ts";
import type { FakeLog } from "./log.ts";

export type PresenceStatus = "online" | "away" | "busy" | "invisible" | "offline";

export interface FakeStatus {
  status: PresenceStatus;
  statusText?: string | null;
  statusEmoji?: string | null;
}

type Shown = NonNullable<ServerPayloads["subscribed"]["topics"][number]["snapshot"]>["presence"] & object;

export class FakePresence {
  readonly #statuses = new Map<string, FakeStatus>();
  readonly #lastSeen = new Map<string, string>();
  readonly #comesBack = new Set<string>();

  constructor(
    private readonly world: { log: FakeLog; chat: FakeChat },
    private readonly connections: Connections,
  ) {}

  /** Oneself, and whoever shares a conversation. */
  maySee(viewer: string, userId: string): boolean {
    const { chat } = this.world;
    const theirs = new Set(chat.conversationsOf(userId));
    return viewer === userId || chat.conversationsOf(viewer).some((id) => theirs.has(id));
  }

  /** As the viewer is shown it; without one, as it is. */
  of(userId: string, viewer?: string): Shown {
    const { status, statusText, statusEmoji } = this.#statuses.get(userId) ?? this.#byConnections(userId);
    const isHidden =
      viewer !== userId && (status === "invisible" || (viewer !== undefined && !this.maySee(viewer, userId)));
    if (isHidden || status === "offline") {
      const lastSeen = viewer === undefined || this.maySee(viewer, userId) ? this.#lastSeen.get(userId) : undefined;
      return { user_id: userId, status: "offline", ...(lastSeen === undefined ? {} : { last_seen: lastSeen }) };
    }
    return {
      ...{ user_id: userId, status },
      ...(statusText ? { status_text: statusText } : {}),
      ...(statusEmoji ? { status_emoji: statusEmoji } : {}),
    };
  }

  /** Says how somebody is from now on; null: as the connections say. */
  set(userId: string, status: FakeStatus | null): void {
    this.#changing(userId, () => {
      if (status === null) this.#statuses.delete(userId);
      else this.#statuses.set(userId, status);
    });
  }

  /** A client's own word. What is left out stays, null clears it, and `online` by hand gives the status back [PRE2]. */
  update(userId: string, payload: ClientPayloads["presence.update"], from: FakeConnection): void {
    const before = this.#statuses.get(userId);
    const {
      status,
      status_text: statusText = before?.statusText,
      status_emoji: statusEmoji = before?.statusEmoji,
    } = payload;
    const isBack = status === "online" && !statusText && !statusEmoji;
    this.set(userId, isBack ? null : { status, statusText, statusEmoji });
    this.connections.tellOf(
      { topic: `user:${userId}`, type: "presence.update", except: from },
      {
        ...{ user_id: userId, status, at: this.world.log.moment() },
        ...{ status_text: statusText ?? null, status_emoji: statusEmoji ?? null },
      },
    );
  }

  came(connection: FakeConnection, userId: string): void {
    this.#changing(userId, () => {
      connection.userId = userId;
      this.#comesBack.delete(userId);
    });
  }

  /** A line that breaks is not seen by others: the client comes back [PRE1]. */
  left(connection: FakeConnection, code: number): void {
    const { userId } = connection;
    if (userId === null) return this.connections.remove(connection);
    this.#changing(userId, () => {
      this.connections.remove(connection);
      if (![1000, 1001, 1005].includes(code)) this.#comesBack.add(userId);
    });
  }

  #byConnections(userId: string): FakeStatus {
    const isHere = this.connections.of(userId).length > 0 || this.#comesBack.has(userId);
    return { status: isHere ? "online" : "offline" };
  }

  #changing(userId: string, change: () => void): void {
    const before = this.of(userId);
    change();
    const { status, ...rest } = this.of(userId);
    if (JSON.stringify(before) === JSON.stringify({ ...rest, status })) return;
    const at = this.world.log.moment();
    const topic = `presence:${userId}`;
    if (status === "offline") {
      this.#lastSeen.set(userId, at);
      this.connections.tellOf({ topic, type: "presence.offline" }, { user_id: userId, last_seen: at });
    } else if (before.status === "offline") {
      this.connections.tellOf({ topic, type: "presence.online" }, { ...rest, status, at });
    } else {
      const { status_text = null, status_emoji = null } = rest;
      const payload = { user_id: userId, status, status_text, status_emoji, at };
      this.connections.tellOf({ topic, type: "presence.update" }, payload);
    }
  }
}
