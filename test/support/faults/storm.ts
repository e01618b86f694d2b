/** Breaks a stage at random moments, some things at once, and says what it did; the checker judges what clients saw of it. */
import type { During, Faults } from "../checker/population.ts";
import type { Random } from "../checker/random.ts";
import { kinds as allKinds, chooseFault, type Fault, type Kind } from "./kinds.ts";
import type { Stage } from "./stage.ts";

export interface StormOptions {
  stage: Stage;
  kinds?: readonly Kind[];
  /** Come first, in this order. */
  begins?: readonly Kind[];
  /** Between two faults, ms. */
  pauseMs?: { least: number; most: number };
  /** How many may be there at once. */
  atOnceMax?: number;
}

export interface Storm extends Faults {
  /** Tells what has happened, in order, with the moment in ms since the start. */
  course: string[];
  counts: Partial<Record<Kind, number>>;
}

export function createStorm(options: StormOptions): Storm {
  const { stage, kinds = allKinds, begins = [], pauseMs = { least: 200, most: 1_500 }, atOnceMax = 2 } = options;
  const course: string[] = [];
  const counts: Partial<Record<Kind, number>> = {};
  const underWay = new Set<string>();
  /** Work that the judge is told of: until all nodes could serve again. */
  const mending: Promise<void>[] = [];
  const wakers = new Set<() => void>();
  const faults: unknown[] = [];
  let stopped = false;
  let running: Promise<void> = Promise.resolve();

  /** Ends with its time or with the storm. */
  function wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        wakers.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      wakers.add(end);
      if (stopped) end();
    });
  }

  function begin({ kind, target, text, run, ...losses }: Fault, during: During): void {
    counts[kind] = (counts[kind] ?? 0) + 1;
    course.push(text);
    underWay.add(target);
    // Signals are lost until the nodes hear each other again.
    mending.push(
      during(async () => {
        await run(wait).catch((error: unknown) => void faults.push(error));
        underWay.delete(target);
        await stage.whole().catch(() => {});
      }, losses),
    );
  }

  async function rage(random: Random, during: During): Promise<void> {
    const startedAt = performance.now();
    const first = [...begins];
    while (!stopped) {
      await wait(random.between(pauseMs.least, pauseMs.most));
      if (stopped) return;
      const fault = chooseFault(first.shift() ?? random.pick(kinds), { stage, random });
      if (fault === null || underWay.size >= atOnceMax || underWay.has(fault.target)) continue;
      begin({ ...fault, text: `${Math.round(performance.now() - startedAt)} ms: ${fault.text}` }, during);
    }
  }

  return {
    course,
    counts,
    start(random, during) {
      running = rage(random, during);
    },
    async stop() {
      stopped = true;
      for (const wake of [...wakers]) wake();
      await running;
      await Promise.all(mending);
      if (faults.length > 0) throw new AggregateError(faults, "a fault could not be mended");
      await stage.whole();
    },
  };
}
