/** Builds the executable `dist/ws-service`, which needs neither Bun nor node_modules where it runs; `client`: the package `ws-service/client`. */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import type { BunPlugin } from "bun";
import { buildConsole } from "./src/operations/console-files.ts";

const root = import.meta.dir;

/** A warning is a part that would be missed only once it runs. */
async function build(options: Bun.BuildConfig): Promise<void> {
  const { success, logs } = await Bun.build({ format: "esm", throw: false, ...options });
  for (const log of logs) console.error(String(log));
  if (!success || logs.some(({ level }) => level === "error" || level === "warning")) fail();
}

function fail(): never {
  console.error("build failed");
  process.exit(1);
}

/** Puts the console's files, as they are now, in the place of what builds them: the executable has no bundler. */
async function withConsole(): Promise<BunPlugin> {
  const files = await buildConsole(join(root, "dist/console"));
  const contents = `const files = new Map(${JSON.stringify([...files])});\nexport const consoleFiles = async () => files;`;
  return {
    name: "console",
    setup(builder) {
      builder.onLoad({ filter: /[\\/]operations[\\/]console-files\.ts$/ }, () => ({ contents, loader: "js" }));
    },
  };
}

async function buildExecutable(): Promise<void> {
  const outfile = join(root, "dist/ws-service");
  const startedAt = performance.now();
  await build({
    // A Worker must be an entry point of its own: nothing imports it.
    entrypoints: [join(root, "src/main.ts"), join(root, "src/storage/sqlite/worker.ts")],
    root: join(root, "src"),
    target: "bun",
    // Names stay: stack traces and error classes are read by people.
    minify: { syntax: true, whitespace: true, identifiers: false },
    bytecode: true,
    sourcemap: "linked",
    plugins: [await withConsole()],
    compile: {
      outfile,
      // Left out: what lies in the working directory is not this program's configuration.
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadTsconfig: false,
      autoloadPackageJson: false,
    },
  });
  const megabytes = statSync(outfile).size / 1024 ** 2;
  const seconds = (performance.now() - startedAt) / 1_000;
  console.log(`${relative(process.cwd(), outfile)}: ${megabytes.toFixed(1)} MiB in ${seconds.toFixed(1)} s`);
}

/** Builds what `exports` of package.json names: modules for any bundler and runtime, and their types beside them. */
async function buildClient(): Promise<void> {
  const folder = join(root, "dist/client");
  rmSync(folder, { recursive: true, force: true });
  const sources = ["index", "connection", "react", "testing", "stores/file"].map((name) =>
    join(root, `src/client/${name}.ts`),
  );
  await build({
    entrypoints: sources,
    outdir: folder,
    root: join(root, "src/client"),
    target: "browser",
    // Shared parts are there once: a class that two entries bring along would be two classes.
    splitting: true,
    external: ["react", "node:*"],
  });
  const types = join(folder, "types");
  const tsc = Bun.spawn(
    [
      ...[process.execPath, join(root, "node_modules/typescript/bin/tsc"), "--ignoreConfig", ...sources],
      ...["--declaration", "--emitDeclarationOnly", "--rootDir", join(root, "src"), "--outDir", types],
      ...["--strict", "--target", "esnext", "--lib", "esnext,dom", "--types", "node", "--skipLibCheck"],
      ...["--module", "preserve", "--allowImportingTsExtensions"],
    ],
    { stdio: ["ignore", "inherit", "inherit"] },
  );
  if ((await tsc.exited) !== 0) fail();
  for (const name of readdirSync(types, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".d.ts")) continue;
    const file = join(types, name);
    // Read everywhere: only newer compilers find the types of `./core.ts` in `core.d.ts`.
    writeFileSync(file, readFileSync(file, "utf8").replace(/(["'])(\.{1,2}\/[^"']+)\.ts\1/g, "$1$2.js$1"));
  }
}

await (process.argv[2] === "client" ? buildClient() : buildExecutable());
