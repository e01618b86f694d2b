/** Builds the executable `dist/ws-service`, which needs neither Bun nor node_modules where it runs. */
import { statSync } from "node:fs";
import { join, relative } from "node:path";

const root = import.meta.dir;
const outfile = join(root, "dist/ws-service");
const startedAt = performance.now();

const result = await Bun.build({
  // A Worker must be an entry point of its own: nothing imports it.
  entrypoints: [join(root, "src/main.ts"), join(root, "src/storage/sqlite/worker.ts")],
  root: join(root, "src"),
  target: "bun",
  format: "esm",
  // Names stay: stack traces and error classes are read by people.
  minify: { syntax: true, whitespace: true, identifiers: false },
  bytecode: true,
  sourcemap: "linked",
  throw: false,
  compile: {
    outfile,
    // Left out: what lies in the working directory is not this program's configuration.
    autoloadDotenv: false,
    autoloadBunfig: false,
    autoloadTsconfig: false,
    autoloadPackageJson: false,
  },
});

// A warning is a part that the binary would miss only once it runs.
for (const log of result.logs) console.error(String(log));
if (!result.success || result.logs.some(({ level }) => level === "error" || level === "warning")) {
  console.error("build failed");
  process.exit(1);
}
const megabytes = statSync(outfile).size / 1024 ** 2;
const seconds = (performance.now() - startedAt) / 1_000;
console.log(`${relative(process.cwd(), outfile)}: ${megabytes.toFixed(1)} MiB in ${seconds.toFixed(1)} s`);
