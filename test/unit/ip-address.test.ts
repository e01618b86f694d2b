/** Proves that addresses and blocks are read as the platform reads them [LIM]. */
import { expect, test } from "bun:test";
import { BlockList, isIP } from "node:net";
import fc from "fast-check";
import { ipVersionOf, isInBlock, readIpAddress, readIpBlock } from "../../src/ground/ip-address.ts";

const odd =
  "1.2.3.4:5 01.2.3.4 1.2.3.256 1.2.3. ::1% ::1%a_b fe80::1%eth0 1::2::3 :: ::: 12345:: ::1.2.3.04 ::FFFF:1.2.3.4"
    .split(" ")
    .concat(["", " ", "1.2.3.4 ", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "1.2.3.4::", "1:2:3:4:5:6:7::"])
    .concat([
      "::2:3:4:5:6:7:8",
      "1::3:4:5:6:7:8",
      "1:2:3:4:5:6:7:8::",
      "1:2:3:4:5:6:7:8",
      ":1:2:3:4:5:6:7",
      "1.2.3.4.5",
    ]);

/** Addresses, and what is nearly one. */
const nearly = fc
  .tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.option(fc.tuple(fc.nat(40), fc.constantFrom(..."0129afg.:% "))))
  .map(([address, change]) => {
    if (change === null) return address;
    const [at, character] = change;
    return `${address.slice(0, at)}${character}${address.slice(at + 1)}`;
  });

test("[LIM] a text is an address where it is one for the platform", () => {
  for (const text of odd) expect([text, ipVersionOf(text)]).toEqual([text, isIP(text) as 0 | 4 | 6]);
  fc.assert(
    fc.property(nearly, (text) => {
      expect(ipVersionOf(text)).toBe(isIP(text) as 0 | 4 | 6);
    }),
    { numRuns: 2_000 },
  );
});

test("[LIM] an address is in a block where it is for the platform, IPv4 also as IPv6", () => {
  const familyOf = (text: string) => (text.includes(":") ? "ipv6" : "ipv4");
  const near = (text: string) =>
    fc.oneof(fc.constant(text), nearly, fc.constant(familyOf(text) === "ipv4" ? `::ffff:${text}` : text));
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.ipV6()).chain((first) => fc.tuple(fc.constant(first), fc.nat(140), near(first))),
      ([first, bits, address]) => {
        const most = familyOf(first) === "ipv4" ? 32 : 128;
        const block = readIpBlock(`${first}/${bits}`);
        if (bits > most) return expect(block).toBeNull();
        if (isIP(address) === 0) return expect(readIpAddress(address)).toBeNull();
        const list = new BlockList();
        list.addSubnet(first, bits, familyOf(first));
        expect(isInBlock(readIpAddress(address)!, block!)).toBe(list.check(address, familyOf(address)));
      },
    ),
    { numRuns: 2_000 },
  );
  for (const text of ["10.0.0.0/", "10.0.0.0/8/8", "10.0.0.0/-1", "10.0.0.0/1.5", "/8", "10.0.0/8"])
    expect(readIpBlock(text)).toBeNull();
});
