/** Plays the demo as two people do, each in a browser of their own, and takes the pictures that the README shows. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core";
import { Client, MemoryStore } from "../../src/client/index.ts";
import { launchChromium } from "../support/chromium.ts";
import { type Demo, startDemo } from "../support/demo.ts";

setDefaultTimeout(120_000);

const root = resolve(import.meta.dir, "../..");
/** Takes pictures for the documents only where it is told to, as `TAKE_PICTURES=1 bun test test/browser/demo.test.ts`. */
const takesPictures = process.env.TAKE_PICTURES === "1";

let demo: Demo;
let browser: Browser;
const contexts: BrowserContext[] = [];
const troubles: string[] = [];

beforeAll(async () => {
  [demo, browser] = await Promise.all([startDemo(), launchChromium()]);
});
afterEach(async () => {
  for (const context of contexts.splice(0)) await context.close();
  expect(troubles.splice(0)).toEqual([]);
});
afterAll(async () => {
  await browser?.close();
  await demo?.stop();
});

const desktop = { width: 1180, height: 760 };
const phone = { width: 390, height: 780 };

async function openContext(options: BrowserContextOptions): Promise<BrowserContext> {
  const context = await browser.newContext({ locale: "en-GB", deviceScaleFactor: takesPictures ? 2 : 1, ...options });
  contexts.push(context);
  return context;
}

/** Opens the page as it is built, where nothing else is said. */
async function openPage(context: BrowserContext, path: string, site = demo.builtUrl): Promise<Page> {
  const page = await context.newPage();
  page.on("pageerror", (error) => troubles.push(error.message));
  page.on("console", (message) => {
    const text = message.text();
    // The browser's own word of a line that was cut is no trouble of the page's.
    if (message.type() === "error" && !text.includes("net::ERR_") && !text.includes("WebSocket")) troubles.push(text);
  });
  await page.goto(`${site}${path}`);
  return page;
}

const log = (page: Page) => page.getByRole("log");
const field = (page: Page) => page.getByRole("textbox");
/** The message with this text. */
const said = (page: Page, text: string) => log(page).getByRole("listitem").filter({ hasText: text });
const bubble = (page: Page, text: string) => said(page, text).locator(".bubble");
const tick = (page: Page, text: string, name: string) => said(page, text).getByRole("img", { name }).waitFor();
const conversation = (page: Page, name: string) =>
  page.getByRole("navigation").getByRole("link").filter({ hasText: name });

async function say(page: Page, text: string): Promise<void> {
  await field(page).fill(text);
  await field(page).press("Enter");
}

/** The texts of the last messages, as they stand. */
const lastTexts = async (page: Page, count: number) =>
  (await log(page).locator("[data-text]").allInnerTexts()).slice(-count);

/**
 * Runs in the page: notes where the first message in sight stands near the top, and tells by how much it has moved, in pixels, once more
 * messages have come or it is known that there are none.
 */
const scrollsBack = `(async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const box = document.querySelector("[role=log]");
  const all = () => [...box.querySelectorAll("[data-key]")];
  const topOf = (element) => element.getBoundingClientRect().top;
  const before = all().length;
  box.scrollTop = 300;
  await frame();
  const seen = all().find((it) => it.getBoundingClientRect().bottom > topOf(box));
  const at = topOf(seen);
  while (all().length === before && box.querySelector(".beginning") === null) await frame();
  await frame();
  return topOf(seen) - at;
})()`;

async function picture(page: Page, name: string): Promise<void> {
  if (!takesPictures) return;
  mkdirSync(join(root, "docs/images"), { recursive: true });
  await page.screenshot({ path: join(root, `docs/images/${name}.png`), animations: "disabled" });
}

