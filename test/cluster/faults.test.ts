/** Three nodes, PostgreSQL with its standby, and Redis while links, nodes and servers fail at random; a checker judges what clients saw. */
import { expect, test } from "bun:test";
import { plainKinds } from "../support/faults/kinds.ts";
import { type RoundOptions, runRound } from "../support/faults/run.ts";

/**
 * The same choices each time, among them those that once found something; `TEST_SEED=<number>` makes others, and
 * `npm run test:faults`, the long run, new ones in each round.
 */
const seed = Number(process.env.TEST_SEED ?? 33);
const timeoutMs = 180_000;

async function expectNoViolation(options: Omit<RoundOptions, "seed">): Promise<void> {
  console.log(`seed ${seed}`);
  const { violations, counts, text } = await runRound({ seed, ...options });
  console.log(text);
  expect(violations).toBe(0);
  expect(Object.keys(counts).length).toBeGreaterThan(1);
  expect(Object.keys(counts)).toEqual(expect.arrayContaining([...(options.begins ?? [])]));
}

test(
  "[LOG1] [LOG2] [LOG3] [LOG4] three nodes lose nothing and repeat nothing while anything may fail, and a synchronous standby takes over",
  () => expectNoViolation({ durationMs: 12_000, replication: "synchronous", begins: ["snapshot", "failover"] }),
  timeoutMs,
);

test(
  "[LOG3] [PRE1] [CALL4] nor on a Redis Cluster of three masters",
  () => expectNoViolation({ engine: "cluster", kinds: plainKinds, durationMs: 5_000, users: 9 }),
  timeoutMs,
);

test(
  "[LOG3] [PRE1] [CALL4] nor on a master and a replica that a Sentinel watches",
  () => expectNoViolation({ engine: "sentinel", kinds: plainKinds, durationMs: 5_000, users: 9 }),
  timeoutMs,
);
