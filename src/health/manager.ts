/** Asks the checkers, each with a deadline and no more often than its answer is old [END2]. */
import { realTimers, type Timers } from "../ground/timers.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Checker } from "./checkers.ts";

/** `degraded`: it serves, though not all of it as well as it should. */
export type Status = "up" | "degraded" | "down";

export interface CheckResult {
  status: Status;
  /** How long the answer took; while a probe hangs, how long it has been hanging. */
  latency_ms: number;
  /** Why it is not up, in words that may be public. */
  error?: string;
}

export interface HealthReport {
  /** That of the checker which is worst. */
  status: Status;
  checks: Record<string, CheckResult>;
}

export interface HealthManagerOptions extends Partial<Timers> {
  checkers: Checker[];
  /** Milliseconds, on a clock that never goes back. */
  now: () => number;
  logger: Logger;
  /** A probe that has not answered by then counts as down. */
  deadlineMs?: number;
  /** So long an answer is good for that all is well. */
  cacheMs?: number;
}

/** So soon is asked again what is not well, so that a node is back soon after it. */
const troubleMs = 1_000;

export interface HealthManager {
  /** Never rejects, and takes no longer than the deadline. `without` leaves out the checker of that name. */
  report(options?: { without?: string }): Promise<HealthReport>;
}

type Probe =
  | { state: "idle" }
  | { state: "asking"; answer: Promise<CheckResult> }
  /** The deadline has passed and the checker still has not answered: it is not asked again before it does. */
  | { state: "hanging"; since: number };

export function createHealthManager(options: HealthManagerOptions): HealthManager {
  const { checkers, now, logger, deadlineMs = 1_000, cacheMs = 5_000, after = realTimers.after } = options;
  const probes = checkers.map((checker) => ({ name: checker.name, probe: createProbe(checker) }));

  function createProbe({ name, check, failure = "down", tellsItself, isInDoubt }: Checker) {
    let probe: Probe = { state: "idle" };
    let last: { result: CheckResult; at: number } | null = null;

    function conclude(result: CheckResult, cause?: unknown): CheckResult {
      const hasChanged = last?.result.status !== result.status && (last !== null || result.status !== "up");
      if (hasChanged && !tellsItself) {
        logger.warn({ checker: name, status: result.status, err: cause }, "health has changed");
      }
      last = { result, at: now() };
      return result;
    }

    function ask(): Promise<CheckResult> {
      const since = now();
      return new Promise((resolve) => {
        const cancel = after(deadlineMs, () => {
          probe = { state: "hanging", since };
          resolve(conclude(hangingSince(since)));
        });
        const settle = (result: CheckResult, cause?: unknown) => {
          cancel();
          // After the deadline the answer is too late to count, but the checker can be asked again.
          const inTime = probe.state === "asking";
          probe = { state: "idle" };
          if (inTime) resolve(conclude(result, cause));
        };
        Promise.try(check).then(
          () => settle({ status: "up", latency_ms: latency(since) }),
          (error: unknown) => settle({ status: failure, latency_ms: latency(since), error: publicText(error) }, error),
        );
      });
    }

    const latency = (since: number) => Math.max(0, Math.round(now() - since));
    const hangingSince = (since: number): CheckResult => ({
      status: failure,
      latency_ms: latency(since),
      error: `no answer within ${deadlineMs} ms`,
    });

    function goodForMs({ status }: CheckResult): number {
      if (status !== "up") return Math.min(cacheMs, troubleMs);
      return isInDoubt?.() === true ? 0 : cacheMs;
    }

    return async (): Promise<[string, CheckResult]> => {
      if (probe.state === "hanging") return [name, hangingSince(probe.since)];
      if (probe.state === "asking") return [name, await probe.answer];
      if (last !== null && now() - last.at < goodForMs(last.result)) return [name, last.result];
      const answer = ask();
      probe = { state: "asking", answer };
      return [name, await answer];
    };
  }

  return {
    async report({ without } = {}) {
      const asked = probes.filter(({ name }) => name !== without);
      const checks = Object.fromEntries(await Promise.all(asked.map(({ probe }) => probe())));
      const found = new Set(Object.values(checks).map(({ status }) => status));
      return { status: worstFirst.find((status) => found.has(status)) ?? "up", checks };
    },
  };
}

const worstFirst: readonly Status[] = ["down", "degraded"];

/** Errors that one is wrapped in, at most. */
const causesMax = 4;

/** Gives the public the code alone: what a driver says may hold addresses and credentials, and is for the log. */
function publicText(error: unknown): string {
  let at = error;
  for (let depth = 0; depth <= causesMax && at instanceof Error; depth++) {
    const code = "code" in at ? at.code : undefined;
    if (typeof code === "string" && /^[A-Z0-9_]{1,64}$/.test(code)) return `failed: ${code}`;
    at = at.cause;
  }
  return "failed";
}
