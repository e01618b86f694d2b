/** Proves how many connections may be nobody's yet, and that nobody has all of those places [CON2]. */
import { expect, test } from "bun:test";
import * as v from "valibot";
import { configSchema } from "../../src/config/schema.ts";
import { ConnectionQuota } from "../../src/websocket/connection-quota.ts";
import { connectionOn } from "../support/server-connection.ts";

const config = v.parse(configSchema, { auth: { max_anonymous: 100, max_anonymous_per_address: 4 } });
const from = (address: string) => connectionOn({}, { address });

test("[CON2] a /48 of IPv6 has the places of five addresses, so that one customer of a provider leaves room for others", () => {
  const quota = new ConnectionQuota(config);
  const site = Array.from({ length: 56 }, (_, index) => from(`2001:db8:1:${index.toString(16)}::1`));
  const taken = site.filter((connection) => quota.take(connection) === null);
  expect(taken).toHaveLength(20);
  expect(quota.take(site.at(-1)!)?.message).toContain("of this address");
  expect(quota.take(from("2001:db8:2::1"))).toBeNull();
  // Each that authenticates, or goes, makes room.
  quota.identify(taken[0]!);
  quota.leave(taken[1]!);
  expect(site.slice(20).filter((connection) => quota.take(connection) === null)).toHaveLength(2);
  const addresses = Array.from({ length: 10 }, (_, index) => from(`192.0.2.${index}`));
  expect(addresses.filter((connection) => quota.take(connection) === null)).toHaveLength(10);
});
