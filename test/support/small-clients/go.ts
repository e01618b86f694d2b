/** Builds what is in Go with the Go that is there; where there is none, says so, for those tests are skipped then. */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { projectFolder } from "../program.ts";

const leastMinor = 24;
const client = join(projectFolder, "clients/go");

/** Whether a Go is there that is new enough; without one it is said loudly, and once. */
export const hasGo = (() => {
  const said = Bun.which("go") === null ? "none" : Bun.spawnSync(["go", "version"]).stdout.toString();
  const there = Number(/go1\.(\d+)/.exec(said)?.[1] ?? 0) >= leastMinor;
  if (!there) console.warn(`SKIPPED: the tests of clients/go need Go 1.${leastMinor}; there is ${said.trim()}.`);
  return there;
})();

/** @throws Error with what Go has said */
function go(words: string[], cwd: string): void {
  const { success, stdout, stderr } = Bun.spawnSync(["go", ...words], { cwd });
  if (!success) throw new Error(`go ${words.join(" ")}: ${stdout}${stderr}`);
}

/** Runs the client's own tests. @throws Error with what fails */
export const testClient = () => go(["test", "."], client);

/** Checks client and player, and builds it. @returns the executable, in the folder */
export function buildPlayer(folder: string): string {
  const executable = join(folder, "player");
  go(["vet", "."], client);
  go(["vet", "."], import.meta.dir);
  go(["build", "-o", executable, "."], import.meta.dir);
  return executable;
}

/** Builds a program of one file that uses the client. @returns the executable, in the folder */
export async function buildProgram(code: string, folder: string): Promise<string> {
  const sources = join(folder, "program.sources");
  await mkdir(sources);
  for (const file of ["go.mod", "go.sum"]) await cp(join(import.meta.dir, file), join(sources, file));
  await Bun.write(join(sources, "main.go"), code);
  go(["mod", "edit", `-replace=github.com/ws-service/ws-service/clients/go=${client}`], sources);
  const executable = join(folder, "program");
  go(["build", "-o", executable, "."], sources);
  return executable;
}
