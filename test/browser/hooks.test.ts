/** Proves the hooks with real React in a real browser: what changes is drawn, what is gone is let go, and a server's page is taken over. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, Page } from "playwright-core";
import { renderToString } from "react-dom/server";
import { Client as ChatClient } from "../../src/client/index.ts";
import { launchChromium } from "../support/chromium.ts";
import { Client } from "../support/client.ts";
import { type Service, startService } from "../support/service.ts";
import { type Site, startSite } from "../support/site.ts";
import { page as app } from "./hooks-page.ts";

setDefaultTimeout(60_000);

let browser: Browser;
let service: Service;
let site: Site;
let ben: Client;
beforeAll(async () => {
  [browser, site] = await Promise.all([launchChromium(), startSite("test/browser/hooks-page.ts")]);
  service = await startService({ settings: { SERVER__ALLOWED_ORIGINS: new URL(site.url).origin } });
});
afterAll(async () => {
  await browser?.close();
  await site?.stop();
  await service?.stop();
});
afterEach(() => ben?.close());

interface Sent {
  type: string;
  payload: any;
}

/** @returns the page, all that it has sent to the server, and what waits until that is enough */
async function open(query: Record<string, string> = {}) {
  const page = await (await browser.newContext()).newPage();
  page.on("pageerror", (error) => console.error(error));
  const sent: Sent[] = [];
  let look = () => {};
  page.on("websocket", (socket) =>
    socket.on("framesent", ({ payload }) => {
      sent.push(JSON.parse(String(payload)) as Sent);
      look();
    }),
  );
  const hasSent = (isEnough: () => boolean) =>
    new Promise<void>((resolve) => {
      look = () => isEnough() && resolve();
      look();
    });
  await page.goto(`${site.url}?${new URLSearchParams({ url: service.url, ...query })}`);
  return { page, sent, hasSent };
}

const shows = (page: Page, selector: string, text: string) =>
  page.waitForFunction(
    ([selector, text]) => (globalThis as any).document.querySelector(selector)?.textContent.includes(text),
    [selector, text],
  );

const speaks = async (userId: string) => {
  const client = await Client.connect(service.url, { query: { user_id: userId } });
  await client.ask("subscribe", { topics: ["conversation:c1", "typing:c1"] });
  return client;
};

test("[MSG1] [TYP1] [PRE3] [REC3] what the hooks show is so: messages, the list, who types and who is here", async () => {
  ben = await speaks("ben");
  const { page } = await open();
  await shows(page, "#state", "live");
  await page.waitForSelector('#conversation[data-status="live"]');
  const drawnBefore = await page.evaluate("drawn.typing");
  await ben.ask("message.send", { conversation_id: "c1", client_message_id: crypto.randomUUID(), content: "Hi Anna" });
  await shows(page, "#conversation", "Hi Anna (sent)");
  await shows(page, "#list", "c1: 1");
  await page.click("#send");
  await shows(page, "#conversation", "Hello! (sent)");
  // Nothing that was said has anything to do with who types.
  expect(await page.evaluate("drawn.typing")).toBe(drawnBefore);
  await ben.ask("typing.start", { conversation_id: "c1" });
  await shows(page, "#typing", "ben");
  await shows(page, "#people", "online, ben online");
  await ben.close();
  await shows(page, "#people", "offline, ben offline");
});

test("[SUB1] [SUB4] a conversation is followed once, in strict mode too, and let go when nobody shows it", async () => {
  ben = await speaks("ben");
  const { page, sent, hasSent } = await open();
  await page.waitForSelector('#conversation[data-status="live"]');
  await page.waitForSelector('#list[data-status="live"]');
  const namesOf = (type: string) =>
    sent
      .filter((it) => it.type === type)
      .flatMap(({ payload }) => payload.topics.map((topic: string) => topic + JSON.stringify(payload.filters ?? {})));
  // Of whom one may not see yet it is asked once more.
  const followed = namesOf("subscribe").filter((topic) => !topic.startsWith("presence"));
  expect(followed.length).toBeGreaterThan(0);
  expect(new Set(followed).size).toBe(followed.length);
  await page.click("#toggle");
  await page.waitForFunction(() => !(globalThis as any).document.querySelector("#conversation"));
  const isLetGo = (kind: string) => namesOf("unsubscribe").some((topic) => topic.startsWith(kind));
  await hasSent(() => ["conversation", "typing", "presence"].every(isLetGo));
});

test("[REC3] a server renders what is there before anything is known, and the page takes it over as it is", async () => {
  const client = new ChatClient({ url: service.url, userId: "anna" });
  const html = renderToString(app(client));
  expect(html).toContain('data-status="loading"');
  const { page } = await open({ html });
  await shows(page, "#state", "live");
  expect(await page.evaluate("faults")).toEqual([]);
});
