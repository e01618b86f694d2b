/** Keeps how long each test file takes: estimated before, so that the long ones begin first, and measured after, so that people see them. */
import { Glob } from "bun";
import { projectFolder } from "./program.ts";

/** About how long a file of each folder takes, ms: long ones begin first, and what is short fills up the end. */
const usualMs: Record<string, number> = {
  cluster: 10_000,
  browser: 6_000,
  contract: 5_000,
  integration: 4_000,
  model: 4_000,
  binary: 3_000,
  unit: 200,
};

/** Files that take so much longer than the others of their folder that they would end last, ms. */
const longMs: Record<string, number> = {
  "test/binary/release.test.ts": 30_000,
  "test/browser/calls.test.ts": 40_000,
  "test/browser/client-tabs.test.ts": 35_000,
  "test/browser/console.test.ts": 35_000,
  "test/browser/demo.test.ts": 60_000,
  "test/cluster/rolling.test.ts": 30_000,
  "test/contract/postgres.test.ts": 40_000,
  "test/contract/sqlite.test.ts": 30_000,
  "test/integration/backends-page.test.ts": 30_000,
  "test/integration/erasing.test.ts": 50_000,
  "test/integration/ingest-stream.test.ts": 20_000,
  "test/integration/missed.test.ts": 30_000,
  "test/integration/push-worker.test.ts": 30_000,
  "test/integration/small-clients.test.ts": 40_000,
  "test/model/nodes.test.ts": 50_000,
};

/** As `bun test --timings` reads and `--update-timings` writes it; ms. */
interface Timings {
  version: 1;
  files: Record<string, number>;
}

/** Writes what is to be expected: that a file is about as long as the others of its folder needs no upkeep, and few are not. */
export async function estimate(file: string): Promise<void> {
  const timings: Timings = { version: 1, files: {} };
  for await (const path of new Glob("test/*/*.test.ts").scan(projectFolder))
    timings.files[path] = longMs[path] ?? usualMs[path.split("/")[1]!] ?? usualMs.cluster!;
  await Bun.write(file, JSON.stringify(timings));
}

/** @returns a line for each of the files that took the longest, as measured */
export async function slowest(file: string, count: number): Promise<string[]> {
  const { files }: Timings = await Bun.file(file).json();
  const longest = Object.entries(files).toSorted(([, one], [, other]) => other - one);
  return longest.slice(0, count).map(([path, ms]) => `${(ms / 1_000).toFixed(1).padStart(6)} s  ${path}`);
}
