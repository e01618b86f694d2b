/**
 * Builds the executable `dist/ws-service`, which needs neither Bun nor node_modules where it runs (`executable <target>`: for
 * another machine); `client`: the package `ws-service/client`; `release [target…]`: what a release has, in `dist/release`; `manifests`:
 * configs/kubernetes from the chart.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import type { BunPlugin } from "bun";
import packageFile from "./package.json" with { type: "json" };
import { buildConsole } from "./src/operations/console-files.ts";

const root = import.meta.dir;

/** A warning is a part that would be missed only once it runs. */
async function build(options: Bun.BuildConfig): Promise<Bun.BuildOutput> {
  const output = await Bun.build({ format: "esm", throw: false, ...options });
  for (const log of output.logs) console.error(String(log));
  if (!output.success || output.logs.some(({ level }) => level === "error" || level === "warning")) fail();
  return output;
}

function fail(why = "build failed"): never {
  console.error(why);
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

/**
 * Leaves out of pino what hands lines to other threads: that needs files which an executable has not, and the platform's module for
 * threads and streams.
 */
const withoutTransports: BunPlugin = {
  name: "pino without transports",
  setup(builder) {
    const refuse = `module.exports = () => { throw new Error("an executable has no transports"); };`;
    builder.onLoad({ filter: /[\\/]pino[\\/]lib[\\/]transport\.js$/ }, () => ({ contents: refuse, loader: "js" }));
    builder.onResolve({ filter: /^worker_threads$/ }, ({ importer }) =>
      /[\\/]pino[\\/]/.test(importer) ? { path: "threads", namespace: "pino" } : undefined,
    );
    const contents = "export const { isMainThread } = Bun;";
    builder.onLoad({ filter: /./, namespace: "pino" }, () => ({ contents, loader: "js" }));
  },
};

/** Packages that Vite puts into the console's files. */
const inConsole = ["react", "react-dom", "scheduler", "uplot"];

interface Executable {
  /** As the runtime names it, such as `bun-linux-arm64-musl`; left out: this machine's own. */
  target?: Bun.Build.CompileTarget;
  outfile: string;
  /** Names what a start reads, which is put together, at the front. Left out: all as it comes. */
  order?: string;
}

/**
 * Starts the service once, of a build for this machine, and records what that reads.
 * @returns text that is good for builds for every machine
 */
async function recordOrder(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "ws-service-build-"));
  const [program, order] = [join(folder, "ws-service"), join(folder, "order")];
  try {
    await buildExecutable({ outfile: program });
    const env = { WS__SERVER__PORT: "0", WS__SERVER__DRAIN_WINDOW: "0s", BUN_BYTECODE_ORDER_OUT: order };
    const service = Bun.spawn([program, "serve"], { cwd: folder, env, stdout: "pipe", stderr: "inherit" });
    // Its first line that says so, or its end.
    for await (const part of service.stdout.pipeThrough(new TextDecoderStream()))
      if (part.includes('"listening"')) service.kill("SIGTERM");
    if ((await service.exited) !== 0) fail("the service that was built does not start");
    return readFileSync(order, "utf8");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** @returns the packages that are in it */
async function buildExecutable({ target, outfile, order }: Executable): Promise<Set<string>> {
  const startedAt = performance.now();
  mkdirSync(dirname(outfile), { recursive: true });
  const orderFile = order === undefined ? null : `${outfile}.order`;
  if (orderFile !== null) writeFileSync(orderFile, order!);
  const { metafile, outputs } = await build({
    // A Worker must be an entry point of its own: nothing imports it.
    entrypoints: [join(root, "src/main.ts"), join(root, "src/storage/sqlite/worker.ts")],
    root: join(root, "src"),
    target: "bun",
    // Names stay: stack traces and error classes are read by people.
    minify: { syntax: true, whitespace: true, identifiers: false },
    bytecode: true,
    // In parts: code of what is not used, and its map, is not even read.
    splitting: true,
    sourcemap: "linked",
    plugins: [await withConsole(), withoutTransports],
    metafile: true,
    compile: {
      outfile,
      bytecodeOrder: orderFile,
      ...(target === undefined ? {} : { target }),
      // Left out: what lies in the working directory is not this program's configuration.
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadTsconfig: false,
      autoloadPackageJson: false,
    },
  });
  if (orderFile !== null) rmSync(orderFile);
  // They are inside of it as well.
  for (const { kind, path } of outputs) if (kind === "sourcemap") rmSync(path);
  const megabytes = statSync(outfile).size / 1024 ** 2;
  const seconds = (performance.now() - startedAt) / 1_000;
  console.log(`${relative(process.cwd(), outfile)}: ${megabytes.toFixed(1)} MiB in ${seconds.toFixed(1)} s`);
  const names = Object.keys(metafile!.inputs).map((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]);
  return new Set([...names.filter((name) => name !== undefined), ...inConsole]);
}

/** Names of what is released, and the runtime's names for it. */
const targets: Record<string, Bun.Build.CompileTarget> = {
  "linux-x64": "bun-linux-x64",
  "linux-arm64": "bun-linux-arm64",
  "linux-x64-musl": "bun-linux-x64-musl",
  "linux-arm64-musl": "bun-linux-arm64-musl",
  "macos-x64": "bun-darwin-x64",
  "macos-arm64": "bun-darwin-arm64",
};

function targetOf(name: string): Bun.Build.CompileTarget {
  const target = targets[name];
  if (target !== undefined) return target;
  console.error(`There is no target ${name}; one of ${Object.keys(targets).join(", ")}`);
  return fail();
}

/** Belong to an archive beside the program; images and manifests are installed from elsewhere. */
const configsOfOperators = "config.yaml production.yaml systemd nginx.conf haproxy.cfg alerts.yaml grafana.json"
  .split(" ")
  .map((name) => `configs/${name}`);

/** Builds what is attached to a release: an archive for each target, a bill of materials, and the checksums of all. */
async function buildRelease(names: string[]): Promise<void> {
  const folder = join(root, "dist/release");
  rmSync(folder, { recursive: true, force: true });
  const { version } = packageFile;
  const order = await recordOrder();
  let packages = new Set<string>();
  for (const name of names) {
    const target = targetOf(name);
    const title = `ws-service-${version}-${name}`;
    const staged = join(folder, title);
    packages = await buildExecutable({ target, outfile: join(staged, "ws-service"), order });
    const pages = ["README.md", "CHANGELOG.md", ...new Bun.Glob("docs/*.md").scanSync(root)];
    for (const file of [...pages, "LICENSE", ...configsOfOperators])
      cpSync(join(root, file), join(staged, file), { recursive: true });
    for (const page of pages)
      writeFileSync(join(staged, page), leadingOut(readFileSync(join(root, page), "utf8"), { page, folder: staged }));
    run(["tar", "-C", folder, "--owner=0", "--group=0", "--sort=name", "-czf", `${staged}.tar.gz`, title]);
    rmSync(staged, { recursive: true });
  }
  writeFileSync(join(folder, `ws-service-${version}.cdx.json`), billOfMaterials(packages));
  const files = readdirSync(folder).sort();
  const digest = (file: string) =>
    new Bun.CryptoHasher("sha256").update(readFileSync(join(folder, file))).digest("hex");
  writeFileSync(join(folder, "SHA256SUMS"), files.map((file) => `${digest(file)}  ${file}\n`).join(""));
}

/** Has links of a page lead to the project as it is in this release, where what they name is not in the folder. */
function leadingOut(text: string, { page, folder }: { page: string; folder: string }): string {
  const { version, repository } = packageFile;
  const project = repository.url.replace(/^git\+|\.git$/g, "");
  const to = (kind: string) => (whole: string, before: string, link: string, after: string) => {
    if (link.startsWith("#") || link.includes(":")) return whole;
    const [, path, place] = /^([^#]*)(.*)$/.exec(join(dirname(page), link))!;
    return existsSync(join(folder, path!)) ? whole : `${before}${project}/${kind}/v${version}/${path}${place}${after}`;
  };
  const inProse = (part: string) =>
    part.replace(/(\]\()([^)\s]+)(\))/g, to("blob")).replace(/(\b(?:src|srcset)=")([^"]+)(")/g, to("raw"));
  const parts = text.split(/(^```[\s\S]*?^```)/m);
  return parts.map((part) => (part.startsWith("```") ? part : inProse(part))).join("");
}

interface Bill {
  components: { "bom-ref": string; name: string }[];
  dependencies: { ref: string; dependsOn: string[] }[];
  metadata: { component: { "bom-ref": string; type: string; name: string } };
}

/** Lists what is in the executable, of all that the lock file names, as CycloneDX JSON. */
function billOfMaterials(packages: Set<string>): string {
  const bill = JSON.parse(run(["npm", "sbom", "--package-lock-only", "--sbom-format=cyclonedx"])) as Bill;
  const { component } = bill.metadata;
  Object.assign(component, { type: "application", name: "ws-service" });
  // The runtime is a part of every executable.
  bill.components = bill.components.filter(({ name }) => packages.has(name) || name === "bun");
  const refs = new Set([component["bom-ref"], ...bill.components.map((it) => it["bom-ref"])]);
  bill.dependencies = bill.dependencies
    .filter(({ ref }) => refs.has(ref))
    .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((it) => refs.has(it)) }));
  return `${JSON.stringify(bill, null, 2)}\n`;
}

