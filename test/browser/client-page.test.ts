/** Builds what `docs/client.md` has for pages, as its reader would, and uses it: the page with the hooks, and the chat page of an hour. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { type Block, blocksOf } from "../support/page.ts";
import { projectFolder } from "../support/program.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(90_000);

const page = await Bun.file(join(projectFolder, "docs/client.md")).text();
const blocks = blocksOf(page);
const files = blocks.filter(({ role }) => role.startsWith("file "));
const [calls, hooks] = blocks.filter(({ role }) => role === "in a page") as [Block, Block];
const callsPrint = blocks[blocks.indexOf(calls) + 1]!;

const folder = mkdtempSync(join(tmpdir(), "ws-chat-page-"));
let service: Service;
let browser: Browser;
let site: Bun.Server<undefined>;
beforeAll(async () => {
  service = await startService();
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text.replaceAll("localhost:8086", `127.0.0.1:${service.port}`));
  };
  for (const { role, text } of files) write(`chat/${role.slice("file ".length)}`, withCalls(text));
  write("hooks/main.tsx", hooks.text);
  write("calls/main.tsx", calls.text);
  for (const name of ["hooks", "calls"])
    write(
      `${name}/index.html`,
      '<!doctype html><meta charset="utf-8" /><script type="module" src="/main.tsx"></script>',
    );
  symlinkSync(join(projectFolder, "node_modules"), join(folder, "node_modules"));
  const client = join(projectFolder, "src/client");
  const alias = Object.entries({
    ...{ "ws-service/client/react": "react.ts", "ws-service/client/testing": "testing.ts" },
    "ws-service/client": "index.ts",
  });
  const resolve = {
    alias: alias.map(([find, file]) => ({ find, replacement: join(client, file) })),
    dedupe: ["react"],
  };
  const types = { lib: ["esnext", "dom", "dom.iterable"], types: [], jsx: "react-jsx" };
  for (const name of ["chat", "hooks", "calls"]) {
    write(`${name}/vite.config.js`, `export default ${JSON.stringify({ resolve, build: { target: "esnext" } })};`);
    const tsconfig = {
      extends: join(projectFolder, "tsconfig.json"),
      compilerOptions: types,
      include: ["*.tsx"],
      references: [],
    };
    write(`${name}/tsconfig.json`, JSON.stringify(tsconfig));
    await run(["node", join(projectFolder, "node_modules/vite/bin/vite.js"), "build", name, "--logLevel", "warn"]);
  }
  site = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    routes: { "/favicon.ico": new Response(null, { status: 204 }) },
    fetch: ({ url }) => new Response(Bun.file(join(folder, fileOf(new URL(url).pathname)))),
  });
  browser = await launchChromium();
});
afterAll(async () => {
  await browser?.close();
  await Promise.all([site?.stop(true), service?.stop()]);
  rmSync(folder, { recursive: true, force: true });
});

// A page that stays open goes on being its user.
afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
});

/** Puts the calls where the page says that they may be put. */
const withCalls = (text: string) =>
  text
    .replace("import { Conversation } from", 'import { Calls } from "./Calls.tsx";\nimport { Conversation } from')
    .replace("<Conversation key={open} id={open} />", '<Conversation key={open} id={open} />\n<Calls peer="ben" />');

/** `/chat` → `chat/dist/index.html`; what a page asks for is that of the page which is open. */
let shown = "chat";
function fileOf(path: string): string {
  if (["/chat", "/hooks", "/calls"].includes(path)) shown = path.slice(1);
  return join(shown, "dist", path === `/${shown}` ? "index.html" : path);
}

