/** Proves in a real browser that the console shows live figures under its own content policy [END3]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { Client } from "../support/client.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const token = "an operations token";
let service: Service;
let browser: Browser;
let url: string;
beforeAll(async () => {
  const settings = { OPERATIONS__LISTEN: "127.0.0.1:0", OPERATIONS__TOKEN: token, CLUSTER__NODE_ID: "the-node" };
  [service, browser] = await Promise.all([startService({ settings }), launchChromium()]);
  url = String((await service.logged(({ msg }) => msg === "metrics and console")).url);
});
afterAll(async () => {
  await browser?.close();
  await service?.stop();
});

test("[END3] the page shows figures, follows them, and forgets the token in the address", async () => {
  const page = await browser.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(`${url}/?token=${encodeURIComponent(token)}`);
  const connections = (count: number) =>
    page.locator(`xpath=//dt[text()="connections"]/following-sibling::dd[1][text()="${count}"]`).waitFor();
  await connections(0);
  expect(await page.textContent("#about")).toContain("node the-node");
  expect(page.url()).toBe(`${url}/`);
  const client = await Client.connect(service.url, { query: { user_id: "anna" } });
  await connections(1);
  await client.close();
  await connections(0);
  expect(complaints).toEqual([]);
  expect(new Set(asked.filter((it) => !it.startsWith("data:")).map((it) => new URL(it).origin))).toEqual(
    new Set([url]),
  );
  await page.close();
});
