/** Runs a bench by its name, or all of them one after another, or writes the page of the last results; without a name it says what there is. */
import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { firstSentence, readOptions, refuse } from "./support/command-line.ts";
import { writePage } from "./support/page.ts";

const words = process.argv.slice(2);
// `profile rooms` is `rooms --profile`, in the place where one looks for it.
const [name = "--help", ...given] = words[0] === "profile" && words[1] ? [...words.slice(1), "--profile"] : words;
const names = readdirSync(import.meta.dir)
  .filter((file) => file.endsWith(".ts") && file !== "main.ts")
  .map((file) => file.slice(0, -".ts".length))
  .sort();
const fileOf = (each: string) => join(import.meta.dir, `${each}.ts`);

if (name === "--help") {
  console.log("npm run bench -- <name|all|page|profile <name>> [--parameter value …], of:\n");
  for (const each of names) console.log(`  ${each.padEnd(16)}${firstSentence(fileOf(each))}`);
  console.log("\n  <name> --help   Says what that one does, and its parameters.");
  console.log("  profile rooms   Says where the service's time goes: also for fanout, connect, storm and flood.");
  console.log("  page            Writes the tables and charts of docs/performance.md from the last results.");
} else if (name === "page") {
  readOptions({}, given, "Writes the tables and charts of docs/performance.md from the last results.");
  writeOrSay();
} else if (name === "all") {
  readOptions({}, given, "Runs all benches one after another, each as it is without parameters.");
  await run(names);
} else if (names.includes(name)) await run([name]);
else refuse(`${name}: there is no such bench; npm run bench says which there are`);

function writeOrSay(): void {
  try {
    writePage();
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}

async function run(benches: string[]): Promise<void> {
  let isEnded = false;
  let child: Bun.Subprocess | null = null;
  // Its bench goes first, and with it all that the bench has started.
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.on(signal, () => {
      isEnded = true;
      child?.kill(signal);
    });
  for (const each of benches) {
    if (isEnded) break;
    console.log(`\n${each}`);
    // Has all of its temporary folders, of the servers that it starts too.
    const folder = mkdtempSync(join(tmpdir(), "ws-service-bench-"));
    // PostgreSQL is another user's program.
    chmodSync(folder, 0o755);
    // Ended in the middle, by a key or a limit of time, it leaves no servers behind.
    child = Bun.spawn([process.execPath, "--no-orphans", fileOf(each), ...given], {
      env: { ...process.env, TMPDIR: folder },
      stdio: ["inherit", "inherit", "inherit"],
    });
    process.exitCode = (await child.exited) || process.exitCode;
    rmSync(folder, { recursive: true, force: true });
  }
}
