/** Says what the tabs of a browser tell each other. */
import type { ConnectionState, News, OutboxEntry, OutboxType, RequestType, Scope, Subscribed } from "../core.ts";
import { ClientError, type ClientErrorCode, ServerError } from "../errors.ts";
import { orderedId } from "../ground/ids.ts";
import type { JsonObject, ServerPayloads } from "../wire.ts";

/** Asked of the connection, wherever it is. */
export type Ask =
  | { do: "request"; type: RequestType; payload: JsonObject; timeoutMs?: number | undefined }
  | { do: "add"; type: OutboxType; payload: JsonObject; id: string }
  | { do: "replace"; id: string; payload: JsonObject }
  | { do: "retry" | "discard"; id: string }
  | { do: "start" | "signOut" };

/** Something that a tab follows; `isAnswered`: it has had its first answer, so that all of it has been told since. */
export interface TabFollow {
  id: string;
  scope: Scope;
  isAnswered: boolean;
}

/** Shows the connection in every tab. */
export interface Shown {
  userId: string | null;
  deviceId: string | null;
  state: ConnectionState;
  entries: readonly OutboxEntry[];
}

export type Failure =
  | { server: ServerPayloads["error"] }
  | { client: ClientErrorCode; field: string | undefined; message: string }
  | { other: string };

export type Answer<Value> = { value: Value } | { failure: Failure };

/** From a tab to the one that leads. */
export type ToLead =
  /** It is here, has taken everything up to this number, and follows this. Null: it has lost its place. */
  | { kind: "hello"; from: string; after: number | null; follows: TabFollow[] }
  | { kind: "ask"; from: string; id: string; ask: Ask }
  | { kind: "follow"; from: string; id: string; scope: Scope }
  | { kind: "unfollow"; from: string; id: string }
  /** It wants to hear that somebody leads; with what happened around it, where something did. */
  | { kind: "probe"; from: string; happening: "wake" | "online" | null }
  | { kind: "bye"; from: string };

/** From the tab that leads: to all, or `to` one. A term is the time for which one leads; of two the later one sorts behind. */
export type FromLead = { term: string } & (
  | { kind: "leads" }
  /** Where it stands; `news`: all after what the tab had, null where that is not known. */
  | { kind: "welcome"; to: string; number: number; news: News[] | null; shown: Shown }
  | { kind: "news"; number: number; news: News }
  | { kind: "shown"; shown: Partial<Shown> }
  | { kind: "answer"; to: string; id: string; answer: Answer<unknown> }
  | { kind: "followed"; to: string; id: string; answer: Answer<Subscribed> }
  /** It leads, and this is the number of the last news. */
  | { kind: "awake"; to: string; number: number }
);

export type TabMessage = ToLead | FromLead;

export function failureOf(error: unknown): Failure {
  if (error instanceof ServerError) {
    const { code, message, retryable, field, retryAfterMs: retry_after_ms } = error;
    return { server: { code, message, retryable, field, retry_after_ms } };
  }
  if (error instanceof ClientError) return { client: error.code, field: error.field, message: error.message };
  return { other: String(error) };
}

export function errorOf(failure: Failure): Error {
  if ("server" in failure) return new ServerError(failure.server);
  if ("client" in failure) return new ClientError(failure.client, failure);
  return new Error(failure.other);
}

/** @param before the last one that was heard of, by a clock that may have been ahead @param now milliseconds since 1970 */
export const termAfter = (before: string, now: number): string =>
  orderedId(Math.max(now, Number.parseInt(before, 10) + 1));
