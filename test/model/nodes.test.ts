/** Proves the sequencer, the publisher and the catch-up in all orders of what small scenes do, and in some of larger ones. */
import { describe, expect, test } from "bun:test";
import type { LogFlaw } from "./model-log.ts";
import { foundOnce, largeScenes, logFlaws, scenes } from "./scenarios.ts";
import { tryAll, tryOrder, trySome } from "./schedule.ts";
import { type Scenario, World } from "./world.ts";

test.each(Object.entries(scenes) as [string, Scenario][])(
  "[LOG3] [LOG4] everything once, in order, and no cursor above it: %s",
  (_, scene) => {
    const { runs, fault } = tryAll(() => new World(scene));
    expect(fault).toBeNull();
    expect(runs).toBeGreaterThan(50);
  },
);

test.each(Object.entries(largeScenes) as [string, Scenario][])(
  "[LOG3] [LOG4] the same in some orders, as TEST_SEED has them: %s",
  (_, scene) => {
    const seed = Number(Bun.env.TEST_SEED ?? 1);
    const { fault } = trySome(() => new World(scene), { runs: 300, seed });
    expect(fault).toBeNull();
  },
);

test.each(Object.entries(foundOnce))(
  "[LOG3] [LOG4] what was found once does not come back: %s",
  (_, { scene, order }) => {
    expect(tryOrder(new World(scene), order)).toBeNull();
  },
);

describe("the explorer finds what is broken on purpose", () => {
  test.each(Object.keys(logFlaws) as LogFlaw[])("[LOG3] [LOG4] %s", (flaw) => {
    const { scene, fault } = logFlaws[flaw];
    const all: Record<string, Scenario> = { ...scenes, ...largeScenes };
    const play = () => new World(all[scene]!, flaw);
    const tried = scene in scenes ? tryAll(play) : trySome(play, { runs: 2_000, seed: 1 });
    expect(tried.fault?.what).toMatch(fault);
  });
});
