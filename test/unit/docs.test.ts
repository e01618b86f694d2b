/** Holds the documents to the code: every example is valid, every message type and every setting is there, every link leads somewhere. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import * as v from "valibot";
import { type Key, keys } from "../../src/config/keys.ts";
import { configSchema } from "../../src/config/schema.ts";
import { type ClientMessageType, clientMessageTypes, clientPayloads } from "../../src/protocol/client.ts";
import { CloseCode } from "../../src/protocol/close.ts";
import { requestEnvelope } from "../../src/protocol/envelope.ts";
import { authFailureTable, errorTable } from "../../src/protocol/errors.ts";
import { moment, sequence } from "../../src/protocol/fields.ts";
import { type ServerMessageType, serverMessageTypes, serverPayloads } from "../../src/protocol/server.ts";
import { limitClassOf } from "../../src/router/requests.ts";
import { steps as postgresSteps } from "../../src/storage/postgres/schema.ts";
import { migrations as sqliteMigrations } from "../../src/storage/sqlite/schema.ts";
import { type AnySchema, fieldsOf } from "../support/schema-fields.ts";

const root = resolve(import.meta.dir, "../..");
const documents = [
  "README.md",
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  ...[
    "client",
    "protocol",
    "backends",
    "architecture",
    "operating",
    "scaling",
    "performance",
    "log",
    "internals",
    "glossary",
  ].map((name) => `docs/${name}.md`),
];
const textOf = (document: string) => readFileSync(join(root, document), "utf8");
const protocol = textOf("docs/protocol.md");

const codeOf = (text: string, language: string) =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, "gm"))].map((match) => match[1]!);

type Frame = { type: string; payload?: Record<string, unknown> };
const framesOf = (text: string) => codeOf(text, "json").map((code) => JSON.parse(code) as Frame);

/** Finds what comes under the heading, up to the next one. */
function sectionOf(heading: string): string {
  const start = protocol.indexOf(`\n${heading}\n`);
  if (start < 0) return "";
  const end = protocol.slice(start + 1).search(/\n#{2,3} /);
  return end < 0 ? protocol.slice(start) : protocol.slice(start, start + 1 + end);
}

const serverEnvelope = v.strictObject({
  id: v.string(),
  type: v.string(),
  reply_to: v.optional(v.string()),
  topic: v.optional(v.string()),
  seq: v.optional(sequence),
  position: v.optional(sequence),
  timestamp: moment,
  payload: v.record(v.string(), v.unknown()),
});

/** As the usual viewers make an anchor of a heading. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(" ", "-");

/** Only what the server sends bears a time. */
const isFromServer = (frame: Frame) => "timestamp" in frame;

function faultsOf(frame: Frame): string[] {
  const fromServer = isFromServer(frame);
  const schemas: Record<string, v.GenericSchema> = fromServer ? serverPayloads : clientPayloads;
  const schema = schemas[frame.type];
  if (schema === undefined) return [`${frame.type}: there is no such type`];
  const checks = [
    v.safeParse(fromServer ? serverEnvelope : requestEnvelope, frame),
    v.safeParse(schema, frame.payload ?? {}),
  ];
  const faults = checks.flatMap(({ issues = [] }) =>
    issues.map((issue) => `${frame.type}: ${v.getDotPath(issue)} ${issue.message}`),
  );
  // Nothing is shown that the schemas do not know.
  const known = new Set(fieldsOf(schema as unknown as AnySchema).map(({ path }) => path[0]!));
  if (known.size === 0) return faults;
  const strange = Object.keys(frame.payload ?? {}).filter((name) => !known.has(name));
  return [...faults, ...strange.map((name) => `${frame.type}: has no field ${name}`)];
}

test("[ENV1] [ENV2] every example of the protocol is a valid message", () => {
  const frames = framesOf(protocol);
  expect(frames.length).toBeGreaterThan(50);
  expect(frames.flatMap(faultsOf)).toEqual([]);
});

const documented = [
  ...clientMessageTypes.map((type) => ({ side: "Client", type, schema: clientPayloads[type] })),
  ...serverMessageTypes.map((type) => ({ side: "Server", type, schema: serverPayloads[type] })),
] as { side: "Client" | "Server"; type: ClientMessageType | ServerMessageType; schema: unknown }[];

test("[ENV1] [ENV2] every message type has a heading of its own and an example", () => {
  const lacking = documented.filter(({ side, type }) => {
    const examples = framesOf(sectionOf(`### ${side}: \`${type}\``));
    return !examples.some((frame) => frame.type === type && isFromServer(frame) === (side === "Server"));
  });
  expect(lacking.map(({ side, type }) => `${side}: ${type}`)).toEqual([]);
});

test("[ENV1] [ENV2] every field of every message is named in its section", () => {
  const lacking = documented.flatMap(({ side, type, schema }) => {
    const section = sectionOf(`### ${side}: \`${type}\``);
    const names = fieldsOf(schema as AnySchema).filter(({ path }) => path.length === 1);
    // A name in code, or a key of an example.
    return names
      .map(({ path }) => path[0]!)
      .filter((name) => !/^\d+$|^\*$/.test(name) && !new RegExp(`[\`".{ ]${name}[\`"[, ?]`).test(section))
      .map((name) => `${side}: ${type}.${name}`);
  });
  expect([...new Set(lacking)]).toEqual([]);
});

test("[ENV4] [ENV5] [AUTH1] every code is explained", () => {
  const codes = [...Object.keys(errorTable), ...Object.keys(authFailureTable)];
  expect(codes.filter((code) => !protocol.includes(`\`${code}\``))).toEqual([]);
  for (const [code, { retryable }] of Object.entries(errorTable)) {
    expect([code, protocol.includes(`| \`${code}\` | ${retryable ? "yes" : "no"} |`)]).toEqual([code, true]);
  }
  // 1001 is the peer's own way of leaving.
  const closes = Object.values(CloseCode).filter((code) => code !== CloseCode.goingAway);
  expect(closes.filter((code) => !new RegExp(`^\\| ${code} \\|`, "m").test(protocol))).toEqual([]);
});

/** How the reference writes a default: as a file would. */
function shownDefault({ fallback }: Key): string {
  if (fallback === undefined) return "required";
  if (Array.isArray(fallback)) return `\`[${fallback.map((it) => (it === "*" ? '"*"' : it)).join(", ")}]\``;
  return `\`${typeof fallback === "object" && fallback !== null ? JSON.stringify(fallback) : fallback}\``;
}

const shownType = ({ kind, nullable, expected }: Key) => {
  const options = /^must be one of ([^.]*?)(?:, or null)?$/.exec(expected)?.[1];
  const type = kind === "choice" && options !== undefined ? options : kind;
  return nullable ? `${type} or null` : type;
};

test("every setting is in the reference with its true type and default, and nothing else is", () => {
  const reference = textOf("docs/operating.md");
  const rows = [...reference.matchAll(/^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/gm)];
  const shown = rows.map(([, name, type, fallback]) => [name!, type!.trim(), fallback!.trim()]);
  expect(shown).toEqual(keys.map((key) => [key.name, shownType(key), shownDefault(key)]));
  expect(rows.filter(([, , , , meaning]) => meaning!.trim().length < 10)).toEqual([]);
});

test("every rule that a test is titled with is in the protocol, or in the page for operators, and each that is numbered there has a test", () => {
  const pages = `${protocol} ${textOf("docs/operating.md")}`;
  const files = [
    ...new Bun.Glob("test/{unit,contract,integration,cluster,binary,browser,model}/*.ts").scanSync({ cwd: root }),
  ];
  const ids = files.flatMap((file) => [...textOf(file).matchAll(/\[([A-Z]{3,6}\d*)\]/g)].map(([, id]) => id!));
  // The other two are of the code itself: CONTRIBUTING says what they are.
  expect([...new Set(ids)].filter((id) => !pages.includes(`[${id}]`)).sort()).toEqual(["LAYERS", "STYLE"]);
  const rules = new Set([...pages.matchAll(/\[([A-Z]{3,6}\d+)\]/g)].map(([, id]) => id!));
  expect([...rules].filter((id) => !ids.includes(id))).toEqual([]);
});

test("[SUB1] every event is in the table of topics, but for what one connection is told", () => {
  const table = sectionOf("## Topics [SUB]")
    .match(/^\| `.*$/gm)!
    .join("\n");
  const isThere = (type: string) => [type, `${type.split(".")[0]}.*`].some((name) => table.includes(`\`${name}\``));
  const replies = serverMessageTypes.filter((type) => type in clientPayloads && type.startsWith("admin."));
  expect(serverMessageTypes.filter((type) => !isThere(type) && !replies.includes(type))).toEqual([
    ...(["connected", "auth.success", "auth.failed", "auth.expiring", "subscribed", "unsubscribed"] as const),
    ...(["pong", "ack", "error", "history", "members", "draining", "admin.watched"] as const),
  ]);
});