test("[MSG1] [REC1] [TYP1] what one types, says, changes and takes back is seen by the other, who reacts", async () => {
  const anna = await openPage(await openContext({ viewport: desktop }), "?user=anna");
  const ben = await openPage(
    await openContext({ viewport: phone, colorScheme: "dark", hasTouch: true, isMobile: true }),
    "?user=ben",
  );
  await conversation(anna, "Ben Okafor").click();
  await conversation(ben, "Anna Berg").waitFor();

  await field(anna).pressSequentially("The flag stays");
  await conversation(ben, "Anna types…").waitFor();
  await field(anna).press("Enter");
  await tick(anna, "The flag stays", "Delivered");
  await conversation(ben, "The flag stays").filter({ hasText: "1 unread" }).click();
  await tick(anna, "The flag stays", "Read");
  await ben.getByText("New", { exact: true }).waitFor();

  await field(anna).press("ArrowUp");
  await anna.getByText("Editing your message").waitFor();
  await field(anna).fill("The flag stays at home");
  await field(anna).press("Enter");
  await said(ben, "The flag stays at home").getByText("edited").waitFor();

  await bubble(ben, "The flag stays at home").click();
  await ben.getByRole("button", { name: "React with laughing" }).last().click();
  await said(anna, "The flag stays at home").getByRole("button", { name: "laughing, 1: Ben" }).waitFor();

  await say(ben, "It is a very friendly skull");
  await bubble(anna, "very friendly skull").hover();
  await said(anna, "very friendly skull").getByRole("button", { name: "React with heart" }).click();
  await said(ben, "very friendly skull").getByRole("button", { name: "heart, 1: Anna" }).waitFor();
  await field(ben).pressSequentially("And it is waterproof");
  await anna.getByText("Ben is typing").waitFor();
  await field(anna).click();
  await picture(anna, "chat-light");
  await anna.emulateMedia({ colorScheme: "dark" });
  await picture(anna, "chat-dark");
  await picture(ben, "chat-phone");

  await bubble(anna, "at home").hover();
  await said(anna, "at home").getByRole("button", { name: "Delete" }).click();
  await anna.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await said(ben, "Message deleted").waitFor();
  expect(await said(ben, "at home").count()).toBe(0);

  await ben.getByRole("button", { name: "Back to the conversations" }).click();
  await conversation(ben, "Anna Berg").getByText("Draft:").waitFor();
  await ben.reload();
  await conversation(ben, "Anna Berg").click();
  expect(await field(ben).inputValue()).toBe("And it is waterproof");
});

test("[LOG2] [LOG4] what one says without a network waits in sight, and is there once, in order, when it is back", async () => {
  const context = await openContext({ viewport: desktop });
  const anna = await openPage(context, "?user=anna#anna-cleo");
  const cleo = await openPage(await openContext({ viewport: phone }), "?user=cleo#anna-cleo");
  await tick(anna, "Two minutes!", "Read");
  await tick(cleo, "I ordered for you", "Read");

  await context.setOffline(true);
  await anna.getByText("You are offline.").waitFor();
  const waiting = ["I am in the tunnel", "No network here", "Order me the dumplings"];
  for (const text of waiting) await say(anna, text);
  for (const text of waiting) await tick(anna, text, "Waiting to be sent");
  await say(cleo, "Where are you?");

  await context.setOffline(false);
  for (const text of waiting) await tick(anna, text, "Read");
  expect(await anna.getByText("You are offline.").count()).toBe(0);
  const all = ["Where are you?", ...waiting];
  expect(await lastTexts(cleo, 4)).toEqual(all);
  expect(await lastTexts(anna, 4)).toEqual(all);
});

test("the page that it opens has Anna beside Ben, in one browser", async () => {
  const page = await openPage(await openContext({ viewport: { width: 1440, height: 800 } }), "beside.html", demo.url);
  const [anna, ben] = [page.frameLocator("iframe >> nth=0"), page.frameLocator("iframe >> nth=1")];
  await anna.getByRole("textbox").fill("I see you");
  await anna.getByRole("textbox").press("Enter");
  const seen = (frame: typeof anna) => frame.getByRole("log").getByRole("listitem").filter({ hasText: "I see you" });
  await seen(ben).waitFor();
  await seen(anna).getByRole("img", { name: "Read" }).waitFor();
});

test("a second tab shows the same, and goes on when the first is closed", async () => {
  const context = await openContext({ viewport: desktop });
  const first = await openPage(context, "?user=dev#ben-dev");
  const ben = await openPage(await openContext({ viewport: phone }), "?user=ben#ben-dev");
  await said(first, "The piano wants tuning").waitFor();
  const second = await openPage(context, "?user=dev#ben-dev");
  await say(second, "I have found somebody");
  await said(first, "I have found somebody").waitFor();
  await tick(second, "I have found somebody", "Read");
  await first.close();
  await say(second, "She likes stairs");
  await said(ben, "She likes stairs").waitFor();
  await say(ben, "Of course she does");
  await said(second, "Of course she does").waitFor();
});

