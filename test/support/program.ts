/** Names the program that is tested, and runs one command of the compiled binary to its end. */
import { join, resolve } from "node:path";

export const projectFolder = resolve(import.meta.dir, "../..");
export const binaryFile = join(projectFolder, "dist/ws-service");
export const mainFile = join(projectFolder, "src/main.ts");

/**
 * The command line of the service: its sources; in the whole check, which sets `TEST_PROGRAM` after it has built it, the binary of the
 * same sources, which starts in a third of the time.
 */
export const program = process.env.TEST_PROGRAM === "binary" ? [binaryFile] : [process.execPath, mainFile];

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/** With nothing in the environment but what is given. */
export async function runBinary(
  words: string[],
  { cwd, env = {}, stdin = "" }: { cwd: string; env?: Record<string, string>; stdin?: string },
): Promise<Ran> {
  const child = Bun.spawn([binaryFile, ...words], {
    cwd,
    env,
    stdin: new Blob([stdin]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { code, stdout, stderr };
}
