/** Reads IP addresses and blocks of them, so that they are compared by what they are and not by how they are written. */

/**
 * Eight numbers of 16 bits, from the left; of IPv4 those of `::ffff:192.0.2.1`. Read here, for the platform's own reader comes with all of
 * its sockets and streams, which took an eighth of a start.
 */
export type IpAddress = readonly number[];

const octet = /^(?:0|[1-9]\d{0,2})$/;
const group = /^[\da-f]{1,4}$/i;
/** Says of a link-local address by which interface it is reached; it is no part of the address. */
const zone = /%[\da-z.:-]+$/i;
const mapped = [0, 0, 0, 0, 0, 0xffff];

/** @returns null where the text is no address */
export function readIpAddress(text: string): IpAddress | null {
  if (!text.includes(":")) {
    const low = readIpv4(text);
    return low === null ? null : [...mapped, ...low];
  }
  const halves = text.replace(zone, "").split("::");
  if (halves.length > 2) return null;
  const [head, tail = null] = halves.map((half, at) => readGroups(half, { isLast: at === halves.length - 1 }));
  if (head === undefined || head === null) return null;
  if (halves.length === 1) return head.length === 8 ? head : null;
  // At least one group of zeros is left out.
  if (tail === null || head.length + tail.length > 7) return null;
  return [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
}

/** @returns 0 where the text is no address; 6 where it is written as one of IPv6, be it that of an IPv4 address */
export function ipVersionOf(text: string): 0 | 4 | 6 {
  if (readIpAddress(text) === null) return 0;
  return text.includes(":") ? 6 : 4;
}

/** Whether it is of IPv4, also where it was written as `::ffff:192.0.2.1`. */
export const isIpv4 = (address: IpAddress): boolean => mapped.every((each, at) => address[at] === each);

export interface IpBlock {
  first: IpAddress;
  /** How many bits of `first`, from the left, all of its addresses have. */
  bits: number;
}

/** `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`. @returns null where the text is neither an address nor a block */
export function readIpBlock(text: string): IpBlock | null {
  const [written = "", prefix, ...others] = text.split("/");
  const first = readIpAddress(written);
  if (first === null || others.length > 0) return null;
  if (prefix === undefined) return { first, bits: 128 };
  const most = written.includes(":") ? 128 : 32;
  return /^\d{1,3}$/.test(prefix) && Number(prefix) <= most ? { first, bits: 128 - most + Number(prefix) } : null;
}

export function isInBlock(address: IpAddress, { first, bits }: IpBlock): boolean {
  return address.every((each, at) => {
    const unlike = Math.min(16, Math.max(0, 16 * (at + 1) - bits));
    return each >> unlike === first[at]! >> unlike;
  });
}

function readGroups(half: string, { isLast }: { isLast: boolean }): number[] | null {
  if (half === "") return [];
  const parts = half.split(":");
  const low = isLast && half.includes(".") ? readIpv4(parts.pop()!) : [];
  return low === null || !parts.every((part) => group.test(part))
    ? null
    : [...parts.map((part) => Number.parseInt(part, 16)), ...low];
}

function readIpv4(text: string): [number, number] | null {
  const octets = text.split(".");
  if (octets.length !== 4 || !octets.every((each) => octet.test(each) && Number(each) <= 255)) return null;
  const [a, b, c, d] = octets.map(Number) as [number, number, number, number];
  return [a * 256 + b, c * 256 + d];
}
