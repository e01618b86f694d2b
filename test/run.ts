/** The whole check of the project: format and lint, types, the build, every test; its last line is `N passed, N failed`. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { isPostgresHere, shareNewData } from "./support/postgres.ts";
import { estimate, slowest } from "./support/timings.ts";

const root = resolve(import.meta.dir, "..");
const bun = process.execPath;
// By its file: its own first line asks for Node, which may not be there.
const biome = [bun, join(root, "node_modules/@biomejs/biome/bin/biome")];

/** Most tests wait for servers: two files a core keep the cores busy. Each has a world of its own. */
const filesAtOnce = Math.min(2 * navigator.hardwareConcurrency, 8);

let passed = 0;
let failed = 0;

/** Runs a command, showing what it says: as it says it, or at its end, where others run beside it. @returns its exit code and all that it said */
async function show(
  command: string[],
  { stdin = "ignore", atItsEnd = false }: { stdin?: "ignore" | "inherit"; atItsEnd?: boolean } = {},
): Promise<{ code: number; text: string }> {
  const heading = `\n$ ${command.map((word) => word.replace(`${root}/`, "")).join(" ")}`;
  if (!atItsEnd) console.log(heading);
  // Left out, it would be the environment as this process began with it: what is set below would be missed.
  const child = Bun.spawn(command, { cwd: root, env: process.env, stdin, stdout: "pipe", stderr: "pipe" });
  let text = "";
  const relay = async (stream: ReadableStream<Uint8Array>, output: NodeJS.WriteStream) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      if (!atItsEnd) output.write(chunk);
      text += decoder.decode(chunk, { stream: true });
    }
  };
  await Promise.all([relay(child.stdout, process.stdout), relay(child.stderr, process.stderr)]);
  if (atItsEnd) console.log(`${heading}\n${text.trimEnd()}`);
  return { code: await child.exited, text };
}

/** A step that passes or fails as a whole, beside others. @returns whether it has passed */
async function step(command: string[]): Promise<boolean> {
  const { code } = await show(command, { atItsEnd: true });
  if (code === 0) passed++;
  else {
    failed++;
    console.error(`failed with exit code ${code}`);
  }
  return code === 0;
}

/** Counts what `bun test` sums up at its end; an end without a sum is a failure. */
async function tests(paths: string[], options: string[] = []): Promise<void> {
  const { code, text } = await show([bun, "test", "--timeout", "60000", ...options, ...paths]);
  const last = (pattern: RegExp) => Number([...text.matchAll(pattern)].at(-1)?.[1] ?? 0);
  const counts = { passed: last(/^ *(\d+) pass$/gm), failed: last(/^ *(\d+) fail$/gm) };
  passed += counts.passed;
  failed += counts.failed;
  if (counts.passed + counts.failed === 0) {
    failed++;
    console.error(`no test ran in ${paths.join(", ")}`);
  } else if (code !== 0 && counts.failed === 0) {
    // Such as a file that could not be loaded, or an error after the last test.
    failed++;
    console.error(`failed with exit code ${code}`);
  }
}

/** Tests that end servers under load, at moments of their own, have the machine to themselves, two of them. */
const storms = ["test/cluster/faults.test.ts", "test/cluster/rolling.test.ts", "test/integration/crash.test.ts"];

/** Runs every test file, and tells which took the longest. */
async function everything(): Promise<void> {
  // It asks before it installs anything.
  await show([bun, "test/support/needs.ts"], { stdin: "inherit" });
  const folder = mkdtempSync(join(tmpdir(), "ws-tests-"));
  const timings = join(folder, "timings.json");
  const newData = isPostgresHere() ? await shareNewData().catch(() => null) : null;
  try {
    await estimate(timings);
    const measured = [`--timings=${timings}`, "--update-timings"];
    const others = [`--parallel=${filesAtOnce}`, ...storms.map((file) => `--path-ignore-patterns=${file}`)];
    await tests(["./test/"], [...measured, ...others]);
    await tests(storms, [...measured, "--parallel=2"]);
    console.log(`\nThe slowest files:\n${(await slowest(timings, 10)).join("\n")}\n`);
  } finally {
    newData?.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

const named = process.argv.slice(2);
const [isBuilt] = await Promise.all([
  step([bun, "build.ts"]),
  step([...biome, "check", "--config-path=configs/lint.json", "--error-on-warnings", "."]),
  step([bun, "check", "--no-script", "--build"]),
]);
// Tests of the service start what was built here.
if (isBuilt) process.env.TEST_PROGRAM = "binary";
if (named.length > 0) await tests(named);
else await everything();

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