async function run(command: string[]): Promise<string> {
  const child = Bun.spawn(command, { cwd: folder, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}:\n${stdout}${stderr}`);
  return stdout;
}

async function open(path: string): Promise<Page> {
  const context = await browser.newContext();
  const opened = await context.newPage();
  opened.on("pageerror", (error) => console.error(error));
  await opened.goto(new URL(path, site.url).href);
  return opened;
}

const row = (who: Page, text: string) => who.getByRole("listitem").filter({ hasText: text });

async function write(who: Page, text: string): Promise<void> {
  await who.getByLabel("Message").fill(text);
  await who.getByRole("button", { name: "Send" }).click();
}

test.each(["chat", "hooks", "calls"])("[ENV1] [ENV2] the lines of the %s page are typed", async (name) => {
  const tsc = join(projectFolder, "node_modules/typescript/bin/tsc");
  expect(await run([process.execPath, tsc, "--noEmit", "-p", name])).toBe("");
});

test("[CALL1] [CALL4] the page with a call prints what it says", async () => {
  const opened = await (await browser.newContext()).newPage();
  const printed: string[] = [];
  const isWhole = new Promise<void>((resolve) =>
    opened.on("console", (message) => printed.push(message.text()) === 2 && resolve()),
  );
  opened.on("pageerror", (error) => console.error(error));
  await opened.goto(new URL("/calls", site.url).href);
  await isWhole;
  expect(printed).toEqual(callsPrint.text.trimEnd().split("\n"));
});

test("[MSG1] the page with the hooks shows what is so", async () => {
  const anna = await open("/hooks");
  await anna.getByText("live", { exact: true }).waitFor();
  await anna.getByRole("button", { name: "Say hello" }).click();
  await anna.getByText("anna: Hello!").waitFor();
  await anna.getByRole("button", { name: "hooks (0)" }).waitFor();
});

test("[MSG1] [MSG2] [MSG3] [REC1] [TYP1] [PRE3] [CALL1] the chat page of an hour does what it says, in as many lines as it says", async () => {
  const linesOf = (isOne: (role: string) => boolean) =>
    files.filter(({ role }) => isOne(role)).reduce((sum, { text }) => sum + text.trimEnd().split("\n").length, 0);
  const isOfCalls = (role: string) => role === "file Calls.tsx";
  expect([
    Number(/a whole chat page of (\d+) lines/.exec(page)?.[1]),
    Number(/for those who want them: (\d+) lines more/.exec(page)?.[1]),
  ]).toEqual([linesOf((role) => role.endsWith(".tsx") && !isOfCalls(role)), linesOf(isOfCalls)]);

  const [anna, ben] = [await open("/chat?user=anna"), await open("/chat?user=ben")];
  await anna.getByText("online: ben").or(anna.getByText("online: anna, ben")).waitFor();

  await write(anna, "Hello, Ben!");
  await row(ben, "Hello, Ben!").waitFor();
  await row(anna, "Hello, Ben!").getByText("read", { exact: true }).waitFor();
  await row(ben, "Hello, Ben!").getByRole("button", { name: "Like" }).click();
  await row(anna, "Hello, Ben!").getByText("👍 1").waitFor();

  anna.on("dialog", (dialog) => dialog.accept("Hello, dear Ben!"));
  await row(anna, "Hello, Ben!").getByRole("button", { name: "Edit" }).click();
  await row(ben, "Hello, dear Ben!").getByText("edited").waitFor();

  await ben.getByLabel("Message").press("H");
  await anna.getByText("ben types …").waitFor();

  // Without a network: shown at once, sent later, in order.
  await ben.context().setOffline(true);
  await ben.getByText("No connection.").waitFor();
  for (const text of ["one", "two", "three"]) await write(ben, text);
  for (const text of ["one", "two", "three"]) await row(ben, text).getByText("…", { exact: true }).waitFor();
  await ben.context().setOffline(false);
  await row(anna, "three").waitFor();
  const texts = await anna.getByRole("listitem").allTextContents();
  expect(texts.map((text) => /one|two|three/.exec(text)?.[0]).filter(Boolean)).toEqual(["one", "two", "three"]);

  // A call, in which both see each other.
  await anna.getByRole("button", { name: "Call ben" }).click();
  await ben.getByText("anna calls").waitFor();
  await ben.getByRole("button", { name: "Accept" }).click();
  for (const [who, other] of [
    [anna, "ben"],
    [ben, "anna"],
  ] as const) {
    await who.getByText(`${other}: active`).waitFor();
    await who.waitForFunction(
      (name) => (globalThis as any).document.querySelector(`video[aria-label="${name}"]`)?.videoWidth > 0,
      other,
    );
  }
  await ben.getByRole("button", { name: "Hang up" }).click();
  await anna.getByRole("button", { name: "Call ben" }).waitFor();

  await row(anna, "Hello, dear Ben!").getByRole("button", { name: "Delete" }).click();
  await ben.getByText("deleted").waitFor();

  // A second tab of the same browser, and a page that opens with what is kept.
  const second = await anna.context().newPage();
  await second.goto(anna.url());
  await row(second, "three").waitFor();
  await anna.close();
  await write(second, "from the second tab");
  await row(ben, "from the second tab").waitFor();
});

test("[TYP1] [MSG1] what is clicked on the chat page counts, whatever comes and goes between the press and the release", async () => {
  const [anna, ben] = [await open("/chat?user=anna"), await open("/chat?user=ben")];
  const sendWhile = async (text: string, happens: () => Promise<void>) => {
    await ben.getByLabel("Message").fill(text);
    await ben.getByRole("button", { name: "Send" }).hover();
    await ben.mouse.down();
    await happens();
    await ben.mouse.up();
    await row(ben, text).waitFor();
  };
  await anna.getByText("online: ben").or(anna.getByText("online: anna, ben")).waitFor();

  await ben.context().setOffline(true);
  const banner = ben.getByText("No connection.");
  await banner.waitFor();
  await sendWhile("the line comes back", async () => {
    await ben.context().setOffline(false);
    await banner.waitFor({ state: "hidden" });
  });
  await sendWhile("somebody types", async () => {
    await anna.getByLabel("Message").press("H");
    await ben.getByText("anna types …").waitFor();
  });
  await sendWhile("somebody is faster", async () => {
    await write(anna, "I am");
    await row(ben, "I am").waitFor();
  });
});
