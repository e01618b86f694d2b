/** Holds the house together: which way imports go, who may touch the outside world, and how files begin. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize, resolve } from "node:path";

const root = resolve(import.meta.dir, "../..");

/** An import goes down this list or stays in its folder. */
const layers = [
  "main",
  "commands",
  "app",
  "engines",
  "websocket",
  "health",
  "router",
  "handlers",
  "erasure",
  "ingest",
  "calls",
  "push",
  "presence",
  "subscription",
  "broadcast",
  "directory",
  "auth",
  "cluster",
  "storage",
  "console",
  "client",
  "protocol",
  "config",
  "telemetry",
  "operations",
  "ground",
];

/** Parts of the client, each a folder, a file or both: an import goes down this list, too. */
const clientParts = [
  "index",
  "react",
  "testing",
  "client",
  "open-core",
  "set-up",
  "tabs",
  "connection",
  "calls",
  "conversations",
  "presence",
  "stores",
  "ground",
  "errors",
  "core",
  "wire",
];

const linesMax = 350;

const filesIn = (pattern: string) => [...new Bun.Glob(pattern).scanSync({ cwd: root })].map(normalize).sort();
const textOf = (file: string) => readFileSync(join(root, file), "utf8");
const linesOf = (file: string) => textOf(file).trimEnd().split("\n");
/** Without comments: what they mention is not used. */
const codeOf = (file: string) => textOf(file).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");

const sources = filesIn("src/**/*.{ts,tsx}");
/** `src/auth/identity.ts` → `auth`; `src/main.ts` → `main`. */
const layerOf = (file: string) => file.split("/")[1]!.replace(/\.ts$/, "");
/** `src/client/tabs/lead.ts` → `tabs`; `src/client/core.ts` → `core`. */
const clientPartOf = (file: string) => file.split("/")[2]!.replace(/\.ts$/, "");

/** Imports of types count as well, and so do those that are made later. */
const importPattern = /\bfrom\s+"(\.[^"]+)"|\bimport\s*\(\s*"(\.[^"]+)"|\bimport\s+"(\.[^"]+)"/g;

function importsOf(file: string): string[] {
  const found = [...codeOf(file).matchAll(importPattern)].map((match) => match[1] ?? match[2] ?? match[3]!);
  return [...new Set(found.map((path) => normalize(join(dirname(file), path))))].filter((path) =>
    path.startsWith("src/"),
  );
}

const imports = new Map(sources.map((file) => [file, importsOf(file)]));

/** Files whose code matches, but for those that may. */
const offenders = (pattern: RegExp, may: (file: string) => boolean) =>
  sources.filter((file) => !may(file) && pattern.test(codeOf(file)));

test("[LAYERS] every source file is in a layer of the list", () => {
  expect(sources.length).toBeGreaterThan(100);
  expect(sources.filter((file) => !layers.includes(layerOf(file)))).toEqual([]);
  expect(layers.filter((layer) => !sources.some((file) => layerOf(file) === layer))).toEqual([]);
});

/** Imports of these files that go up a list, whose members `nameOf` tells by their path. */
function upwardIn(files: string[], list: string[], nameOf: (file: string) => string): string[] {
  const isUpward = (from: string, to: string) => from !== to && list.indexOf(from) >= list.indexOf(to);
  return files.flatMap((file) => {
    const upward = imports.get(file)!.filter((target) => isUpward(nameOf(file), nameOf(target)));
    return upward.map((target) => `${file} → ${target}`);
  });
}

test("[LAYERS] an import goes down the list of layers or stays in its folder", () => {
  expect(upwardIn(sources, layers, layerOf)).toEqual([]);
});

test("[LAYERS] an import of the client's goes down the list of its parts or stays in its folder", () => {
  const files = sources.filter((file) => layerOf(file) === "client");
  expect([...new Set(files.map(clientPartOf))].sort()).toEqual([...clientParts].sort());
  // Another test, below, is for what comes of `protocol/`.
  const nameOf = (file: string) => (layerOf(file) === "client" ? clientPartOf(file) : clientParts.at(-1)!);
  expect(upwardIn(files, clientParts, nameOf)).toEqual([]);
});

