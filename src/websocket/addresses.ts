/** Finds where a request really comes from: the peer, or whom a trusted proxy names. */
import { isLoopback } from "../config/addresses.ts";
import { ipVersionOf, isInBlock, readIpAddress, readIpBlock } from "../ground/ip-address.ts";

/** Addresses and CIDR blocks of proxies whose `X-Forwarded-For` is believed. */
export function createTrustedProxies(blocks: readonly string[]): (address: string) => boolean {
  const trusted = blocks.map(readIpBlock).filter((block) => block !== null);
  if (trusted.length === 0) return () => false;
  return (address) => {
    const read = readIpAddress(address);
    return read !== null && trusted.some((block) => isInBlock(read, block));
  };
}

/** The nearest address on the way to the client that is not a trusted proxy. */
export function clientAddress(
  peer: string,
  { forwardedFor, isTrusted }: { forwardedFor: string | null; isTrusted: (address: string) => boolean },
): string {
  let address = unmapped(peer);
  const hops = (forwardedFor ?? "")
    .split(",")
    .map((hop) => hop.trim())
    .filter((hop) => hop !== "");
  // From the right: each proxy appended whom it saw. What stands left of an untrusted hop is hearsay.
  while (hops.length > 0 && isTrusted(address)) {
    const hop = withoutPort(hops.pop()!);
    if (ipVersionOf(hop) === 0) break;
    address = unmapped(hop);
  }
  return address;
}

/**
 * Whether a request comes from this machine, and nobody on the way says that it is passed on for another. Believed of anybody, for
 * such a lie helps nobody.
 */
export function isOfThisMachine(peer: string, headers: Headers): boolean {
  const forwarded = [...(headers.get("forwarded") ?? "").matchAll(/\bfor="?([^";,\s]*)/gi)].map(([, hop]) => hop!);
  const listed = ["x-forwarded-for", "x-real-ip"].flatMap((name) => headers.get(name)?.split(",") ?? []);
  const hops = [...listed, ...forwarded].map((hop) => hop.trim()).filter((hop) => hop !== "");
  return [peer, ...hops].every((hop) => isLoopback(unmapped(withoutPort(hop))));
}

/** Some proxies name the port as well, and put IPv6 in brackets then. */
const withoutPort = (hop: string) => hop.replace(/^\[([^\]]+)\](:\d+)?$|^([\d.]+):\d+$/, "$1$3");

const unmapped = (address: string) =>
  address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
