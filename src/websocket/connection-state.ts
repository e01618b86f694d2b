/** Names the states of a connection, and the only ways between them. */
import { assert } from "../ground/assert.ts";

/** `anonymous`: may only ping and authenticate. `closing`: we closed it, the socket may still be flushing. */
export type ConnectionState = "anonymous" | "authenticating" | "live" | "closing" | "closed";

const edges: Record<ConnectionState, readonly ConnectionState[]> = {
  anonymous: ["authenticating", "closing", "closed"],
  // Again, where what it needs was away and the client tries once more.
  authenticating: ["authenticating", "live", "closing", "closed"],
  live: ["closing", "closed"],
  closing: ["closed"],
  closed: [],
};

/** @returns where it is then. @throws InvariantBroken where there is no such way: who is closed never comes to life again */
export function moved(from: ConnectionState, to: ConnectionState): ConnectionState {
  assert(edges[from].includes(to), "connection_state", { from, to });
  return to;
}
