/** One round of faults: a fresh stage, a storm over it, and what the checker says of it. */
import { report } from "../checker/judge.ts";
import { type CheckerOptions, check } from "../checker/population.ts";
import type { Kind } from "./kinds.ts";
import { type Engine, openStage } from "./stage.ts";
import { createStorm, type Storm } from "./storm.ts";

export interface RoundOptions extends Pick<CheckerOptions, "users" | "conversations" | "durationMs"> {
  seed: number;
  engine?: Engine;
  kinds?: readonly Kind[];
}

export interface Round {
  violations: number;
  counts: Storm["counts"];
  /** For people; with what happened where a rule was broken. */
  text: string;
}

/** Rest may need a node that comes up, a Sentinel that chooses, and everybody's backoff, ms. */
const patienceMs = 40_000;
const shownLogLines = 12;

/** The stage is gone when this resolves, and also when it rejects. */
export async function runRound({ seed, engine = "redis", kinds, ...population }: RoundOptions): Promise<Round> {
  const stage = await openStage({ engine });
  const storm = createStorm({ stage, kinds });
  try {
    const verdict = await check({
      urls: stage.nodes.map(({ url }) => url),
      seed,
      users: 12,
      conversations: 5,
      // Slow readers stall; the other ways to leave are here too.
      behaviour: { stall: 3, drop: 2, leave: 1, dropReplay: 2 },
      pauseMs: { least: 50, most: 500 },
      patienceMs,
      faults: storm,
      ...population,
    });
    const lines = [`${engine}, faults: ${JSON.stringify(storm.counts)}`, report(verdict)];
    if (verdict.violations.length > 0) {
      lines.push(...storm.course.map((line) => `  ${line}`));
      for (const { name, service } of stage.nodes) {
        const warnings = service().logs.filter(({ level }) => level !== "info");
        lines.push(`${name}:`, ...warnings.slice(-shownLogLines).map((line) => `  ${JSON.stringify(line)}`));
      }
    }
    return { violations: verdict.violations.length, counts: storm.counts, text: lines.join("\n") };
  } finally {
    // Where the check itself has failed the storm still rages.
    await storm.stop().catch(() => {});
    await stage.stop();
  }
}
