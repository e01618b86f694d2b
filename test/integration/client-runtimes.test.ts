/** Proves that the client's connection runs in Node, with the package `ws` and with a WebSocket of Node's own, and in a page. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { launchChromium } from "../support/chromium.ts";
import { connection, stopConnections } from "../support/connections.ts";
import { linesOf } from "../support/lines.ts";
import { projectFolder } from "../support/program.ts";
import { type LinkProxy, startProxy } from "../support/proxy.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

setDefaultTimeout(60_000);
let service: Service;
let proxy: LinkProxy;
let url: string;
beforeAll(async () => {
  service = await startService();
  proxy = await startProxy(service.port);
  url = `ws://127.0.0.1:${proxy.port}/ws`;
});
afterAll(async () => {
  await proxy?.stop();
  await service?.stop();
});

async function bundled(text: string, target: "node" | "browser"): Promise<string> {
  // In the project, so that it finds what it imports.
  const folder = mkdtempSync(join(projectFolder, "test/support/.client-"));
  const entry = join(folder, "entry.ts");
  writeFileSync(entry, `import { runClient } from "../client-script.ts";\n${text}`);
  try {
    const { outputs } = await Bun.build({ entrypoints: [entry], target, external: ["ws"] });
    return await outputs[0]!.text();
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Keeps lines, and waits for those to come. */
function lines() {
  const all: string[] = [];
  const watchers = new Set<() => void>();
  const first = (fits: (line: string) => boolean, { from, named }: { from: number; named: string }) =>
    new Promise<number>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${named} among ${JSON.stringify(all)}`)), 20_000);
      const look = () => {
        const at = all.findIndex((line, index) => index >= from && fits(line));
        if (at < 0) return;
        clearTimeout(timer);
        watchers.delete(look);
        resolve(at);
      };
      watchers.add(look);
      look();
    });
  return {
    all,
    add(line: string) {
      all.push(line);
      for (const watcher of [...watchers]) watcher();
    },
    /** The next one after those that were waited for before. */
    next: (line: string, from = all.length) => first((it) => it === line, { from, named: line }),
    /** Waits for the first line that fits. @returns what is in its parentheses */
    async matching(pattern: RegExp): Promise<string> {
      const at = await first((it) => pattern.test(it), { from: 0, named: String(pattern) });
      return pattern.exec(all[at]!)![1]!;
    },
  };
}

/** Has it hear and say something, loses the line under it, and has it hear again. */
async function play(told: ReturnType<typeof lines>): Promise<void> {
  await told.next("live", 0);
  await told.next("sent m1", 0);
  const ben = connection({ url: service.url, userId: "ben" });
  ben.connection.start();
  const say = (content: string) =>
    ben.connection.request("message.send", { conversation_id: "c1", client_message_id: crypto.randomUUID(), content });
  await say("one");
  await told.next("heard one", 0);
  const before = told.all.length;
  proxy.cut();
  await say("two");
  proxy.heal();
  await told.next("heard two", before);
  expect(told.all.filter((line) => line.startsWith("heard"))).toEqual(["heard one", "heard two"]);
  expect(told.all.filter((line) => line.startsWith("error"))).toEqual([]);
  await stopConnections();
}

const kinds = {
  "the package ws": { flags: [], text: `import { WebSocket } from "ws"; const webSocket = WebSocket;` },
  "a WebSocket of its own": { flags: ["--experimental-websocket"], text: "const webSocket = undefined;" },
};

/** Has it run in Node for as long as `play` does, with what it prints. */
async function inNode(
  { text, flags = [] }: { text: string; flags?: string[] },
  play: (told: ReturnType<typeof lines>) => Promise<void>,
): Promise<void> {
  const file = join(projectFolder, `test/support/.client-${crypto.randomUUID()}.mjs`);
  writeFileSync(file, await bundled(text, "node"));
  const child = Bun.spawn(["node", ...flags, file], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  try {
    const told = lines();
    void (async () => {
      for await (const line of linesOf(child.stdout)) told.add(line);
    })();
    await play(told);
  } finally {
    child.kill();
    await child.exited;
    rmSync(file);
  }
}

for (const [name, { flags, text }] of Object.entries(kinds))
  test(`[LOG3] in Node with ${name}`, () =>
    inNode(
      {
        flags,
        text: `${text} void runClient({ url: ${JSON.stringify(url)}, webSocket, tell: (line) => console.log(line) });`,
      },
      play,
    ));

/** Tells what was agreed on, and how many bytes it took to hear something. */
const counting = `
  import { WebSocket } from "ws";
  let socket;
  class Counting extends WebSocket {
    constructor(...given) {
      super(...given);
      socket = this;
    }
  }
  const tell = (line) => {
    if (line.startsWith("sent")) console.log("sent in " + socket._socket.bytesWritten);
    else if (line.startsWith("heard")) console.log("heard " + line.length + " in " + socket._socket.bytesRead);
    else console.log(line === "live" ? "live with " + socket.extensions.split(";")[0] : line);
  };
`;

test("[CON4] in Node with the package ws what is said and heard is compressed, with a token where that is in a header", async () => {
  const settings = { WEBSOCKET__COMPRESSION: "shared" };
  const trusting = await startService({ settings });
  const asking = await startService({ settings: { ...settings, AUTH__MODE: "token", AUTH__SECRET: secret } });
  const says = "many words, again and again; ".repeat(1_000);
  const exp = Math.floor(Date.now() / 1_000) + 600;
  const [token, bens] = await Promise.all(["anna", "ben"].map((sub) => signToken({ sub, exp })));
  const ways = [
    { to: trusting, ben: { userId: "ben" }, who: `userId: "anna", webSocket: Counting`, agreed: "permessage-deflate" },
    // It goes in the first message, before which nobody knows who this is.
    { to: asking, ben: { token: bens }, who: `getToken: () => token, webSocket: Counting`, agreed: "" },
    {
      to: asking,
      ben: { token: bens },
      who: "getToken: () => token, webSocket: WithToken",
      agreed: "permessage-deflate",
    },
  ];
  for (const { to, ben, who, agreed } of ways) {
    const text = `${counting}
      const token = ${JSON.stringify(token)};
      class WithToken extends Counting {
        constructor(url, protocols) {
          super(url, protocols, { headers: { authorization: "Bearer " + token } });
        }
      }
      void runClient({ url: ${JSON.stringify(to.url)}, ${who}, tell, says: ${JSON.stringify(says)} });`;
    await inNode({ text }, async (told) => {
      await told.next(`live with ${agreed}`, 0);
      const sent = await told.matching(/^sent in (\d+)$/);
      const other = connection({ url: to.url, ...ben });
      other.connection.start();
      const message = { conversation_id: "c1", client_message_id: crypto.randomUUID(), content: says };
      await other.connection.request("message.send", message);
      const heard = await told.matching(new RegExp(`^heard ${says.length + 6} in (\\d+)$`));
      const isCompressed = agreed !== "";
      expect([who, Number(sent) < says.length, Number(heard) < says.length]).toEqual([who, isCompressed, isCompressed]);
      await stopConnections();
    });
  }
  await Promise.all([trusting.stop(), asking.stop()]);
});

test("[CON5] in Node without any it says what to give", async () => {
  const script = await bundled(
    `try { await runClient({ url: "ws://127.0.0.1:1/ws", tell: console.log }); } catch (error) { console.log(String(error)); }`,
    "node",
  );
  const { stdout } = Bun.spawnSync(["node", "--no-experimental-websocket", "--input-type=module", "-e", script]);
  expect(stdout.toString()).toContain("give one as `webSocket`");
});

test("[LOG3] in a page: over a broken line, and at once when the network is back", async () => {
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    const told = lines();
    await page.exposeFunction("tell", (line: string) => told.add(line));
    await page.goto(`${service.http}/`);
    const script = await bundled(`void runClient({ url: ${JSON.stringify(url)}, tell: window.tell });`, "browser");
    await page.addScriptTag({ content: script, type: "module" });
    await play(told);
    const before = told.all.length;
    await page.context().setOffline(true);
    proxy.cut();
    await told.next("waiting offline", before);
    proxy.heal();
    const offline = told.all.length;
    await page.context().setOffline(false);
    await told.next("live", offline);
  } finally {
    await browser.close();
  }
});