function run(command: string[]): string {
  const { stdout, success } = Bun.spawnSync(command, { cwd: root, stderr: "inherit" });
  if (!success) fail();
  return stdout.toString();
}

/** Puts beside each other what is most alike, as was found by trying: gzip looks back no further than 32 kB. */
const firstParts = ["tabs/follower", "calls/call", "set-up", "open-core"];
const inOrder = {
  name: "parts in order",
  transform: (code: string, id: string) =>
    id.endsWith("/src/client/index.ts")
      ? `${firstParts.map((part) => `import "./${part}.ts";\n`).join("")}${code}`
      : undefined,
};

/** Builds what `exports` of package.json names: modules for any bundler and runtime, and their types beside them. */
async function buildClient(): Promise<void> {
  const folder = join(root, "dist/client");
  const names = ["index", "connection", "react", "testing", "stores/file"];
  const sources = names.map((name) => join(root, `src/client/${name}.ts`));
  // By Vite, as it puts constants and what is called once in their places, which makes it smaller in whatever page it ends up in.
  const { build } = await import("vite");
  await build({
    root: join(root, "src/client"),
    configFile: false,
    tsconfig: "tsconfig.json",
    logLevel: "error",
    build: {
      outDir: folder,
      emptyOutDir: true,
      target: "esnext",
      minify: false,
      lib: { entry: Object.fromEntries(names.map((name, at) => [name, sources[at]!])), formats: ["es"] },
      rolldownOptions: {
        plugins: [inOrder],
        external: ["react", /^node:/],
        // How long a machine that is busy takes is no fault.
        checks: { bundlerTimings: false },
        onLog: (level, log) => (level === "warn" ? fail(log.message) : undefined),
        optimization: { inlineConst: { mode: "all", pass: 3 } },
        output: {
          entryFileNames: "[name].js",
          // Parts that two entries bring along are there once: else a class of them would be two classes.
          chunkFileNames: "chunk-[hash].js",
          topLevelVar: false,
          // Names and lines stay: it is read by whoever looks for a fault, in a page that is not minified yet.
          minify: {
            mangle: false,
            compress: { joinVars: false },
            codegen: { removeWhitespace: false },
          },
        },
      },
    },
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

/** Parts of the chart that not every cluster has what they need for. */
const extras = ["autoscaling", "ingress", "monitoring", "network-policy"];

/** Renders configs/kubernetes from the chart; needs `helm`. */
function renderManifests(): void {
  const chart = "configs/helm";
  const sources = [...new Bun.Glob("**/*").scanSync({ cwd: join(root, chart) })].sort();
  const digest = new Bun.CryptoHasher("sha256");
  for (const file of sources) digest.update(`${file}\n${readFileSync(join(root, chart, file), "utf8")}`);
  const head = (says: string) =>
    `# ${says} Rendered from ${chart} by \`bun build.ts manifests\`, of ${digest.copy().digest("hex")}.\n`;
  const render = ["helm", "template", "ws-service", chart, "--kube-version", "1.31.0"];
  const all = ["autoscaling", "ingress", "serviceMonitor", "networkPolicy"].map((name) => `${name}.enabled=true`);
  const only = extras.flatMap((name) => ["--show-only", `templates/${name}.yaml`]);
  const write = (name: string, text: string) => writeFileSync(join(root, "configs/kubernetes", name), text);
  write(
    "ws-service.yaml",
    head("Nodes, what clients reach them by, and the job that migrates the schema.") + run(render),
  );
  write(
    "extras.yaml",
    head("Take what your cluster has the parts for.") + run([...render, "--set", all.join(","), ...only]),
  );
}

const [what, ...names] = process.argv.slice(2);
if (what === "client") await buildClient();
else if (what === "release") await buildRelease(names.length > 0 ? names : Object.keys(targets));
else if (what === "manifests") renderManifests();
else {
  const target = names[0] === undefined ? {} : { target: targetOf(names[0]) };
  await buildExecutable({ ...target, outfile: join(root, "dist/ws-service"), order: await recordOrder() });
}
