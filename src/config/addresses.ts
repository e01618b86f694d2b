/** Tells loopback hosts. */
import { ipVersionOf } from "../ground/ip-address.ts";

/** Whether only this machine can reach the host; what cannot be told counts as reachable from outside. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, "").toLowerCase();
  return bare === "localhost" || bare === "::1" || (bare.startsWith("127.") && ipVersionOf(bare) === 4);
}
