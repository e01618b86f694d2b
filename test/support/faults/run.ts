/** One round of faults: a fresh stage, a storm over it, and what the checker says of it. */

import type { History } from "../checker/history.ts";
import { report, type Violation } from "../checker/judge.ts";
import { type CheckerOptions, check } from "../checker/population.ts";
import { checked } from "../checker/settings.ts";
import type { LogLine } from "../service.ts";
import type { Kind } from "./kinds.ts";
import { openStage, type Stage, type StageOptions } from "./stage.ts";
import { createStorm, type Storm } from "./storm.ts";

export interface RoundOptions extends Pick<CheckerOptions, "users" | "conversations" | "durationMs" | "behaviour"> {
  seed: number;
  engine?: StageOptions["engine"];
  replication?: StageOptions["replication"];
  kinds?: readonly Kind[];
  begins?: readonly Kind[];
  /** Called with the stage once it is there, so that whoever is interrupted can end it. */
  onStage?: (stage: Stage) => void;
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

/** A connection whose identity or place cannot be looked up while the database is away is sent off to come back [ENV5]. */
const isOutage = ({ rule, text }: Violation) => rule === "no-fault" && text.endsWith("was closed with 4100");

/** Finds what a node says as an error nobody had expected, whatever is away. */
const surprises = ({ nodes }: Stage, { logLosses }: History): Violation[] =>
  nodes.flatMap(({ name, service }) => {
    // That PostgreSQL is away is an error, and what was to be seen; so is a loss where there was one.
    const isExpected = ({ err, msg }: LogLine) =>
      (err as { part?: string } | undefined)?.part === "storage" ||
      (logLosses.length > 0 && msg.startsWith("the log has gone back"));
    const errors = service().logs.filter(
      (line) => line.level === "fatal" || (line.level === "error" && !isExpected(line)),
    );
    return errors.length === 0 ? [] : [{ rule: "no-surprise", text: `${name} was surprised`, evidence: errors }];
  });

/** Tells what happened, and how the nodes are: for people. */
async function stateOf({ nodes }: Stage, { course }: Storm): Promise<string[]> {
  const lines = course.map((line) => `  ${line}`);
  for (const { name, service } of nodes) {
    const health = await fetch(`${service().http}/health`).then((it) => it.text(), String);
    const warnings = service().logs.filter(({ level }) => level !== "info");
    lines.push(`${name}: ${health}`, ...warnings.slice(-shownLogLines).map((line) => `  ${JSON.stringify(line)}`));
  }
  return lines;
}

/** The stage is gone when this resolves, and also when it rejects. */
export async function runRound({
  seed,
  engine = "redis",
  replication,
  kinds,
  begins,
  onStage,
  behaviour,
  ...population
}: RoundOptions): Promise<Round> {
  const stage = await openStage({ engine, replication });
  onStage?.(stage);
  const storm = createStorm({ stage, kinds, begins });
  try {
    const verdict = await check({
      urls: stage.nodes.map(({ url }) => url),
      seed,
      users: 12,
      conversations: 5,
      // Slow readers stall; the other ways to leave are here too.
      behaviour: behaviour ?? { stall: 3, drop: 2, leave: 1, dropReplay: 2 },
      pauseMs: { least: 50, most: 500 },
      patienceMs,
      ...checked,
      faults: storm,
      forgives: isOutage,
      ...population,
    });
    const unexpected = surprises(stage, verdict.history);
    const violations = [...verdict.violations, ...unexpected];
    const lines = [`${engine}, faults: ${JSON.stringify(storm.counts)}`, report({ ...verdict, violations })];
    if (violations.length > 0) {
      for (const { text, evidence } of unexpected) lines.push(text, ...evidence.map((it) => JSON.stringify(it)));
      lines.push(...(await stateOf(stage, storm)));
    }
    return { violations: violations.length, counts: storm.counts, text: lines.join("\n") };
  } catch (error) {
    throw new Error(
      [`${engine}: the round could not be played to its end`, ...(await stateOf(stage, storm))].join("\n"),
      {
        cause: error,
      },
    );
  } finally {
    // Where the check itself has failed the storm still rages.
    await storm.stop().catch(() => {});
    await stage.stop();
  }
}
