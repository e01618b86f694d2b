/** Holds who the operator is, and the one connection that the console asks and hears on. */
import { Connection } from "../client/connection.ts";
import type { ConnectionState, Reply, RequestType } from "../client/core.ts";
import { ClientError, ServerError } from "../client/errors.ts";
import { MemoryStore } from "../client/stores/memory.ts";
import type { ClientPayloads } from "../client/wire.ts";
import { visible } from "../telemetry/visible.ts";

/** Says what the listener says of itself; see `src/operations/listener.ts`. */
export interface About {
  node_id: string;
  version: string;
  auth: "trusted" | "token";
  show_payloads: boolean;
}

/** Kept for as long as this tab lives: a reload does not ask again. */
const kept = {
  operationsToken: "operations token",
  identity: "identity",
  device: "device",
} as const;

/** Names who asks: by a token of an admin's, or by a user id where the server trusts it. */
export type Identity = { token: string } | { userId: string };

export class NeedsToken extends Error {}

/** Takes the token of the address out of it, where it would stay in the history. */
export function takeTokenOfAddress(): void {
  const token = new URLSearchParams(location.search).get("token");
  if (token === null) return;
  sessionStorage.setItem(kept.operationsToken, token);
  history.replaceState(null, "", `${location.pathname}${location.hash}`);
}

export function keepOperationsToken(token: string): void {
  sessionStorage.setItem(kept.operationsToken, token);
}

/** @throws NeedsToken where it has to be asked for */
export async function askAbout(): Promise<About> {
  const token = sessionStorage.getItem(kept.operationsToken);
  const headers: Record<string, string> = token === null ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch("/about.json", { headers, cache: "no-store" });
  if (response.status === 401) throw new NeedsToken(token === null ? "" : "This is not the token of operations.token.");
  if (!response.ok) throw new Error(`The listener answers ${response.status}.`);
  return response.json();
}

export function keptIdentity(): Identity | null {
  const text = sessionStorage.getItem(kept.identity);
  return text === null ? null : JSON.parse(text);
}

export function keepIdentity(identity: Identity | null): void {
  if (identity === null) sessionStorage.removeItem(kept.identity);
  else sessionStorage.setItem(kept.identity, JSON.stringify(identity));
}

/** Leaves nothing to whoever uses this tab next: neither who the operator is, nor the token of the listener. */
export function forgetWhoIsThere(): void {
  for (const key of Object.values(kept)) sessionStorage.removeItem(key);
}

/** Connects by this listener's own `/ws`; the caller starts and stops it. */
export function connectAs(identity: Identity): Connection {
  const url = new URL("/ws", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const operationsToken = sessionStorage.getItem(kept.operationsToken);
  if (operationsToken !== null) url.searchParams.set("operations_token", operationsToken);
  if ("userId" in identity) url.searchParams.set("roles", "admin");
  const device = sessionStorage.getItem(kept.device) ?? `console-${crypto.randomUUID().slice(0, 8)}`;
  sessionStorage.setItem(kept.device, device);
  return new Connection({
    url: url.href,
    ...identity,
    deviceId: device,
    store: new MemoryStore(),
    whenReplaced: "another_device",
  });
}

/** @throws ServerError `forbidden` where the one who asks is no admin */
export const proveAdmin = (connection: Connection): Promise<Reply<"admin.nodes">> =>
  connection.request("admin.nodes", {});

/** Says in a sentence why the connection is not there. */
export function sentenceOf(state: ConnectionState): string {
  switch (state.status) {
    case "live":
      return "connected";
    case "connecting":
      return "connecting …";
    case "waiting":
      return state.reason === "refused"
        ? "not let in, or nobody is there: trying again"
        : `away (${state.reason}): trying again`;
    case "stopped":
      return stopSentences[state.reason] ?? `stopped: ${state.reason}`;
  }
}

const stopSentences: Partial<Record<string, string>> = {
  authentication: "This token is not valid here.",
  revoked: "This operator was disconnected or disabled.",
  identity_change: "The token is another user's.",
};

/** Says in a sentence what a request failed with. */
export const sentenceOfError = (error: unknown): string => visible(messageOf(error));

function messageOf(error: unknown): string {
  if (error instanceof ServerError)
    return error.field === undefined ? error.message : `${error.message} (${error.field.replace("payload.", "")})`;
  if (error instanceof ClientError) return error.message;
  return error instanceof Error ? error.message : String(error);
}

export type Ask = <T extends RequestType>(type: T, payload: ClientPayloads[T]) => Promise<Reply<T>>;
