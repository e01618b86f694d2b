/** Has the runtime wait for longer before its last and slowest compiler takes up what is called often. */

/**
 * JavaScriptCore counts calls and loops of a function, and at this count compiles it once more, which takes milliseconds of another core for
 * each. Ten times its default: after a start, when everybody comes back, a third of all CPU went into that and nothing came of it yet; what is
 * busy for minutes is compiled all the same.
 */
const setting = "BUN_JSC_thresholdForFTLOptimizeAfterWarmUp";
const calls = 1_000_000;

/** As it stands in the environment. */
export const patientCompiler = { [setting]: String(calls) };

export interface Itself {
  /** The words that run this program once more. */
  program: readonly string[];
  argv: readonly string[];
  env: Record<string, string | undefined>;
}

/**
 * The runtime reads such settings from the environment only, before any of our code: the program takes its own place, as the same process
 * with the same files. Does nothing where the setting is there, which is the second time or somebody's wish, where a parent talks to it by a
 * channel that would not come along, under a profiler, and where a process cannot do so.
 */
export function beWithPatientCompiler({ program, argv, env }: Itself): void {
  if (env[setting] !== undefined || process.execve === undefined || process.send !== undefined) return;
  // A profiler stops this thread by signals, and one that is on its way would end what stands here next.
  if (process.execArgv.some((word) => word.startsWith("--cpu-prof"))) return;
  const [file] = program;
  try {
    process.execve(file!, [...program, ...argv], { ...env, ...patientCompiler });
  } catch {
    // Where no program may be started it serves all the same.
  }
}
