/** Proves in the shells themselves what they complete a command line by, and that each command's help has examples that make sense. */
import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forms } from "../../src/commands/admin-requests.ts";
import { parseArgs } from "../../src/commands/args.ts";
import type { Command } from "../../src/commands/command.ts";
import { completionsOf } from "../../src/commands/completions.ts";
import { findFish, findZsh } from "../support/needs.ts";
import { program, projectFolder } from "../support/program.ts";

setDefaultTimeout(60_000);

async function run(words: string[], cwd = tmpdir()): Promise<string> {
  const child = Bun.spawn(words, { cwd, env: { HOME: cwd, PATH: "/usr/bin:/bin" }, stdin: "ignore", stderr: "pipe" });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return stdout;
}
const shells = ["bash", "zsh", "fish"] as const;
const written = {} as Record<(typeof shells)[number], string>;
beforeAll(async () => {
  for (const shell of shells) written[shell] = await run([...program, "completions", shell]);
});

const formsOf = (start: string) => Object.keys(forms).filter((name) => name.startsWith(start));
const members = formsOf("members ").map((name) => name.slice("members ".length));

/** Line up to the cursor → what is offered there, besides files. */
const offered: [line: string, words: string[]][] = [
  ["ser", ["serve"]],
  ["co", ["config", "connect", "completions"]],
  ["config ", ["check", "print"]],
  ["config --config a.yaml p", ["print"]],
  ["config --config=a.yaml p", ["print"]],
  ["config check ", []],
  ["serve --w", ["--workers"]],
  ["serve --workers ", []],
  ["--conf", ["--config"]],
  ["admin mem", ["members"]],
  ["admin members ", members],
  ["admin --of anna users en", ["enable"]],
  ["admin --tim", ["--timeout"]],
  ["completions z", ["zsh"]],
  ["version --", ["--help"]],
];

function filesFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "ws-complete-"));
  for (const name of ["copy.db", "config one.yaml"]) writeFileSync(join(folder, name), "");
  return folder;
}

describe("bash", () => {
  /** As readline takes a line apart: `=` is a word of its own. */
  async function complete(line: string, cwd?: string): Promise<string[]> {
    const words = ["ws-service", ...line.split(/(=)|\s/).filter((word) => word !== undefined)];
    if (line.endsWith("=")) words.pop();
    const kept = words.filter((word, at) => word !== "" || at === words.length - 1);
    const script = `${written.bash}
COMP_WORDS=(${kept.map((word) => `"${word}"`).join(" ")})
COMP_CWORD=${kept.length - 1}
_ws_service
printf '%s\\n' "\${COMPREPLY[@]}"`;
    return (await run(["bash", "--norc", "-c", script], cwd)).split("\n").filter((word) => word !== "");
  }

  test("[OPS1] offers commands, their words and their options", async () => {
    for (const [line, words] of offered) expect([line, await complete(line)]).toEqual([line, words]);
  });

  test("[OPS1] offers files where a file goes, and nothing where another value does", async () => {
    const folder = filesFolder();
    try {
      for (const line of ["backup co", "restore --config x co", "serve --config co", "serve --config=co"])
        expect([line, (await complete(line, folder)).sort()]).toEqual([line, ["config one.yaml", "copy.db"]]);
      for (const line of ["backup copy.db co", "token --user co", "token --user=co", "config co"])
        expect([line, await complete(line, folder)]).toEqual([line, []]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("fish", () => {
  test("[OPS1] offers the same, with what each is", async () => {
    const fish = findFish();
    const folder = filesFolder();
    try {
      const complete = async (line: string) =>
        (
          await run(
            [fish, "--no-config", "-c", `${written.fish}\ncomplete -C ${JSON.stringify(`ws-service ${line}`)}`],
            folder,
          )
        )
          .split("\n")
          .filter((row) => row !== "")
          .map((row) => row.split("\t")[0]!);
      // It takes a line apart by itself, and knows no options before a command.
      const lines = offered.filter(([line]) => !line.startsWith("--"));
      for (const [line, words] of lines)
        expect([line, (await complete(line)).sort()]).toEqual([line, words.toSorted()]);
      expect((await complete("backup co")).sort()).toEqual(["config one.yaml", "copy.db"]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("zsh", () => {
  /** Shows what it would ask zsh's own functions for, which draw on the terminal. */
  async function complete(line: string): Promise<string[]> {
    const zsh = findZsh();
    const words = ["ws-service", ...line.split(/\s+/)];
    const script = `compdef() { : }
_describe() { print -rl -- "\${(P@)2}" }
_arguments() { print -rl -- "$@" }
${written.zsh}
words=(${words.map((word) => `"${word}"`).join(" ")})
CURRENT=${words.length}
_ws_service`;
    return (await run([zsh, "-f", "-c", script])).split("\n").filter((row) => row !== "");
  }

  test("[OPS1] is told the same", async () => {
    expect(await complete("ser")).toContain("serve:run the service (also without a word)");
    expect(await complete("config ")).toContain("1:what:(check print)");
    expect(await complete("admin members ")).toContain(`2:what:(${members.join(" ")})`);
    expect(await complete("admin stats ")).toContain("2:what:()");
    expect(await complete("backup ")).toContain("1:file:_files");
    const ofServe = await complete("--conf");
    expect(ofServe).toContainEqual(expect.stringMatching(/^\*--config=\[.*\]:file:_files$/));
    expect(ofServe).toContainEqual(expect.stringMatching(/^\*--workers=\[.*\]:number:$/));
    expect(ofServe).toContain("--help[show this]");
  });
});

test("[OPS1] each command's help has examples, and each of them makes sense", async () => {
  const main = await Bun.file(join(projectFolder, "src/main.ts")).text();
  const names = [...main.matchAll(/^ {2}(\w+): async \(\) => \(await import/gm)].map(([, name]) => name!);
  expect(names.length).toBeGreaterThan(8);
  for (const name of names) {
    const module = (await import(join(projectFolder, `src/commands/${name}.ts`))) as Record<string, Command>;
    const command = module[name] ?? completionsOf(async () => []);
    expect(command.name).toBe(name);
    for (const example of command.examples) {
      const words = [...example.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
      const first = words[0]!.startsWith("--") ? "serve" : words.shift();
      expect([example, first]).toEqual([example, name]);
      expect(() => parseArgs(command, words)).not.toThrow();
    }
  }
});

test("[OPS1] no shell that is none", async () => {
  const child = Bun.spawnSync([...program, "completions", "tcsh"], { env: {}, stderr: "pipe" });
  expect([child.exitCode, child.stderr.toString()]).toEqual([2, expect.stringContaining("bash, zsh, fish")]);
});