test("who signs out leaves nothing behind, what was written and not sent neither", async () => {
  const page = await openPage(await openContext({ viewport: desktop }), "?user=ben#anna-ben");
  await field(page).fill("Not for everybody");
  await page.reload();
  expect(await field(page).inputValue()).toBe("Not for everybody");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL((url) => url.search === "");
  expect(await page.evaluate("JSON.stringify(localStorage)")).not.toInclude("Not for everybody");
});

test("[LOG8] scrolling back comes to the beginning, and no message moves under the reader", async () => {
  const anna = await openPage(await openContext({ viewport: desktop }), "?user=anna#anna-ben");
  await said(anna, "In case we get bored").waitFor();
  const beginning = anna.getByText("This is where it began.");
  do expect(Math.abs(await anna.evaluate<number>(scrollsBack))).toBeLessThan(1);
  while ((await beginning.count()) === 0);
  await said(anna, "Hi Anna! Elin gave me your number").waitFor();
  expect(await log(anna).locator("[data-key]").count()).toBeGreaterThan(100);
  await anna.getByRole("button", { name: "Newest" }).click();
  expect(await bubble(anna, "In case we get bored").isVisible()).toBe(true);
});

test("[MSG5] what is refused says so, and is tried again or given up", async () => {
  const context = await openContext({ viewport: desktop });
  const anna = await openPage(context, "?user=anna#studio");
  await said(anna, "He says hello").waitFor();
  await context.setOffline(true);
  await anna.getByText("You are offline.").waitFor();
  for (const text of ["Too late", "Too late as well"]) await say(anna, text);
  await mayWrite("anna", false);
  await context.setOffline(false);
  await anna.getByText("You may not write here at the moment.").waitFor();
  await said(anna, "Too late as well").getByRole("button", { name: "Discard" }).click();
  await said(anna, "Too late as well").waitFor({ state: "detached" });
  await mayWrite("anna", true);
  await field(anna).waitFor();
  await said(anna, "Too late").getByRole("button", { name: "Try again" }).click();
  await tick(anna, "Too late", "Sent");
  expect(await lastTexts(anna, 1)).toEqual(["Too late"]);
});

/** Lets somebody write in the studio, or keeps them from it, as an administrator does. */
async function mayWrite(user_id: string, may_write: boolean): Promise<void> {
  const admin = new Client({ url: `${demo.service}?roles=admin`, userId: "backend", store: new MemoryStore() });
  admin.start();
  await admin.request("admin.members.update", { conversation_id: "studio", user_id, may_write });
  admin.stop();
}

test("whoever is alone is answered by the harbour's office", async () => {
  const ben = await openPage(await openContext({ viewport: phone }), "?user=ben#ben-office");
  await said(ben, "Then ask Dev.").waitFor();
  await say(ben, "Is the crane there?");
  await tick(ben, "Is the crane there?", "Read");
  await ben.getByText("Harbour Office is typing").waitFor();
  await said(ben, "We have written that down.").waitFor();
});

test("a conversation that one may not write in says who may", async () => {
  const anna = await openPage(await openContext({ viewport: desktop }), "?user=anna#harbour");
  await anna.getByText("Only Harbour Office can write here.").waitFor();
  expect(await field(anna).count()).toBe(0);
});

const callOf = (page: Page, name: string) => page.getByRole("region", { name: `Call with ${name}` });
/** Waits until the picture of somebody moves: frames come. */
function seesMoving(page: Page, label: string) {
  const video = JSON.stringify(`video[aria-label="${label}"]`);
  return page.waitForFunction(
    `document.querySelector(${video})?.videoWidth > 0 && document.querySelector(${video}).currentTime > 0.5`,
  );
}

