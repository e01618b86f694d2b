/** Proves that the program is built where only that is which the Dockerfile copies, and which a build is given at all [OPS9]. */
import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { projectFolder } from "../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "ws-image-build-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Lists what a stage copies from the project, each with where to. */
function copiesOf(stage: string): [from: string, to: string][] {
  const text = readFileSync(join(projectFolder, "Dockerfile"), "utf8")
    .split(/^FROM /m)
    .find((part) => part.split("\n")[0]!.endsWith(` AS ${stage}`))!;
  return [...text.matchAll(/^COPY (?!--)(.*) (\S+)$/gm)].flatMap(([, sources, to]) =>
    sources!.split(" ").map((from): [string, string] => {
      const isInto = to === "./" || to!.endsWith("/");
      return [from, isInto ? join(to!, from.split("/").at(-1)!) : to!];
    }),
  );
}

test("[OPS9] the executable of the image is built from what its stages copy", () => {
  const given = readFileSync(join(projectFolder, ".dockerignore"), "utf8").split("\n");
  for (const [from, to] of [...copiesOf("tools"), ...copiesOf("build")]) {
    expect(given).toContain(`!${from}`);
    mkdirSync(dirname(join(folder, to)), { recursive: true });
    cpSync(join(projectFolder, from), join(folder, to), { recursive: true });
  }
  // They install these.
  symlinkSync(join(projectFolder, "node_modules"), join(folder, "node_modules"));
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, "build.ts", "executable"], { cwd: folder });
  expect([exitCode, stderr.toString()]).toEqual([0, ""]);
  expect(statSync(join(folder, "dist/ws-service")).size).toBeGreaterThan(10_000_000);
}, 120_000);
