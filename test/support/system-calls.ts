/** Counts the system calls of a running process, of all its threads, while something is done; by strace. */
import { debianProgram } from "./debian.ts";
import { linesOf } from "./lines.ts";

export const findStrace = () => debianProgram("strace", { package: "strace" });

/** Says whether processes may be traced here: a container may forbid it. */
export const canTrace = (): boolean => Bun.spawnSync([findStrace(), "-c", "true"], { stderr: "ignore" }).exitCode === 0;

/** @returns how often each was called, by its name */
export async function countSystemCalls(pid: number, during: () => Promise<void>): Promise<Map<string, number>> {
  const strace = Bun.spawn([findStrace(), "-c", "-f", "-p", String(pid)], { stdout: "ignore", stderr: "pipe" });
  const lines = linesOf(strace.stderr);
  // Said once all threads are attached.
  const first = await lines.next();
  if (!String(first.value).includes("attached")) throw new Error(`strace: ${first.value}`);
  await during();
  strace.kill("SIGINT");
  const counts = new Map<string, number>();
  for await (const line of lines) {
    const [, calls, name] = /^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$/.exec(line) ?? [];
    if (name !== undefined && name !== "total") counts.set(name, Number(calls));
  }
  await strace.exited;
  return counts;
}
