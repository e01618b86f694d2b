/** Proves that a connection is not given up for its silence while its identity is still checked [CON1]. */
import { expect, test } from "bun:test";
import { idleSeconds } from "../../src/websocket/server.ts";

test("[CON1] what is no socket yet may be silent for 10 s, or as long as an identity may take and some more", () => {
  const seconds = [1, 5_000, 5_001, 20_000, 86_400_000].map((upgrade_timeout) => idleSeconds({ upgrade_timeout }));
  // The runtime counts no further than 255.
  expect(seconds).toEqual([10, 10, 11, 25, 255]);
});
