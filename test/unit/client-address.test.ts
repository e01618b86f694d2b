/** Proves whom the limits of an address are for, as proxies name clients [LIM]. */
import { expect, test } from "bun:test";
import { clientAddress, createTrustedProxies } from "../../src/websocket/addresses.ts";

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
