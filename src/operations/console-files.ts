/** Gives the files of the console: from source they are built when they are asked for; the executable has them built in. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** By path: `/`, `/assets/index-….js`. */
export type ConsoleFiles = ReadonlyMap<string, { type: string; text: string }>;

const folder = join(import.meta.dir, "../console");
const types: Record<string, string> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
};

let built: { changedAt: number; files: Promise<ConsoleFiles> } | null = null;

/** Builds them once, and again where their sources have changed since. The executable's build puts another function in this one's place. */
export function consoleFiles(): Promise<ConsoleFiles> {
  const changedAt = Math.max(
    ...readdirSync(folder, { recursive: true }).map((name) => statSync(join(folder, String(name))).mtimeMs),
  );
  if (built?.changedAt !== changedAt) built = { changedAt, files: buildConsole() };
  // One that has failed is tried again.
  built.files.catch(() => {
    built = null;
  });
  return built.files;
}

/** @param outDir where they are written to as well */
export async function buildConsole(outDir?: string): Promise<ConsoleFiles> {
  const { build } = await import("vite");
  const output = await build({
    root: folder,
    configFile: false,
    // For the parts of the client as well: that of the whole project leads to examples, which are not there where the image is made.
    tsconfig: "tsconfig.json",
    logLevel: "error",
    build: {
      target: "es2022",
      modulePreload: false,
      assetsInlineLimit: 0,
      write: outDir !== undefined,
      outDir,
      emptyOutDir: true,
    },
  });
  const { output: parts } = output as { output: { fileName: string; code?: string; source?: string | Uint8Array }[] };
  return new Map(
    parts.map(({ fileName, code, source }) => [
      fileName === "index.html" ? "/" : `/${fileName}`,
      { type: types[fileName.split(".").at(-1)!] ?? "application/octet-stream", text: code ?? String(source) },
    ]),
  );
}
