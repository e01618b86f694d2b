/** Proves that the package which `npm pack` makes works where applications run: Node, Bun, a browser behind a bundler, and TypeScript. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { launchChromium } from "../support/chromium.ts";
import { projectFolder } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(120_000);

/** Kilobytes as a page loads them, minified and gzipped: what the client's page says of each entry. */
const page = readFileSync(join(projectFolder, "docs/client.md"), "utf8");
const kilobytesMax = [...page.matchAll(/^\| `(ws-service\/\S+)` \| .* \| (\d+) kB at most \|$/gm)].map(
  ([, entry, most]) => ({ entry: entry!, most: Number(most) }),
);

const folder = mkdtempSync(join(tmpdir(), "ws-package-"));
const packageFolder = join(folder, "node_modules/ws-service");
let service: Service;
let packed: string[];

beforeAll(async () => {
  service = await startService({ settings: { SERVER__ALLOWED_ORIGINS: "*" } });
  // As `prepack` does, but for its look at what is installed: other tests run meanwhile.
  await run([process.execPath, "build.ts", "client"], projectFolder);
  await run(["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder], projectFolder);
  const [archive] = [...new Bun.Glob("ws-service-*.tgz").scanSync({ cwd: folder })];
  packed = (await run(["tar", "-tzf", archive!], folder)).trim().split("\n").sort();
  write("package.json", JSON.stringify({ name: "consumer", private: true, type: "module" }));
  await run(["npm", "install", "--offline", "--no-audit", "--no-fund", "--silent", `./${archive}`], folder);
});
afterAll(async () => {
  await service?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function write(path: string, text: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), text);
}

/** Lends the consumer a package that is installed here already. */
function lend(name: string): void {
  mkdirSync(dirname(join(folder, "node_modules", name)), { recursive: true });
  symlinkSync(join(projectFolder, "node_modules", name), join(folder, "node_modules", name));
}

/** @returns what it has printed. @throws Error where it fails, with all that it said */
async function run(command: string[], cwd = folder): Promise<string> {
  const child = Bun.spawn(command, { cwd, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}:\n${stdout}${stderr}`);
  return stdout;
}

/** Says hello and tells what was answered, as the same few lines everywhere. */
const tenLines = ({ url, userId, extra = "" }: { url: string; userId: string; extra?: string }) => `
const client = new Client({ url: ${JSON.stringify(url)}, userId: ${JSON.stringify(userId)}${extra} });
client.start();
const conversation = client.conversation(${JSON.stringify(`c-${userId}`)});
const isSent = new Promise((resolve) => {
  const stop = conversation.subscribe(() => {
    const last = conversation.current.messages.at(-1);
    if (last?.state !== "sent") return;
    stop();
    resolve(last.content + " " + last.seq);
  });
});
await conversation.send("Hello from ${userId}!");
console.log(await isSent);
client.stop();
`;

test("[LIM] the package is the client alone: no dependency, and a core of a few kilobytes", async () => {
  const own = ["LICENSE", "README.md", "docs/client.md", "package.json"].map((name) => `package/${name}`);
  expect(packed.filter((path) => !path.startsWith("package/dist/client/"))).toEqual(own);
  expect(packed.filter((path) => !/\.(?:js|d\.ts|md)$|LICENSE$|package\.json$/.test(path))).toEqual([]);
  expect([...new Bun.Glob("*").scanSync({ cwd: join(folder, "node_modules"), onlyFiles: false })]).toEqual([
    "ws-service",
  ]);
  const { scripts } = JSON.parse(readFileSync(join(projectFolder, "package.json"), "utf8"));
  expect(scripts.prepack).toBe("npm run --silent setup && bun build.ts client");
  const { dependencies = {}, version } = JSON.parse(readFileSync(join(packageFolder, "package.json"), "utf8"));
  expect([dependencies, version]).toEqual([
    {},
    JSON.parse(readFileSync(join(projectFolder, "package.json"), "utf8")).version,
  ]);
  expect(kilobytesMax.find(({ entry }) => entry === "ws-service/client/connection")?.most).toBe(12);
  for (const { entry, most } of kilobytesMax) {
    const name = entry.endsWith("/connection") ? "Connection" : "Client";
    write("size.js", `import { ${name} } from "${entry}";\nglobalThis.it = ${name};\n`);
    const { outputs } = await Bun.build({ entrypoints: [join(folder, "size.js")], target: "browser", minify: true });
    const bytes = new Uint8Array(await outputs[0]!.arrayBuffer());
    const gzipped = Bun.gzipSync(bytes, { level: 9 }).length;
    console.log(`${entry}: ${bytes.length} bytes minified, ${gzipped} gzipped, of ${most} kB`);
    expect(gzipped).toBeLessThanOrEqual(most * 1_000);
  }
});

test("[STYLE] the client's page leads to what is in the package, or to where all of the project is", () => {
  const prose = readFileSync(join(packageFolder, "docs/client.md"), "utf8").replace(/^```[\s\S]*?^```/gm, "");
  const targets = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!.replace(/#.*/, ""));
  const isThere = (target: string) => /^https:/.test(target) || existsSync(join(packageFolder, "docs", target));
  expect(targets.length).toBeGreaterThan(20);
  expect(targets.filter((target) => !isThere(target))).toEqual([]);
});

test("[STYLE] the types say where the rules stand that they name", () => {
  const { repository } = JSON.parse(readFileSync(join(projectFolder, "package.json"), "utf8"));
  const rules = `${repository.url.replace(/^git\+|\.git$/g, "")}/blob/main/docs/protocol.md`;
  expect(readFileSync(join(packageFolder, "dist/client/types/client/index.d.ts"), "utf8")).toInclude(rules);
  expect(page).toInclude(`(${rules})`);
});

test("[CON4] Node runs it, with the package ws where it has no WebSocket of its own", async () => {
  lend("ws");
  const start = 'import { Client } from "ws-service/client";\nimport { WebSocket } from "ws";\n';
  write("node.js", start + tenLines({ url: service.url, userId: "nora", extra: ", webSocket: WebSocket" }));
  expect(await run(["node", "node.js"])).toBe("Hello from nora! 1\n");
});

test("[CON4] a test in Node has the fake server, and ends when it is over", async () => {
  write(
    "fake.js",
    `import { Client } from "ws-service/client";
import { FakeServer, until } from "ws-service/client/testing";
const server = new FakeServer({ conversations: { c1: ["anna", "ben"] } });
const client = new Client({ url: "ws://fake/ws", userId: "anna", webSocket: server.webSocket });
client.start();
const conversation = client.conversation("c1");
await conversation.send("Hello!");
await until(conversation, ({ messages }) => messages.at(-1)?.state === "sent");
server.type("c1", "ben");
server.call("ben", "anna");
await until(conversation, ({ typing }) => typing.length === 1);
console.log(server.requestsOf("message.send").length);
await client.stop();
`,
  );
  expect(await run(["node", "fake.js"])).toBe("1\n");
});

test("[CON4] Bun runs it, and keeps what it has to keep in a file", async () => {
  const start =
    'import { Client } from "ws-service/client";\nimport { FileStore } from "ws-service/client/file-store";\n';
  const extra = ', store: new FileStore("kept")';
  write("bun.js", start + tenLines({ url: service.url, userId: "bruno", extra }));
  expect(await run([process.execPath, "bun.js"])).toBe("Hello from bruno! 1\n");
});

test("[CON4] a page that Vite has bundled runs it", async () => {
  write("page/index.html", '<!doctype html><meta charset="utf-8" /><script type="module" src="./page.js"></script>');
  write(
    "page/page.js",
    `import { Client } from "ws-service/client";\n${tenLines({ url: service.url, userId: "vita" })}`,
  );
  const vite = join(projectFolder, "node_modules/vite/bin/vite.js");
  await run(["node", vite, "build", "page", "--logLevel", "warn", "--target", "esnext"]);
  const site = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    routes: { "/favicon.ico": new Response(null, { status: 204 }) },
    fetch: ({ url }) =>
      new Response(Bun.file(join(folder, "page/dist", new URL(url).pathname.replace(/\/$/, "/index.html")))),
  });
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    const printed = page.waitForEvent("console");
    page.on("pageerror", (error) => console.error(error));
    await page.goto(site.url.href);
    expect((await printed).text()).toBe("Hello from vita! 1");
  } finally {
    await browser.close();
    await site.stop(true);
  }
});

test.each(["bundler", "nodenext"])(
  "[ENV1] [ENV2] its types stand in a strict project that resolves like %s",
  async (moduleResolution) => {
    for (const name of ["react", "@types/react", "csstype"]) lendOnce(name);
    write(
      "types/page.ts",
      `import { Client, ServerError, type Message, type Reply } from "ws-service/client";
import { ClientProvider, useConversation, usePresence } from "ws-service/client/react";
import { FakeServer } from "ws-service/client/testing";
import { FileStore } from "ws-service/client/file-store";
import { createElement } from "react";

interface Events { "poll.vote": { option: number } }
const server = new FakeServer({ conversations: { c1: ["anna", "ben"] } });
const client = new Client<Events>({ url: "ws://localhost/ws", getToken: async () => "token", webSocket: server.webSocket, store: new FileStore("kept") });
client.on("poll.vote", ({ data }) => data.option.toFixed());
client.on("message.new", ({ message_id }) => message_id.length);
export const page: Promise<Reply<"history">> = client.request("history", { topic: "conversation:c1", limit: 10 });
page.catch((error: unknown) => error instanceof ServerError && error.code === "forbidden");
// @ts-expect-error: there is no such field
client.request("history", { topick: "conversation:c1" });
// @ts-expect-error: there is no such event
client.on("poll.vot", () => {});
const textOf = ({ content }: Message) => (typeof content === "string" ? content : "");
function Page() {
  const [{ messages, typing }, conversation] = useConversation("c1");
  const ben = usePresence("ben");
  return createElement("button", { onClick: () => conversation.send("Hello!") }, ben?.status, typing.join(), messages.map(textOf));
}
export const app = createElement(ClientProvider, { client }, createElement(Page));
export const said: number = server.requestsOf("message.send")[0]!.payload.client_message_id.length;
`,
    );
    const options = {
      ...{
        strict: true,
        noEmit: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        target: "es2022",
        types: [],
      },
      ...{
        lib: ["es2022", "dom", "dom.iterable"],
        moduleResolution,
        module: moduleResolution === "nodenext" ? "nodenext" : "esnext",
      },
    };
    write("types/tsconfig.json", JSON.stringify({ compilerOptions: options, files: ["page.ts"] }));
    expect(await run([process.execPath, join(projectFolder, "node_modules/typescript/bin/tsc"), "-p", "types"])).toBe(
      "",
    );
  },
);

const lent = new Set<string>();
function lendOnce(name: string): void {
  if (!lent.has(name)) lend(name);
  lent.add(name);
}