test("[CALL1] [CALL4] [CALL5] [CALL7] a call rings, is answered, seen and heard, lives through a reload, and is hung up", async () => {
  const media: BrowserContextOptions = { permissions: ["camera", "microphone"] };
  const anna = await openPage(await openContext({ viewport: desktop, ...media }), "?user=anna#anna-ben");
  const ben = await openPage(await openContext({ viewport: phone, colorScheme: "dark", ...media }), "?user=ben");
  await conversation(ben, "Anna Berg").waitFor();

  await anna.getByRole("button", { name: "Call Ben with video" }).click();
  await callOf(anna, "Ben Okafor").getByText("Ringing…").waitFor();
  await callOf(ben, "Anna Berg").getByText("calls you with video").waitFor();
  await callOf(ben, "Anna Berg").getByRole("button", { name: "Accept", exact: true }).click();
  await seesMoving(anna, "Ben Okafor's picture");
  await seesMoving(ben, "Anna Berg's picture");
  await seesMoving(anna, "Your own picture");
  for (const page of [anna, ben]) expect(await barriersOn(page)).toEqual([]);

  // A call on a phone leaves the list in sight.
  const [call, first] = [
    await callOf(ben, "Anna Berg").boundingBox(),
    await conversation(ben, "Anna Berg").boundingBox(),
  ];
  expect(first!.y).toBeGreaterThanOrEqual(call!.y + call!.height);
  await callOf(ben, "Anna Berg").getByRole("button", { name: "Mute" }).click();
  await ben.reload();
  await seesMoving(ben, "Anna Berg's picture");
  await seesMoving(anna, "Ben Okafor's picture");
  await callOf(ben, "Anna Berg").getByRole("button", { name: "Mute", pressed: true }).waitFor();
  await callOf(anna, "Ben Okafor").getByRole("button", { name: "Camera", pressed: true }).click();
  await anna.locator("video.local").waitFor({ state: "detached" });

  await callOf(anna, "Ben Okafor").getByRole("button", { name: "Hang up" }).click();
  const ends = async (page: Page, name: string) => {
    await callOf(page, name).getByText("Call ended after").waitFor();
    await callOf(page, name).waitFor({ state: "detached" });
  };
  await Promise.all([ends(anna, "Ben Okafor"), ends(ben, "Anna Berg")]);
});

test("[CALL4] a call that is declined says so", async () => {
  const media: BrowserContextOptions = { permissions: ["camera", "microphone"] };
  const anna = await openPage(await openContext({ viewport: desktop, ...media }), "?user=anna#anna-cleo");
  const cleo = await openPage(await openContext({ viewport: phone, ...media }), "?user=cleo#studio");
  await said(cleo, "He says hello").waitFor();
  await anna.getByRole("button", { name: "Call Cléo", exact: true }).click();
  await callOf(cleo, "Anna Berg").getByText("calls you").waitFor();
  await callOf(cleo, "Anna Berg").getByRole("button", { name: "Decline" }).click();
  await callOf(anna, "Cléo Marchand").getByText("Cléo declined").waitFor();
});

/** Lists what the checker calls serious, or worse. */
async function barriersOn(page: Page): Promise<string[]> {
  await page.addScriptTag({ path: join(root, "node_modules/axe-core/axe.min.js") });
  const found: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[] =
    await page.evaluate("axe.run().then(({ violations }) => violations)");
  return found
    .filter(({ impact }) => ["serious", "critical"].includes(impact))
    .flatMap(({ id, nodes }) =>
      nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 300)} ${failureSummary}`),
    );
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`it has no barriers that the checker knows, ${colorScheme}, and is used by the keyboard alone`, async () => {
    const page = await openPage(await openContext({ viewport: desktop, colorScheme }), "?user=anna");
    const text = `The buns are in the oven, and it is ${colorScheme}`;
    await conversation(page, "Sailing weekend").focus();
    await page.keyboard.press("Enter");
    await said(page, "We will see about that").waitFor();
    expect(await barriersOn(page)).toEqual([]);
    await page.keyboard.type(text);
    await page.keyboard.press("Enter");
    // Until it has its number there is nothing to react to.
    const thumb = said(page, text).getByRole("button", { name: "React with thumbs up", includeHidden: true });
    await thumb.waitFor({ state: "attached" });
    await log(page).focus();
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await said(page, text).getByRole("button", { name: "thumbs up, 1: you" }).waitFor();
    await page.keyboard.press("Enter");
    await page.setViewportSize(phone);
    expect(await barriersOn(page)).toEqual([]);
    await page.getByRole("button", { name: "Back to the conversations" }).click();
    expect(await barriersOn(page)).toEqual([]);
    await page.goto(demo.builtUrl);
    await page.getByRole("link", { name: "Ben Okafor" }).waitFor();
    expect(await barriersOn(page)).toEqual([]);
  });
}
