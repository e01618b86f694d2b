/** Tells loopback hosts and blocks of addresses. */
import { isIP } from "node:net";

/** Whether only this machine can reach the host; what cannot be told counts as reachable from outside. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, "").toLowerCase();
  return bare === "localhost" || bare === "::1" || (isIP(bare) === 4 && bare.startsWith("127."));
}

/** `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`. */
export function isAddressOrBlock(text: string): boolean {
  const [address = "", prefix, ...others] = text.split("/");
  const family = isIP(address);
  if (family === 0 || others.length > 0) return false;
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128));
}
