/** Bounds what one network address may try: connections a second, and failed authentications a minute [LIM]. */
import type { Config } from "../config/schema.ts";
import { BoundedMap } from "../ground/bounded-map.ts";
import { type IpAddress, isIpv4, readIpAddress } from "../ground/ip-address.ts";
import { afterTake, type Rate, ratePerMinute, waitMs } from "../ground/token-bucket.ts";

export type Admission = { allowed: true } | { allowed: false; retryAfterMs: number };

/** For each limit, when its bucket is full again. */
interface Entry {
  connectionsFullAt: number;
  failuresFullAt: number;
}

const allowed: Admission = { allowed: true };

/** A network may do as much as so many addresses: a provider gives a customer up to a /48 of IPv6, which has 65,536 /64s. */
export const networkAddresses = 5;

/** An address, or the network around it. */
interface Scope {
  name: string;
  rates: { connections: Rate; failures: Rate };
}

export class AddressLimiter {
  readonly #ofAddress: Scope["rates"];
  readonly #ofNetwork: Scope["rates"];
  /** In the order in which they were last heard of. */
  readonly #entries: BoundedMap<string, Entry>;

  /** @param addressesMax beyond so many the one that was heard of longest ago is forgotten */
  constructor(
    private readonly config: Config["rate_limits"],
    { addressesMax = 100_000 }: { addressesMax?: number } = {},
  ) {
    const ratesOf = (addresses: number) => {
      const perSecond = addresses * config.connections_per_second_per_ip;
      const perMinute = addresses * config.failed_authentications_per_minute_per_ip;
      return {
        connections: ratePerMinute({ per_minute: perSecond * 60, burst: perSecond }),
        failures: ratePerMinute({ per_minute: perMinute, burst: perMinute }),
      };
    };
    this.#ofAddress = ratesOf(1);
    this.#ofNetwork = ratesOf(networkAddresses);
    this.#entries = new BoundedMap(addressesMax);
  }

  /** Takes one connection attempt of the address. */
  connect(address: string, now: number): Admission {
    if (!this.config.enabled) return allowed;
    const touched = this.#scopesOf(address).map(({ name, rates }) => ({
      entry: this.#touch(name),
      rate: rates.connections,
    }));
    const refused = touched
      .map(({ entry, rate }) => admissionOf(rate, { fullAt: entry.connectionsFullAt, now }))
      .find((it) => !it.allowed);
    if (refused !== undefined) return refused;
    for (const { entry, rate } of touched)
      entry.connectionsFullAt = afterTake(rate, { fullAt: entry.connectionsFullAt, now });
    return allowed;
  }

  /** Says whether the address may fail to authenticate once more; takes nothing. */
  mayFail(address: string, now: number): Admission {
    if (!this.config.enabled) return allowed;
    const admissions = this.#scopesOf(address).map(({ name, rates }) =>
      admissionOf(rates.failures, { fullAt: this.#entries.get(name)?.failuresFullAt ?? 0, now }),
    );
    return admissions.find((it) => !it.allowed) ?? allowed;
  }

  /** Takes one failed authentication of the address. */
  noteFailure(address: string, now: number): void {
    if (!this.config.enabled) return;
    for (const { name, rates } of this.#scopesOf(address)) {
      const entry = this.#touch(name);
      entry.failuresFullAt = afterTake(rates.failures, { fullAt: entry.failuresFullAt, now });
    }
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

  #scopesOf(address: string): Scope[] {
    const network = addressNetwork(address);
    const own: Scope = { name: addressBlock(address), rates: this.#ofAddress };
    return network === null ? [own] : [own, { name: network, rates: this.#ofNetwork }];
  }

  /** Gives an entry, moved to the end. */
  #touch(name: string): Entry {
    const entry = this.#entries.get(name) ?? { connectionsFullAt: 0, failuresFullAt: 0 };
    this.#entries.set(name, entry);
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
  const bare = bareOf(address);
  const groups = readIpv6(bare);
  // A text that is no address stays a name of its own, bounded like one.
  if (groups === null) return bare.slice(0, 64);
  if (isIpv4(groups)) return [groups[6]! >> 8, groups[6]! & 255, groups[7]! >> 8, groups[7]! & 255].join(".");
  return prefixOf(groups, 4);
}

/** Names the /48 of an IPv6 address (`2001:db8:0::/48`), of which one customer may have all; null for IPv4. */
export function addressNetwork(address: string): string | null {
  const groups = readIpv6(bareOf(address));
  return groups === null || isIpv4(groups) ? null : prefixOf(groups, 3);
}

/** IPv4 is its own name as it is written, and not read for every connection. */
const readIpv6 = (bare: string) => (bare.includes(":") ? readIpAddress(bare) : null);
const bareOf = (address: string) => address.split("%", 1)[0]!.toLowerCase();
const prefixOf = (groups: IpAddress, count: 3 | 4) =>
  `${groups
    .slice(0, count)
    .map((it) => it.toString(16))
    .join(":")}::/${16 * count}`;
