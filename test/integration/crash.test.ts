/** Nothing acknowledged is lost: the service is killed again and again while clients send; a checker judges what they saw. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createCrashes } from "../support/checker/crashes.ts";
import { report } from "../support/checker/judge.ts";
import { type CheckerOptions, check } from "../support/checker/population.ts";
import { checked, checkedSettings } from "../support/checker/settings.ts";
import { type Service, startService } from "../support/service.ts";

/** `TEST_SEED=<number>` plays a run again. */
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
/** A run lives for some seconds and may wait for rest as long again. */
const timeoutMs = 60_000;
let service: Service;
beforeAll(async () => {
  service = await startService({ settings: checkedSettings });
});
afterAll(() => service.stop());

async function expectNothingLost(options: Partial<CheckerOptions>): Promise<void> {
  const crashes = createCrashes(service, {
    lifetimeMs: { least: 400, most: 2_000 },
    killsMin: 3,
    settings: checkedSettings,
  });
  try {
    // One user in three has two devices: 51 clients.
    const population = { urls: [service.url], seed, users: 38, conversations: 12, ...checked };
    const verdict = await check({ ...population, faults: crashes, ...options });
    console.log(`${report(verdict)} (killed ${crashes.count()} times)`);
    expect(verdict.violations).toEqual([]);
  } finally {
    await crashes.stop();
    service = crashes.service();
  }
}

test(
  "[LOG1] [LOG2] [LOG3] what is acknowledged survives kill -9, once and in order, while 50 clients send",
  async () => {
    const behaviour = { drop: 0, leave: 0, stall: 0, dropReplay: 0 };
    await expectNothingLost({ durationMs: 5_500, behaviour });
  },
  timeoutMs,
);

test(
  "[LOG4] [LOG5] [LOG6] [CON7] nor is it lost to clients that break off, are slow, or vanish in a replay",
  async () => {
    const behaviour = { drop: 4, leave: 2, stall: 4, dropReplay: 6 };
    await expectNothingLost({ durationMs: 6_500, behaviour, contentLengthMax: 30_000 });
  },
  timeoutMs,
);
