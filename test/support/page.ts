/** Plays a page of the documents as a reader would: its files, its commands in a shell, its SQL, and what is typed and seen in terminals. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { linesOf } from "./lines.ts";

/** A block of code with the comment before it, which says whose it is and what happens with it. */
export interface Block {
  /** `file configs/config.yaml`, `anna`, `anna types`, `anna sees`, `prints`; empty where there is none. */
  role: string;
  language: string;
  text: string;
  /** Where it begins in the page, from 1. */
  line: number;
}

export function blocksOf(page: string): Block[] {
  const found = page.matchAll(/^(?:<!-- ([^\n]+) -->\n)?```(\w*)\n([\s\S]*?)^```$/gm);
  return [...found].map(({ index, 1: role = "", 2: language = "", 3: text = "" }) => ({
    role,
    language,
    text,
    line: page.slice(0, index).split("\n").length,
  }));
}

/** Reads a line that the page shows, in which `…` stands for anything. */
export function patternOf(shown: string): RegExp {
  const parts = shown.split("…").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}

export interface ReaderOptions {
  /** Names and ports of the page → those of the run. */
  replaced: Record<string, string>;
  /** Files that are there beforehand, by path. */
  files: Record<string, string>;
  /** Programs by name: lines of a shell script. */
  programs: Record<string, string>;
  /** Run in the shell at the end, whatever has happened before. */
  cleanUp: string;
  /** How long a block of commands may take. */
  commandsMs: number;
}

/** How long a line may take that the page shows. */
const seenWithinMs = 30_000;

export class Reader {
  readonly folder = mkdtempSync(join(tmpdir(), "ws-page-"));
  readonly #shell: Terminal;
  readonly #terminals = new Map<string, Terminal>();
  #printed: string[] = [];

  constructor(private readonly options: ReaderOptions) {
    // Servers that do not run as root write here as somebody else.
    chmodSync(this.folder, 0o777);
    const bin = join(this.folder, ".bin");
    mkdirSync(bin);
    for (const [path, text] of Object.entries(options.files)) this.#write(path, text);
    for (const [name, script] of Object.entries(options.programs))
      writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    this.#shell = this.#open(["bash"], options.commandsMs);
    this.#shell.type("exec 2>&1; trap 'kill $(jobs -p) 2>/dev/null' EXIT; set -euo pipefail");
  }

  async play(block: Block): Promise<void> {
    try {
      await this.#play({ ...block, text: this.#replaced(block.text) });
    } catch (error) {
      throw new Error(`line ${block.line} of the page: ${(error as Error).message}`, { cause: error });
    }
  }

  async end(): Promise<void> {
    await Promise.all([...this.#terminals.values()].map((terminal) => terminal.kill()));
    await this.#shell.leave();
    await this.#open(["bash", "-c", this.#replaced(this.options.cleanUp)]).ended;
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #play({ role, language, text }: Block): Promise<void> {
    const [who = "", does] = role.split(" ");
    if (role.startsWith("file ")) return this.#write(role.slice("file ".length), text);
    if (role === "prints") return this.#expectPrinted(text);
    if (does === "types") return this.#terminal(who).type(text.trimEnd());
    if (does === "sees") return this.#terminal(who).see(text.trimEnd().split("\n"));
    if (language === "sql") return this.#query(text);
    if (language !== "sh") throw new Error(`nothing happens with a block of ${language} ${role}`);
    if (role === "") this.#printed = await this.#shell.run(text);
    else this.#terminals.set(who, this.#open(["bash", "-c", text]));
  }

  #write(path: string, text: string): void {
    const file = join(this.folder, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  #expectPrinted(text: string): void {
    const rest = [...this.#printed];
    for (const shown of text.trimEnd().split("\n")) {
      const at = rest.findIndex((line) => patternOf(shown).test(line));
      if (at < 0) throw new Error(`not printed: ${shown}\nbut:\n${this.#printed.join("\n")}`);
      rest.splice(0, at + 1);
    }
  }

  /** The first line says whose statements they are. */
  async #query(text: string): Promise<void> {
    const command = /^-- (psql .*)$/m.exec(text)?.[1];
    if (command === undefined) throw new Error("no line says with which psql it is run");
    this.#printed = await this.#shell.run(
      `${command} --quiet --set=ON_ERROR_STOP=1 <<'END_OF_SQL'\n${text}END_OF_SQL\n`,
    );
  }

  #terminal(name: string): Terminal {
    const terminal = this.#terminals.get(name);
    if (terminal === undefined) throw new Error(`no terminal is ${name}'s`);
    return terminal;
  }

