/** Runs the programs of `docs/client.md`, each section's from its first line to its last: they are typed, and print what the page says. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { linesOf } from "../support/lines.ts";
import { type Block, blocksOf, patternOf } from "../support/page.ts";
import { projectFolder } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

setDefaultTimeout(60_000);

const page = await Bun.file(join(projectFolder, "docs/client.md")).text();

/** The blocks of one section are one program. */
interface Program {
  title: string;
  blocks: Block[];
  code: string;
  printed: string[];
}

const is = (role: string) => (block: Block) => block.role === role;

/** Blocks of which only the types are shown. */
const typed = blocksOf(page).filter(is("typed"));

const programs = page.split(/^(?=## )/m).flatMap((text): Program[] => {
  const title = /^## (.+)/.exec(text)?.[1] ?? "";
  const all = blocksOf(text);
  // In a browser, these have a test of their own.
  const blocks = all.some(is("in a page")) ? [] : all.filter((block) => block.role !== "typed");
  const code = blocks.filter(({ language }) => language === "ts" || language === "js").map((block) => block.text);
  const printed = blocks
    .filter(({ role }) => role.startsWith("prints"))
    .flatMap((block) => block.text.trimEnd().split("\n"));
  return code.length === 0 ? [] : [{ title, blocks, code: code.join("\n"), printed }];
});

const folder = mkdtempSync(join(tmpdir(), "ws-client-page-"));
const isOfNode = ({ blocks }: Program) => blocks.some(is("in Node"));
const fileOf = (program: Program) =>
  join(folder, `${program.title.toLowerCase().replaceAll(/\W+/g, "-")}.${isOfNode(program) ? "js" : "ts"}`);
let service: Service;
let guarded: Service;
let login: Bun.Server<undefined>;
beforeAll(async () => {
  [service, guarded] = await Promise.all([
    startService({ settings: { EVENTS: "poll.vote=logged" } }),
    startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } }),
  ]);
  const inAnHour = () => Math.floor(Date.now() / 1_000) + 3_600;
  login = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: async () => new Response(await signToken({ sub: "anna", exp: inAnHour() })),
  });
  symlinkSync(join(projectFolder, "node_modules"), join(folder, "node_modules"));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  // The page's imports are found here as they would be where the package is installed.
  const config = {
    extends: join(projectFolder, "tsconfig.json"),
    compilerOptions: { lib: ["esnext", "dom"], types: ["node"] },
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ ...config, include: ["*.ts"], references: [] }));
  for (const [at, { text }] of typed.entries()) writeFileSync(join(folder, `typed-${at}.ts`), text);
  for (const program of programs)
    writeFileSync(fileOf(program), program.code.replaceAll(/localhost:(\d+)/g, replaced(program)));
});
afterAll(async () => {
  await Promise.all([service?.stop(), guarded?.stop(), login?.stop(true)]);
  rmSync(folder, { recursive: true, force: true });
});

/** Where the page's servers are in this run. */
const replaced =
  ({ blocks }: Program) =>
  (_: string, port: string) => {
    const chat = blocks.some(is("with tokens")) ? guarded : service;
    return `127.0.0.1:${port === "3000" ? login.port : chat.port}`;
  };

/** The client in one file with the program, for Node reads no TypeScript; the package itself has a test of its own. */
async function bundled(entry: string): Promise<string> {
  const outdir = join(folder, "bundled");
  const { outputs } = await Bun.build({ entrypoints: [entry], outdir, target: "node", external: ["ws"] });
  return outputs[0]!.path;
}

test("[ENV1] [ENV2] every program of the client's page is typed", async () => {
  expect(programs.length).toBeGreaterThan(8);
  const { stdout } = Bun.spawnSync([
    process.execPath,
    join(projectFolder, "node_modules/typescript/bin/tsc"),
    "--noEmit",
    "-p",
    folder,
  ]);
  expect(stdout.toString()).toBe("");
});

test.each(programs)("[CON5] [MSG1] the client's page: $title", async (program) => {
  const isExact = program.blocks.filter(({ role }) => role.startsWith("prints")).every(is("prints"));
  const command = isOfNode(program) ? ["node", await bundled(fileOf(program))] : [process.execPath, fileOf(program)];
  const child = Bun.spawn(command, { cwd: folder, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const lines: string[] = [];
  let rest = [...program.printed];
  try {
    for await (const line of linesOf(child.stdout)) {
      lines.push(line);
      if (rest.length > 0 && patternOf(rest[0]!).test(line)) rest = rest.slice(1);
      else if (isExact) throw new Error(`It has printed:\n${lines.join("\n")}`);
      // A program that stays connected does not end by itself.
      if (rest.length === 0) break;
    }
    expect([rest, lines, rest.length > 0 ? await child.stderr.text() : ""]).toEqual([[], lines, ""]);
  } finally {
    child.kill();
    await child.exited;
  }
});
