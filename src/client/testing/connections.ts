/** Holds the connections to the fake server, and sends to them what they are subscribed to. */
import type { ServerEvent } from "../core.ts";
import type { ServerPayloads } from "../wire.ts";
import type { ServerEnd } from "./socket.ts";

export type ErrorCode = ServerPayloads["error"]["code"];

/** Says why a request is not done. */
export class Refusal extends Error {
  constructor(
    readonly code: ErrorCode,
    readonly details: { field?: string; retryAfterMs?: number } = {},
  ) {
    super(`The fake server refuses: ${code}.`);
  }
}

export class FakeConnection {
  userId: string | null = null;
  deviceId = "";
  readonly topics = new Set<string>();
  /** Short names without a filter: what joins them later is subscribed as well [SUB3]. */
  readonly followed = new Set<string>();

  constructor(
    readonly end: ServerEnd,
    private readonly stamp: () => { id: string; timestamp: string },
  ) {}

  send<T extends keyof ServerPayloads>(type: T, payload: ServerPayloads[T], replyTo?: string): void {
    this.end.send(JSON.stringify({ ...this.stamp(), type, reply_to: replyTo, payload }));
  }

  sendEvent(event: ServerEvent): void {
    this.end.send(JSON.stringify(event));
  }
}

export class Connections {
  readonly #open = new Set<FakeConnection>();

  constructor(private readonly stamp: () => { id: string; timestamp: string }) {}

  add(connection: FakeConnection): void {
    this.#open.add(connection);
  }

  remove(connection: FakeConnection): void {
    this.#open.delete(connection);
  }

  get all(): FakeConnection[] {
    return [...this.#open];
  }

  of(userId: string): FakeConnection[] {
    return this.all.filter((connection) => connection.userId === userId);
  }

  byEnd(end: ServerEnd): FakeConnection | undefined {
    return this.all.find((connection) => connection.end === end);
  }

  /** Sends an event to all that are on its topic but the one that caused it [SUB6]. */
  tell(topic: string, event: ServerEvent, except?: FakeConnection): void {
    for (const connection of this.all) {
      if (connection !== except && connection.topics.has(topic)) connection.sendEvent(event);
    }
  }

  /** The same with an event that no log keeps. */
  tellOf<T extends keyof ServerPayloads>(
    { topic, type, except }: { topic: string; type: T; except?: FakeConnection },
    payload: ServerPayloads[T],
  ): void {
    this.tell(topic, { ...this.stamp(), type, payload: payload as never }, except);
  }
}
