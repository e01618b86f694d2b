/** Proves in a real browser that a chat is the same in all tabs of a user, also in one that opens late, without the network, or leads next. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, BrowserContext } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { openTab, type Site, startSite, type Tab } from "../support/site.ts";

setDefaultTimeout(60_000);

let browser: Browser;
let service: Service;
let site: Site;
let context: BrowserContext | null = null;
beforeAll(async () => {
  [browser, service, site] = await Promise.all([
    launchChromium(),
    startService(),
    startSite("test/browser/chat-page.ts"),
  ]);
});
afterEach(async () => {
  await context?.close();
  context = null;
});
afterAll(async () => {
  await browser?.close();
  await site?.stop();
  await service?.stop();
});
const people = createPeople(() => service.url);

/** Anna's browser, and Ben who says something in their conversation. */
async function begin() {
  context = await browser.newContext();
  const [anna, conversation] = [fresh("anna"), fresh("c")];
  const [ben] = await people.gather(conversation, [fresh("ben"), anna]);
  const say = (content: string) =>
    ben!.ask("message.send", { conversation_id: conversation, client_message_id: fresh("m"), content });
  const open = async (opened = "both"): Promise<Tab> => {
    const query = { socket: `ws://localhost:${service.port}/ws`, user_id: anna, conversation, open: opened };
    return openTab(context!, site, query);
  };
  return { say, open, ben: ben!, anna, conversation };
}

test("[LOG3] all tabs show the same, each message once, whoever has said it and whichever tab leads", async () => {
  const { say, open } = await begin();
  await say("one");
  const first = await open();
  await first.does("shows(1)");
  const [second, third] = [await open(), await open("conversation")];
  for (const tab of [second, third]) await tab.does("shows(1)");
  await second.does(`conversation.send("two")`);
  await say("three");
  for (const tab of [first, second, third]) await tab.does("shows(3)");
  const texts = await first.does("texts()");
  for (const tab of [second, third]) expect(await tab.does("texts()")).toEqual(texts);
  await third.does("conversation.markRead()");
  for (const tab of [first, second]) await tab.does("lists(0)");
  await first.page.close();
  await third.does(`conversation.send("four")`);
  await say("five");
  for (const tab of [second, third]) await tab.does("shows(5)");
  const later = await open();
  await later.does("shows(5)");
  expect((await later.does("texts()")).sort()).toEqual(["five", "four", "one", "three", "two"]);
  await later.does("lists(1)");
  for (const tab of [second, third, later]) expect(await tab.does("errors")).toEqual([]);
});

test("[LOG4] a tab that leads next shows a conversation whole that only the one before had", async () => {
  const { open, conversation, ben, anna } = await begin();
  const other = fresh("c");
  await people.gather(other, [anna]);
  const say = (content: string) =>
    ben.ask("message.send", { conversation_id: other, client_message_id: fresh("m"), content });
  await say("one");
  const [first, second] = [await open("list"), await open("conversation")];
  await second.does("shows(0)");
  expect(await first.does(`opens("${other}", 1)`)).toEqual(["one"]);
  // So that it is written down with a place before what comes now.
  await first.page.waitForTimeout(1_000);
  for (const text of ["two", "three"]) await say(text);
  await first.does(`opens("${other}", 3)`);
  await first.page.close();
  await say("four");
  await second.does("shows(0)");
  expect(await second.does(`opens("${other}", 4)`)).toEqual(["one", "two", "three", "four"]);
  expect(await second.does(`opens("${conversation}", 0)`)).toEqual([]);
  expect(await second.does("errors")).toEqual([]);
});

test("[LOG4] what a tab has that nobody else looked at is kept by the one that leads, and goes on in a new browser session", async () => {
  const { say, open } = await begin();
  const first = await open("list");
  await first.does("lists(0)");
  const second = await open("conversation");
  for (const text of ["one", "two", "three"]) await say(text);
  await second.does("shows(3)");
  await first.does("lists(3)");
  // All go, and something happens before one is back.
  await second.page.close();
  await first.page.close();
  await say("four");
  const third = await open();
  await third.does("shows(4)");
  expect(await third.does("texts()")).toEqual(["one", "two", "three", "four"]);
  expect(await third.does("errors")).toEqual([]);
});

test("a page that is opened without the network shows what was kept, and what is written then is sent from the next one", async () => {
  const { say, open, ben } = await begin();
  await say("one");
  const first = await open();
  await first.does("shows(1)");
  // Written down with the cursor, a moment later.
  await first.does(`client.stop()`);
  await first.page.close();
  service.signal("SIGSTOP");
  const offline = await open();
  await offline.does("kept()");
  expect(await offline.does("texts()")).toEqual(["one"]);
  await offline.does(`conversation.send("two")`);
  expect(await offline.does("texts()")).toEqual(["one", "two (pending)"]);
  await offline.page.close();
  service.signal("SIGCONT");
  const back = await open();
  await back.does("shows(2)");
  await ben.next("message.new", ({ content }) => content === "two");
  await back.does("client.signOut()");
  expect(await back.does("texts()")).toEqual([]);
  const again = await open();
  await again.does("shows(2)");
  expect(await again.does("texts()")).toEqual(["one", "two"]);
});
