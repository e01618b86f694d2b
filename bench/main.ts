/** Runs a bench by its name, or all of them one after another, or writes the page of the last results; without a name it says what there is. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writePage } from "./support/page.ts";

const words = process.argv.slice(2);
// `profile rooms` is `rooms --profile`, in the place where one looks for it.
const [name, ...given] = words[0] === "profile" ? [...words.slice(1), "--profile"] : words;
const names = readdirSync(import.meta.dir)
  .filter((file) => file.endsWith(".ts") && file !== "main.ts")
  .map((file) => file.slice(0, -".ts".length))
  .sort();

if (name === "page") {
  writePage();
  process.exit(0);
}
if (name !== "all" && !names.includes(name ?? "")) {
  console.log("npm run bench -- <name|all|page|profile <name>> [--parameter value …], of:\n");
  for (const each of names) console.log(`  ${each.padEnd(16)}${firstSentence(each)}`);
  console.log("\n  profile rooms   Says where the service's time goes: also for fanout, connect, storm and flood.");
  console.log("  page            Writes the tables and charts of docs/performance.md from the last results.");
  process.exit(name === undefined || name === "--help" ? 0 : 1);
}
for (const each of name === "all" ? names : [name!]) {
  console.log(`\n${each}`);
  // Ended in the middle, by a key or a limit of time, it leaves no servers behind.
  const child = Bun.spawn([process.execPath, "--no-orphans", join(import.meta.dir, `${each}.ts`), ...given], {
    stdio: ["inherit", "inherit", "inherit"],
  });
  if ((await child.exited) !== 0) process.exitCode = 1;
}

function firstSentence(each: string): string {
  const text = readFileSync(join(import.meta.dir, `${each}.ts`), "utf8");
  return /^\/\*\*[\s*]*(.*?)(?:\n| \*\/)/.exec(text)?.[1] ?? "";
}
