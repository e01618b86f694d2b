/** Proves the log's protocol in all orders of its steps for small worlds, and that a broken step is found. */
import { describe, expect, test } from "bun:test";
import { flaws, worlds } from "./bounds.ts";
import { explore } from "./explore.ts";
import { type Bounds, type Flaw, protocolOf } from "./protocol.ts";

const named = Object.entries(worlds) as [string, Bounds][];

test.each(named)(
  "[LOG3] [LOG4] no cursor passes what is still to be seen, no topic has a hole, nobody waits for ever: %s",
  (_, world) => {
    const { states, fault } = explore(protocolOf(world));
    expect(fault).toBeNull();
    expect(states).toBeGreaterThan(500);
  },
);

describe("the model finds what is broken on purpose", () => {
  test.each(Object.keys(flaws) as Flaw[])("[LOG3] [LOG4] %s", (flaw) => {
    const { fault } = explore(protocolOf(worlds[flaws[flaw].world], flaw));
    expect(fault?.what).toMatch(flaws[flaw].fault);
  });
});
