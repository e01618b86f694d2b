/** Proves in a real browser, with tabs that close, crash and freeze, that all of them have one connection and none of them misses anything. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { type Site, startSite } from "../support/site.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let browser: Browser;
let service: Service;
let site: Site;
const contexts: BrowserContext[] = [];
beforeAll(async () => {
  [browser, service, site] = await Promise.all([
    launchChromium(),
    startService(),
    startSite("test/browser/tabs-page.ts"),
  ]);
});
afterEach(async () => {
  for (const context of contexts.splice(0)) await context.close();
});
afterAll(async () => {
  await browser?.close();
  await site?.stop();
  await service?.stop();
});
const people = createPeople(() => service.url);

interface Tab {
  page: Page;
  /** Runs what the page offers as `tab`, and gives what comes of it. */
  does(what: string): Promise<any>;
}

async function openContext(): Promise<BrowserContext> {
  const context = await browser.newContext();
  contexts.push(context);
  return context;
}

async function openTab(context: BrowserContext, query: Record<string, string>): Promise<Tab> {
  const page = await context.newPage();
  const socket = `ws://localhost:${service.port}/ws`;
  await page.goto(`${site.url}?${new URLSearchParams({ socket, ...query })}`);
  await page.waitForFunction("globalThis.tab");
  return { page, does: (what) => page.evaluate(`tab.${what}`) as Promise<any> };
}

/** A browser with so many tabs of one user on one conversation, all of them live; the first one leads. */
async function openTabs(count: number) {
  const context = await openContext();
  const userId = fresh("anna");
  const conversationId = fresh("c");
  const topic = `conversation:${conversationId}`;
  const open = () => openTab(context, { user_id: userId, topic });
  const tabs: Tab[] = [];
  for (let n = 0; n < count; n++) {
    tabs.push(await open());
    await tabs[n]!.does("live()");
  }
  const ben = await people.connect(fresh("ben"));
  const say = (content: string) =>
    ben.ask("message.send", { conversation_id: conversationId, client_message_id: fresh("m"), content });
  const admin = await people.connect(fresh("admin"), { roles: "admin" });
  const connections = async () => (await admin.ask("admin.connections", { user_id: userId })).connections as any[];
  return { context, userId, conversationId, topic, tabs, open, ben, say, connections };
}

const leads = (tab: Tab) => tab.does("core.isLead") as Promise<boolean>;

test("[CON3] five tabs are one connection; each is told everything once, and may ask and send", async () => {
  const { tabs, say, connections, ben, topic } = await openTabs(5);
  expect(await connections()).toHaveLength(1);
  expect(await Promise.all(tabs.map(leads))).toEqual([true, false, false, false, false]);
  const ids = await Promise.all(tabs.map((tab) => tab.does("core.deviceId")));
  expect(new Set(ids).size).toBe(1);
  for (let n = 0; n < 20; n++) await say(`${n}`);
  await ben.ask("subscribe", { topics: [topic] });
  for (const [n, tab] of tabs.entries()) await tab.does(`say("own ${n}")`);
  for (const tab of tabs) {
    await tab.does("untilHeard('19')");
    await tab.does("untilSent('own 4')");
    expect(await tab.does("heard()")).toEqual([...Array(20).keys()].map(String));
    expect((await tab.does("sent()")).sort()).toEqual([0, 1, 2, 3, 4].map((n) => `own ${n}`));
    expect(await tab.does("core.outbox.entries")).toEqual([]);
    const { events } = await tab.does(`core.request("history", { topic: "${topic}" })`);
    expect(events).toHaveLength(25);
  }
  const refused = await tabs[3]!.does(
    `core.request("history", { topic: "nowhere" }).catch(({ name, code, field, retryable }) => ({ name, code, field, retryable }))`,
  );
  const alone = await tabs[0]!.does(
    `core.request("history", { topic: "nowhere" }).catch(({ name, code, field, retryable }) => ({ name, code, field, retryable }))`,
  );
  expect(refused).toMatchObject({ name: "ServerError" });
  expect(refused).toEqual(alone);
  for (const tab of tabs) expect(await tab.does("errors")).toEqual([]);
});

const endings: Record<string, (tab: Tab) => Promise<unknown>> = {
  closed: (tab) => tab.page.close(),
  crashed: async (tab) => {
    const crashed = tab.page.waitForEvent("crash");
    void tab.page.goto("chrome://crash").catch(() => {});
    await crashed;
  },
  "left for another page": (tab) => tab.page.goto("about:blank"),
  stopped: (tab) => tab.does("core.stop()"),
};

for (const [how, end] of Object.entries(endings))
  test(`[CON3] [LOG3] [LOG2] the tab that leads is ${how}: another leads, and nothing is lost or told twice`, async () => {
    const { tabs, say, connections } = await openTabs(3);
    const [first, ...others] = tabs as [Tab, Tab, Tab];
    await say("before");
    for (const tab of others) await tab.does("untilHeard('before')");
    const [connection] = await connections();
    // All of this is under way while it goes.
    const said = Array.from({ length: 30 }, (_, n) => say(`${n}`));
    const asked = others[0]!.does(`core.request("ping", {}).then(() => "answered", ({ code }) => code)`);
    const own = Array.from({ length: 10 }, (_, n) => others[n % 2]!.does(`say("own ${n}")`));
    await end(first);
    await Promise.all([...said, ...own]);
    expect(await asked).toBe("answered");
    await Promise.race(others.map((tab) => tab.does("untilLead()")));
    await say("after");
    for (const tab of others) {
      await tab.does("untilHeard('after')");
      await tab.does("untilEmpty()");
      for (let n = 0; n < 10; n++) await tab.does(`untilSent("own ${n}")`);
      expect(await tab.does("heard()")).toEqual(["before", ...[...Array(30).keys()].map(String), "after"]);
      expect(new Set(await tab.does("sent()")).size).toBe(10);
      expect(await tab.does("kinds()")).not.toContain("gap");
      expect(await tab.does("errors")).toEqual([]);
    }
    expect((await Promise.all(others.map(leads))).sort()).toEqual([false, true]);
    const now = await eventually(connections, (it) => it.length === 1);
    expect(now[0].device_id).toBe(connection.device_id);
    expect(now[0].connection_id).not.toBe(connection.connection_id);
  });
