/** The fault of a lone node: it is killed without warning again and again, and started on the same folder and port. */
import { type Service, startService } from "../service.ts";
import type { Faults } from "./population.ts";
import type { Random } from "./random.ts";

export interface CrashOptions {
  /** How long the node lives between two crashes, ms. */
  lifetimeMs: { least: number; most: number };
  /** It is killed at least so often. */
  killsMin?: number;
  settings?: Record<string, string>;
}

export interface Crashes extends Faults {
  /** The node as it is now. */
  service(): Service;
  /** How often it was killed. */
  count(): number;
}

/** Takes over a running service; the caller stops `service()` in the end. */
export function createCrashes(first: Service, { lifetimeMs, killsMin = 0, settings = {} }: CrashOptions): Crashes {
  let service = first;
  let kills = 0;
  let running: Promise<void> = Promise.resolve();
  let stopped = false;
  let wake = () => {};

  async function crashAgainAndAgain(random: Random, during: (work: () => Promise<void>) => Promise<void>) {
    for (;;) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, random.between(lifetimeMs.least, lifetimeMs.most));
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
        if (stopped) wake();
      });
      if (stopped) return;
      await during(async () => {
        await service.kill();
        kills++;
        service = await startService({
          folder: service.folder,
          settings: { ...settings, SERVER__PORT: String(service.port) },
        });
      });
    }
  }

  return {
    start(random, during) {
      running = crashAgainAndAgain(random, during);
    },
    isEnough: () => kills >= killsMin,
    async stop() {
      stopped = true;
      wake();
      await running;
    },
    service: () => service,
    count: () => kills,
  };
}