test("[LAYERS] the client stands on its own, but for numbers of the wire", () => {
  const shared = ["src/protocol/close-codes.ts", "src/protocol/limits.ts"];
  const ofClient = [...imports].filter(([file]) => layerOf(file) === "client");
  const foreign = ofClient.flatMap(([file, targets]) =>
    targets.filter((target) => layerOf(target) !== "client" && !shared.includes(target)).map((to) => `${file} → ${to}`),
  );
  expect(foreign).toEqual([]);
});

test("[LAYERS] no file imports itself round a corner", () => {
  const done = new Set<string>();
  const cycles: string[] = [];
  function visit(file: string, path: string[]): void {
    const at = path.indexOf(file);
    if (at >= 0) cycles.push([...path.slice(at), file].join(" → "));
    if (at >= 0 || done.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  }
  for (const file of sources) visit(file, []);
  expect(cycles).toEqual([]);
});

test("[LAYERS] implementations are chosen in one place", () => {
  const folders = ["src/storage/sqlite/", "src/storage/postgres/", "src/cluster/local/", "src/cluster/redis/"];
  // These have no app; they load the one engine that they are for.
  const mayChoose = new Set(["src/engines.ts", "src/storage/backup.ts", "src/storage/migrate.ts"]);
  const choosing: string[] = [];
  for (const [file, targets] of imports) {
    for (const target of targets) {
      const folder = folders.find((it) => target.startsWith(it));
      if (folder !== undefined && !file.startsWith(folder) && !mayChoose.has(file))
        choosing.push(`${file} → ${target}`);
    }
  }
  expect(choosing).toEqual([]);
});

test("[LAYERS] adapters know nothing of the wire's errors, which router and upgrade make of theirs", () => {
  const isAdapter = (file: string) => ["storage", "cluster"].includes(layerOf(file));
  const knowing = [...imports].filter(([file, to]) => isAdapter(file) && to.includes("src/protocol/errors.ts"));
  expect(knowing.map(([file]) => file)).toEqual([]);
  expect(offenders(/ProtocolError\(\s*"unavailable"/, (file) => file === "src/router/refusals.ts")).toEqual([]);
  // Names are for people: a class or a field says to code what an error means.
  expect(offenders(/\b(error|err|reason|cause)\??\.(name|constructor)\b/, () => false)).toEqual([]);
});

test("[PRE4] whose presence somebody may see is decided in one place, and everything else asks there", () => {
  const mayRead = (file: string) => ["src/app/foundation.ts", "src/directory/visibility.ts"].includes(file);
  expect(offenders(/\bpresence\??\.visible_to\b|\bvisible_to:? ===/, mayRead)).toEqual([]);
  // Calls may ask too: who may call whom is another question, with a setting of its own.
  const mayAsk = (file: string) =>
    ["directory", "storage"].includes(layerOf(file)) || file === "src/calls/permission.ts";
  expect(offenders(/\bsharingWith\(/, mayAsk)).toEqual([]);
});

test("[LAYERS] one file listens to the public, one process owns its arguments, signals and environment", () => {
  // The internal listener is a server of its own [END3].
  const mayServe = (file: string) => file === "src/websocket/server.ts" || layerOf(file) === "operations";
  expect(offenders(/\bBun\.serve\b|\bcreateServer\(/, mayServe)).toEqual([]);
  const isMain = (file: string) => file === "src/main.ts";
  expect(offenders(/\bprocess\.argv\b|\bBun\.argv\b|\bprocess\.(on|once|addListener)\(/, isMain)).toEqual([]);
  expect(offenders(/\bprocess\.exit\b/, isMain)).toEqual([]);
  const mayReadEnvironment = (file: string) => isMain(file) || layerOf(file) === "config";
  expect(offenders(/\bprocess\.env\b|\bBun\.env\b|\bimport\.meta\.env\b/, mayReadEnvironment)).toEqual([]);
});

test("[STYLE] a comment begins with what the thing does, never with who or what", () => {
  const person = /^\s*(?:\/\*\*|\*|\/\/) (?:Who|What|Whose|Whom|Whoever|Whatever|Those|Nobody)\b/;
  // A second line of a comment may begin with any word.
  const isFirst = (before: string) => !/^\s*(?:\/\/|\* )/.test(before);
  const files = [...sources, ...filesIn("{test,bench}/**/*.ts"), "build.ts"];
  const begun = files.flatMap((file) => {
    const lines = linesOf(file);
    return lines
      .filter((line, at) => person.test(line) && isFirst(lines[at - 1] ?? ""))
      .map((line) => `${file}: ${line}`);
  });
  expect(begun).toEqual([]);
});

test("[STYLE] every source file opens with one sentence of what it owns", () => {
  const opening = /^\/\*\* \S.*[.\])] \*\/$/;
  expect(sources.filter((file) => !opening.test(linesOf(file)[0]!))).toEqual([]);
  expect(filesIn("src/**/*.{lua,sql}").filter((file) => !/^-- \S/.test(textOf(file)))).toEqual([]);
});

test("[STYLE] files stay short enough to be read at once", () => {
  const written = [...sources, ...filesIn("src/**/*.{lua,sql}")].filter((file) => file !== "src/client/wire.ts");
  const long = written.filter((file) => linesOf(file).length > linesMax);
  expect(long).toEqual([]);
});

test("[STYLE] functions fit on a screen, which the linter counts; only tables may be longer", () => {
  const { overrides } = JSON.parse(textOf("configs/lint.json")) as { overrides: object[] };
  const limit = { level: "error", options: { maxLines: 60 } };
  const complexity = { noExcessiveLinesPerFunction: limit };
  expect(overrides).toContainEqual({ includes: ["src/**"], linter: { rules: { complexity } } });
  const excused = sources.flatMap((file) => textOf(file).match(/biome-ignore .*noExcessiveLinesPerFunction:.*/g) ?? []);
  expect(excused.filter((line) => !line.includes(": a table,"))).toEqual([]);
});

test("[STYLE] an error in a log line is called err, whole, so that the log shows it in one way", () => {
  const otherwise = /\.(debug|info|warn|error)\(\s*\{([^}]*,)?\s*error\s*[:,}]/;
  expect(offenders(otherwise, () => false)).toEqual([]);
});

test("[STYLE] files and functions are called what they do", () => {
  const empty = /^(utils?|helpers?|misc|common|manage|process)$/i;
  const nameless = sources.filter((file) =>
    file
      .replace(/\.ts$/, "")
      .split(/[/.-]/)
      .some((word) => empty.test(word)),
  );
  expect(nameless).toEqual([]);
  const declared = /\b(?:function|class|interface|type|const|let)\s+\w*?(?:[uU]tils?|[hH]elpers?|[mM]isc)(?![a-z])\w*/;
  expect(offenders(declared, () => false)).toEqual([]);
});

test("[STYLE] nothing knows the machine that it was written on", () => {
  const itself = "test/unit/structure.test.ts";
  const documents = [...filesIn("*.{md,json,ts,toml}"), ...filesIn("docs/**/*"), ...filesIn("configs/*"), "Dockerfile"];
  const files = [...documents, ...filesIn("{src,test,bench}/**/*.{ts,proto,lua,sql}")].filter(
    (file) => file !== itself,
  );
  const machinePaths = /(?<![\w.~-])\/(?:work|home|root|Users)\/\w/;
  const strangers = /\bsub-?agents?\b|\blanguage models?\b|\bcoding assistants?\b|\bco-authored-by\b/i;
  expect(files.filter((file) => machinePaths.test(textOf(file)))).toEqual([]);
  expect(files.filter((file) => strangers.test(textOf(file)))).toEqual([]);
  const sourcesOfPackages = [...textOf("package-lock.json").matchAll(/"resolved": "https?:\/\/([^/"]+)/g)];
  const registries = new Set(sourcesOfPackages.map(([, host]) => host!));
  expect([...registries].filter((host) => host !== "registry.npmjs.org")).toEqual([]);
});
