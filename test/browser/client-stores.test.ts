/** Proves in a real browser that the client's store keeps on IndexedDB what it was given, over reloads and several tabs. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, Page } from "playwright-core";
import { storeCases } from "../contract/client-store.ts";
import { launchChromium } from "../support/chromium.ts";
import { type Site, startSite } from "../support/site.ts";

setDefaultTimeout(60_000);

let browser: Browser;
let site: Site;
let page: Page;
beforeAll(async () => {
  [browser, site] = await Promise.all([launchChromium(), startSite("test/browser/stores-page.ts")]);
  page = await (await browser.newContext()).newPage();
  await page.goto(site.url);
  await page.waitForFunction("globalThis.stores");
});
afterAll(async () => {
  await browser?.close();
  await site?.stop();
});

for (const { title } of storeCases)
  test(`IndexedDB: ${title}`, () => page.evaluate(`stores.run(${JSON.stringify(title)})`));

test("IndexedDB: what one tab wrote another reads, and one that clears removes the database under both", async () => {
  const other = await page.context().newPage();
  await other.goto(site.url);
  await other.waitForFunction("globalThis.stores");
  await page.evaluate('globalThis.mine = stores.open("shared"); mine.write([["a", 1]])');
  expect(await other.evaluate('globalThis.mine = stores.open("shared"); mine.read("")')).toEqual([["a", 1]]);
  await page.evaluate("mine.clear()");
  await page.waitForFunction(`stores.names().then((names) => !names.includes("shared"))`);
  expect(await other.evaluate('mine.read("")')).toEqual([]);
  await other.evaluate('mine.write([["b", 2]])');
  await page.reload();
  await page.waitForFunction("globalThis.stores");
  expect(await page.evaluate('stores.open("shared").read("")')).toEqual([["b", 2]]);
});