  #open(command: string[], patienceMs = seenWithinMs): Terminal {
    const { folder } = this;
    const env = { ...process.env, PATH: `${join(folder, ".bin")}:${process.env.PATH}`, HOME: folder };
    return new Terminal({ command, cwd: folder, env, patienceMs });
  }

  #replaced(text: string): string {
    const { replaced } = this.options;
    return text.replace(new RegExp(Object.keys(replaced).join("|"), "g"), (found) => replaced[found]!);
  }
}

interface TerminalOptions {
  command: string[];
  cwd: string;
  env: Record<string, string | undefined>;
  patienceMs: number;
}

let runs = 0;

/** Holds one terminal with what runs in it: a shell, or a command that goes on. */
class Terminal {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #lines: string[] = [];
  readonly #watchers = new Set<() => void>();
  /** Lines that were seen before are not looked at again. */
  #seen = 0;
  #hasEnded = false;
  readonly ended: Promise<unknown>;

  constructor(private readonly options: TerminalOptions) {
    const { command, cwd, env } = options;
    this.#child = Bun.spawn(command, { cwd, env, stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    // As a terminal shows them, both.
    void this.#read(this.#child.stdout);
    void this.#read(this.#child.stderr);
    this.ended = this.#child.exited.then(() => {
      this.#hasEnded = true;
      this.#look();
    });
  }

  type(text: string): void {
    this.#child.stdin.write(`${text}\n`);
    this.#child.stdin.flush();
  }

  /** Each of the lines comes, in their order, after what was seen before; others may come between. */
  async see(shown: string[]): Promise<void> {
    for (const line of shown) {
      const pattern = patternOf(line);
      this.#seen =
        1 + (await this.#until(() => this.#lines.findIndex((it, at) => at >= this.#seen && pattern.test(it)), line));
    }
  }

  /** Runs a script to its end. @returns what it has printed */
  async run(script: string): Promise<string[]> {
    const mark = `end-of-run-${++runs}`;
    const from = this.#lines.length;
    const file = join(this.options.cwd, `.${mark}`);
    writeFileSync(file, script);
    this.type(`source ${file}; echo ${mark}`);
    const end = await this.#until(() => this.#lines.findIndex((it, at) => at >= from && it === mark), script);
    return this.#lines.slice(from, end);
  }

  /** Takes a shell's leave; what it has in the background ends with it. */
  async leave(): Promise<void> {
    if (!this.#hasEnded) this.type("exit 0");
    await this.ended;
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  /** @returns what `find` finds once that is no longer -1 */
  #until(find: () => number, what: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const fail = (why: string) =>
        end(() => reject(new Error(`${why}: ${what}\nhad:\n${this.#lines.slice(-30).join("\n")}`)));
      const timer = setTimeout(() => fail("did not come"), this.options.patienceMs);
      const look = () => {
        const found = find();
        if (found >= 0) end(() => resolve(found));
        else if (this.#hasEnded) fail("the terminal has ended before");
      };
      const end = (settle: () => void) => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        settle();
      };
      this.#watchers.add(look);
      look();
    });
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const line of linesOf(stream)) {
      this.#lines.push(line);
      this.#look();
    }
  }

  #look(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
