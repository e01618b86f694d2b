/** Proves whom the limits of an address are for, as proxies name clients [LIM]. */
import { expect, test } from "bun:test";
import { clientAddress, createTrustedProxies, isOfThisMachine } from "../../src/websocket/addresses.ts";

const isTrusted = createTrustedProxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"]);
const of = (forwardedFor: string | null, peer = "127.0.0.1") => clientAddress(peer, { forwardedFor, isTrusted });

test("[LIM] the nearest address that is no trusted proxy is the client's", () => {
  expect(of(null)).toBe("127.0.0.1");
  expect(of("198.51.100.7, 192.0.2.1, 10.1.2.3")).toBe("192.0.2.1");
  expect(of("192.0.2.1", "203.0.113.9")).toBe("203.0.113.9");
  expect(of("2001:db8::7, fd00::1", "::ffff:127.0.0.1")).toBe("2001:db8::7");
});

test("[LIM] a proxy may name the client's port too, and IPv6 in brackets", () => {
  expect(of("192.0.2.1:51034")).toBe("192.0.2.1");
  expect(of("192.0.2.1:51034, 10.1.2.3:80")).toBe("192.0.2.1");
  expect(of("[2001:db8::7]:51034")).toBe("2001:db8::7");
  expect(of("[2001:db8::7]")).toBe("2001:db8::7");
});

test("[LIM] what is no address is nobody's: the proxy that says it is as near as one gets", () => {
  for (const odd of ["unknown", "_hidden", "192.0.2.1:port", "192.0.2:80", "[::1", "2001:db8::7]:1", "1:2"]) {
    expect(of(`192.0.2.9, ${odd}`)).toBe("127.0.0.1");
  }
});

test("[CON1] [CON2] what anybody on the way says to be passed on for another machine is not of this one", () => {
  const of = (headers: Record<string, string>, peer = "127.0.0.1") => isOfThisMachine(peer, new Headers(headers));
  expect(of({})).toBe(true);
  expect(of({}, "192.0.2.1")).toBe(false);
  for (const own of ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.1:51034", "[::1]:80, 127.0.0.1", ""])
    expect(of({ "x-forwarded-for": own })).toBe(true);
  for (const other of ["192.0.2.1", "127.0.0.1, 192.0.2.1", "192.0.2.1, 127.0.0.1", "2001:db8::1", "unknown"])
    for (const name of ["x-forwarded-for", "x-real-ip"]) expect(of({ [name]: other })).toBe(false);
  expect(of({ forwarded: 'for="[::1]:80";proto=https, for=127.0.0.1' })).toBe(true);
  expect(of({ forwarded: "for=127.0.0.1, For=192.0.2.1;by=127.0.0.1" })).toBe(false);
});
