/** The whole check of the project: format and lint, types, the build, every test; its last line is `N passed, N failed`. */
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");
const bun = process.execPath;
// By its file: its own first line asks for Node, which may not be there.
const biome = [bun, join(root, "node_modules/@biomejs/biome/bin/biome")];

let passed = 0;
let failed = 0;

/** Runs a command, showing what it says as it says it. @returns its exit code and all that it said */
async function show(
  command: string[],
  { stdin = "ignore" }: { stdin?: "ignore" | "inherit" } = {},
): Promise<{ code: number; text: string }> {
  console.log(`\n$ ${command.map((word) => word.replace(`${root}/`, "")).join(" ")}`);
  const child = Bun.spawn(command, { cwd: root, stdin, stdout: "pipe", stderr: "pipe" });
  let text = "";
  const relay = async (stream: ReadableStream<Uint8Array>, output: NodeJS.WriteStream) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      output.write(chunk);
      text += decoder.decode(chunk, { stream: true });
    }
  };
  await Promise.all([relay(child.stdout, process.stdout), relay(child.stderr, process.stderr)]);
  return { code: await child.exited, text };
}

/** A step that passes or fails as a whole. */
async function step(command: string[]): Promise<void> {
  const { code } = await show(command);
  if (code === 0) return void passed++;
  failed++;
  console.error(`failed with exit code ${code}`);
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

/** What kills servers under load, at moments of its own, has the machine to itself. */
const storms = ["test/cluster/faults.test.ts", "test/integration/crash.test.ts"];

const named = process.argv.slice(2);
await step([...biome, "check", "--config-path=configs/lint.json", "--error-on-warnings", "."]);
await step([bun, "check", "--no-script"]);
await step([bun, "build.ts"]);
if (named.length > 0) await tests(named);
else {
  // It asks before it installs anything.
  await show([bun, "test/support/needs.ts"], { stdin: "inherit" });
  // Most tests wait for servers: three files at once keep two cores busy. Each has a world of its own.
  await tests(["./test/"], ["--parallel=3", ...storms.map((file) => `--path-ignore-patterns=${file}`)]);
  await tests(storms);
}

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