test("every test of the running service is titled with a rule first", () => {
  const files = [...new Bun.Glob("test/{integration,cluster}/*.test.ts").scanSync({ cwd: root })];
  const called = /^[ \t]*test(?:\.(?:each|skipIf|if|serial)\b[\s\S]{0,1500}?\))*\(\s*(["`'])((?:[^\\]|\\.)*?)\1/gm;
  const titles = files.flatMap((file) => [...textOf(file).matchAll(called)].map(([, , title]) => `${file}: ${title}`));
  expect(titles.length).toBeGreaterThan(500);
  expect(titles.filter((title) => !/: \[[A-Z]{3,5}\d*\] /.test(title))).toEqual([]);
});

test("every section of the protocol is in its contents", () => {
  const contents = protocol.slice(0, protocol.indexOf("\n## "));
  const sections = [...protocol.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading!);
  expect(sections.filter((heading) => !contents.includes(`](#${anchorOf(heading)})`))).toEqual([]);
});

test("[LIM] the rate of each class stands in the protocol's limits as it is where nothing is configured", () => {
  const { rate_limits: rates } = v.parse(configSchema, {});
  const rows = [...sectionOf("## Limits [LIM]").matchAll(/^\| ([^|]+) \| ([\d,]+) \| ([\d,]+) \|$/gm)];
  const shown = rows.map(([, what, perMinute, burst]) => {
    const isNamed = (type: string, name: string) =>
      name.endsWith(".*") ? type.startsWith(name.slice(0, -1)) : type === name;
    const names = [...what!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!);
    const types = names.flatMap((name) => clientMessageTypes.filter((type) => isNamed(type, name)));
    const classes = new Set(types.length === 0 ? (["default"] as const) : types.map(limitClassOf));
    const [perMinuteNumber, burstNumber] = [perMinute, burst].map((text) => Number(text!.replaceAll(",", "")));
    return { types, classes: [...classes], rate: { per_minute: perMinuteNumber!, burst: burstNumber! } };
  });
  for (const { classes, rate } of shown)
    expect([classes, rates[classes[0] as "default"]]).toEqual([[classes[0]!], rate]);
  const named = new Set(shown.flatMap(({ types }) => types));
  expect(clientMessageTypes.filter((type) => limitClassOf(type) !== "default" && !named.has(type))).toEqual([]);
  const { burst, per_minute } = rates.default;
  expect(textOf("docs/client.md")).toInclude(`a burst of ${burst} requests and then ${per_minute} a minute`);
});

test("[MSG5] [MEM1] who may do what is said of every request, with the file that decides it", () => {
  const section = sectionOf("## Who may do what to what");
  const rows = [...section.matchAll(/^\| (`[^|]+) \| [^|]+ \| [^|]+ \| `([^|`]+)` \|$/gm)];
  const named = new Set(rows.flatMap(([, requests]) => [...requests!.matchAll(/`([^`]+)`/g)].map(([, type]) => type!)));
  // Everybody's, for themselves.
  const prose = section.slice(0, section.indexOf("\n| request"));
  const lacking = clientMessageTypes.filter(
    (type) => !named.has(type) && !type.startsWith("admin.") && !prose.includes(`\`${type}\``),
  );
  expect([lacking, named.has("admin.*")]).toEqual([[], true]);
  expect(rows.map(([, , file]) => file!).filter((file) => !existsSync(join(root, file)))).toEqual([]);
});

test("[ENV4] the page for operators says of every request whether it goes on while PostgreSQL is away", () => {
  const page = textOf("docs/operating.md");
  const start = page.indexOf("\n### When PostgreSQL is away\n");
  const section = page.slice(start, page.indexOf("\n**", start));
  expect(clientMessageTypes.filter((type) => !section.includes(`\`${type}\``))).toEqual([]);
});

test("the page for backends says of each table that has something of somebody for how long that is kept", () => {
  const made = [...postgresSteps.map((step) => step("ws")), ...sqliteMigrations].flatMap((sql) => [
    ...sql.matchAll(/CREATE TABLE (?:ws\.)?(\w+) ?\(([\s\S]*?)\);/g),
  ]);
  const isOfSomebody = (columns: string) => /\b(user_id|sender_id|key|name|payload) text\b/i.test(columns);
  const tables = new Set(made.flatMap(([, name, columns]) => (isOfSomebody(columns!) ? [name!] : [])));
  expect(tables.size).toBeGreaterThan(10);
  const page = textOf("docs/backends.md");
  const section = page.slice(page.indexOf("\n## What is stored of somebody\n"));
  expect([...tables].filter((name) => !new RegExp(`^\\|.*\`${name}\`.*\\|$`, "m").test(section))).toEqual([]);
});

test("every command is in the README", () => {
  const commands = [...textOf("src/main.ts").matchAll(/^ {2}(\w+): async \(\) => \(await import/gm)].map(
    ([, name]) => name!,
  );
  expect(commands.length).toBeGreaterThan(5);
  const readme = textOf("README.md");
  expect(commands.filter((name) => !new RegExp(`^\\| \`${name}\\b`, "m").test(readme))).toEqual([]);
});

test("the README's lines for the client are those of its page, which a test runs", () => {
  const linesOf = (text: string, from: string) => /^```ts\n([\s\S]*?)^```/m.exec(text.slice(text.indexOf(from)))![1]!;
  expect(linesOf(textOf("README.md"), "<!-- client -->")).toBe(linesOf(textOf("docs/client.md"), "## Ten lines"));
});

test("the client's page installs the archive that `npm pack` makes, whatever its version", () => {
  const { version } = JSON.parse(textOf("package.json"));
  const named = [...textOf("docs/client.md").matchAll(/install .*ws-service\/(ws-service-\S+\.tgz)/g)].map(
    ([, name]) => name!,
  );
  expect(named).toHaveLength(2);
  for (const name of named)
    for (const made of [version, "1.2.3"]) expect(new Bun.Glob(name).match(`ws-service-${made}.tgz`)).toBeTrue();
});

test("every link of the documents to a file of ours leads somewhere, to its heading too", () => {
  const { repository } = JSON.parse(textOf("package.json")) as { repository: { url: string } };
  // Pages that are in the package too name the others by where they are for everybody.
  const ofOurs = new RegExp(`^${repository.url.replace(/^git\+|\.git$/g, "")}/(?:blob|tree)/main/`);
  const anchorsOf = (text: string) =>
    new Set([...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading]) => anchorOf(heading!)));
  const broken: string[] = [];
  for (const document of documents) {
    const prose = textOf(document).replace(/^```[\s\S]*?^```/gm, "");
    for (const [, target] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      const isOfOurs = ofOurs.test(target!);
      if (/^[a-z]+:/.test(target!) && !isOfOurs) continue;
      const [path, anchor] = target!.replace(ofOurs, "").split("#") as [string, string | undefined];
      const file = path === "" ? document : join(isOfOurs ? "" : dirname(document), path);
      const leads = existsSync(join(root, file));
      if (!leads || (anchor !== undefined && !anchorsOf(textOf(file)).has(anchor)))
        broken.push(`${document}: ${target}`);
    }
  }
  expect(broken).toEqual([]);
});

/** Finds what stands in backquotes in the prose, fields of tables included. */
const quotedIn = (document: string) =>
  [
    ...textOf(document)
      .replace(/^```[\s\S]*?^```/gm, "")
      .matchAll(/`([^`\n]+)`/g),
  ].map(([, quoted]) => quoted!);

test("every file that the pages for whoever changes the code name is there", () => {
  const pages = [
    "CONTRIBUTING.md",
    ...["internals", "glossary", "architecture", "log"].map((name) => `docs/${name}.md`),
  ];
  const paths = pages
    .flatMap(quotedIn)
    .filter((quoted) => /^(src|test|docs|bench|configs|\.ci|\.github)\/[\w./*-]+$/.test(quoted));
  expect(paths.length).toBeGreaterThan(40);
  const isThere = (path: string) =>
    path.includes("*") ? !new Bun.Glob(path).scanSync({ cwd: root }).next().done : existsSync(join(root, path));
  expect(paths.filter((path) => !isThere(path))).toEqual([]);
});

test("the glossary has at most 25 words, each in one line with the file where it lives", () => {
  const lines = textOf("docs/glossary.md")
    .split("\n")
    .filter((line) => line.startsWith("| "));
  const words = lines
    .slice(2)
    .map((line) => /^\| ([a-z-]+(?: [a-z]+)?) \| ([^|]{20,}) \| `(src\/[^`|]+)` \|$/.exec(line));
  expect(words.filter((word) => word === null)).toEqual([]);
  expect(new Set(words.map((word) => word![1])).size).toBe(words.length);
  expect(words.length).toBeLessThanOrEqual(25);
  expect(words.map((word) => word![3]!).filter((file) => !existsSync(join(root, file)))).toEqual([]);
});

test("every script that CONTRIBUTING names is one, and every script is named there or in the README", () => {
  const { scripts } = JSON.parse(textOf("package.json")) as { scripts: Record<string, string> };
  const named = [...textOf("CONTRIBUTING.md").matchAll(/\bnpm (?:run )?([a-z]+(?::[a-z]+)?)\b/g)].map(
    ([, name]) => name!,
  );
  expect(named.filter((name) => !["ci", "install", "pack"].includes(name) && !(name in scripts))).toEqual([]);
  const known = `${textOf("README.md")} ${textOf("CONTRIBUTING.md")}`;
  expect(
    Object.keys(scripts).filter((name) => name !== "setup" && !new RegExp(`\\bnpm (run )?${name}\\b`).test(known)),
  ).toEqual([]);
});

test("a push runs what runs here, with actions pinned and no right but to read", () => {
  const file = ".github/workflows/test.yml";
  const { permissions, jobs } = Bun.YAML.parse(textOf(file)) as {
    permissions: Record<string, string>;
    jobs: Record<string, { permissions?: object; steps: { uses?: string; run?: string }[] }>;
  };
  expect(permissions).toEqual({ contents: "read" });
  const steps = Object.values(jobs).flatMap((job) => job.steps);
  expect(Object.values(jobs).filter((job) => job.permissions !== undefined)).toEqual([]);
  expect(steps.flatMap(({ run }) => run ?? [])).toEqual([".ci/run"]);
  expect(steps.flatMap(({ uses }) => uses ?? []).filter((action) => !/^actions\/[a-z-]+@v\d+$/.test(action))).toEqual(
    [],
  );
  expect(textOf(".ci/run")).toContain("npm test");
});
