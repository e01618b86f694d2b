/** Bounds what one network address may try: connections a second, and failed authentications a minute [LIM]. */
import { isIPv6 } from "node:net";
import type { Config } from "../config/schema.ts";
import { BoundedMap } from "../ground/bounded-map.ts";
import { afterTake, type Rate, ratePerMinute, waitMs } from "../ground/token-bucket.ts";

export type Admission = { allowed: true } | { allowed: false; retryAfterMs: number };

/** For each limit, when its bucket is full again. */
interface Entry {
  connectionsFullAt: number;
  failuresFullAt: number;
}

const allowed: Admission = { allowed: true };

export class AddressLimiter {
  readonly #connections: Rate;
  readonly #failures: Rate;
  /** In the order in which they were last heard of. */
  readonly #entries: BoundedMap<string, Entry>;

  /** @param addressesMax beyond so many the one that was heard of longest ago is forgotten */
  constructor(
    private readonly config: Config["rate_limits"],
    { addressesMax = 100_000 }: { addressesMax?: number } = {},
  ) {
    const perSecond = config.connections_per_second_per_ip;
    const perMinute = config.failed_authentications_per_minute_per_ip;
    this.#connections = ratePerMinute({ per_minute: perSecond * 60, burst: perSecond });
    this.#failures = ratePerMinute({ per_minute: perMinute, burst: perMinute });
    this.#entries = new BoundedMap(addressesMax);
  }

  /** Takes one connection attempt of the address. */
  connect(address: string, now: number): Admission {
    if (!this.config.enabled) return allowed;
    const entry = this.#touch(address);
    const bucket = { fullAt: entry.connectionsFullAt, now };
    const admission = admissionOf(this.#connections, bucket);
    if (admission.allowed) entry.connectionsFullAt = afterTake(this.#connections, bucket);
    return admission;
  }

  /** Says whether the address may fail to authenticate once more; takes nothing. */
  mayFail(address: string, now: number): Admission {
    if (!this.config.enabled) return allowed;
    const fullAt = this.#entries.get(addressBlock(address))?.failuresFullAt ?? 0;
    return admissionOf(this.#failures, { fullAt, now });
  }

  /** Takes one failed authentication of the address. */
  noteFailure(address: string, now: number): void {
    if (!this.config.enabled) return;
    const entry = this.#touch(address);
    entry.failuresFullAt = afterTake(this.#failures, { fullAt: entry.failuresFullAt, now });
  }

  /** Forgets addresses that are owed nothing. */
  sweep(now: number): void {
    for (const [block, { connectionsFullAt, failuresFullAt }] of this.#entries) {
      if (connectionsFullAt <= now && failuresFullAt <= now) this.#entries.delete(block);
    }
  }

  /** Counts the addresses (blocks, for IPv6) that are remembered. */
  addresses(): number {
    return this.#entries.size;
  }

  /** Gives the address's entry, moved to the end. */
  #touch(address: string): Entry {
    const block = addressBlock(address);
    const entry = this.#entries.get(block) ?? { connectionsFullAt: 0, failuresFullAt: 0 };
    this.#entries.set(block, entry);
    return entry;
  }
}

function admissionOf(rate: Rate, moments: { fullAt: number; now: number }): Admission {
  const retryAfterMs = waitMs(rate, moments);
  return retryAfterMs === 0 ? allowed : { allowed: false, retryAfterMs };
}

/**
 * Names what counts as one address: an IPv4 address, also when written as IPv6 (`::ffff:192.0.2.1`), or the /64 of an IPv6
 * address (`2001:db8:0:1::/64`), for whoever has one has all of it.
 */
export function addressBlock(address: string): string {
  const bare = address.split("%", 1)[0]!.toLowerCase();
  // A text that is no address stays a name of its own, bounded like one.
  if (!isIPv6(bare)) return bare.slice(0, 64);
  const groups = groupsOf(bare);
  if (groups.slice(0, 5).every((it) => it === 0) && groups[5] === 0xffff) {
    return [groups[6]! >> 8, groups[6]! & 255, groups[7]! >> 8, groups[7]! & 255].join(".");
  }
  return `${groups
    .slice(0, 4)
    .map((it) => it.toString(16))
    .join(":")}::/64`;
}

/** The eight numbers of a valid IPv6 address. */
function groupsOf(address: string): number[] {
  const halves = address.split("::").map((half) =>
    half.split(":").flatMap((group) => {
      if (group === "") return [];
      if (!group.includes(".")) return [Number.parseInt(group, 16)];
      const [a, b, c, d] = group.split(".").map(Number) as [number, number, number, number];
      return [a * 256 + b, c * 256 + d];
    }),
  );
  const [head = [], tail = []] = halves;
  return halves.length === 1 ? head : [...head, ...new Array(8 - head.length - tail.length).fill(0), ...tail];
}
