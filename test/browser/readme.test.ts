/** Pastes the README's exchange into the consoles of two real tabs on a fresh service, and compares all that they print. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join, resolve } from "node:path";
import type { Browser } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const readme = await Bun.file(join(resolve(import.meta.dir, "../.."), "README.md")).text();
const steps = [...readme.matchAll(/^<!-- (\w+) (runs|sees) -->\n```\w+\n([\s\S]*?)^```/gm)].map(
  ([, who, does, code]) => ({ who: who!, does: does!, code: code! }),
);

let service: Service;
let browser: Browser;
beforeAll(async () => {
  [service, browser] = await Promise.all([startService(), launchChromium()]);
});
afterAll(async () => {
  await browser?.close();
  await service?.stop();
});

/** A tab as a person opens it; what is pasted shares its names, as in the tools of the browser. */
async function openTab() {
  const page = await browser.newPage();
  const printed: string[] = [];
  let heard = () => {};
  page.on("console", (message) => {
    // The browser's own word that the page is a 404 is no news.
    if (message.type() !== "log") return;
    printed.push(message.text());
    heard();
  });
  await page.goto(`http://localhost:${service.port}`);
  const tools = await page.context().newCDPSession(page);
  return {
    printed,
    async paste(code: string) {
      const expression = code.replaceAll("localhost:8086", `localhost:${service.port}`);
      const { exceptionDetails } = await tools.send("Runtime.evaluate", { expression, replMode: true });
      expect(exceptionDetails).toBeUndefined();
      // A person pastes the next piece when the socket is open.
      await tools.send("Runtime.evaluate", {
        expression:
          "await new Promise((resolve) => (ws.readyState === 1 ? resolve() : ws.addEventListener('open', resolve)))",
        awaitPromise: true,
        replMode: true,
      });
    },
    async untilPrinted(count: number) {
      while (printed.length < count) await new Promise<void>((resolve) => (heard = resolve));
    },
  };
}

/** Puts the word that somebody has joined last: it is not logged, and may come on either side of what is. */
const inOrder = (lines: string[]) =>
  lines.toSorted((one, other) => Number(isJoining(one)) - Number(isJoining(other))).map(shapeOf);
const isJoining = (line: string) => line.includes('"type":"member.added"');

/** Replaces what differs from one run to the next by what it is. */
const shapeOf = (line: string) =>
  line
    // Ids that the server makes are UUIDs of version 7, one is made by who sends; those of the users stay.
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g, "<id>")
    .replace(/"cursor":"[0-9a-z]{8}\./g, '"cursor":"<epoch>.')
    .replace(/"client_message_id":"[0-9a-f-]{36}"/g, '"client_message_id":"<id>"')
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, "<moment>");

test("[END1] [CON5] [ENV3] [SUB1] [MSG1] the README's exchange prints what it says, all of it, in the console of the service's own page", async () => {
  const tabs = new Map<string, { tab: Awaited<ReturnType<typeof openTab>>; expected: string[] }>();
  for (const { who, does, code } of steps) {
    if (!tabs.has(who)) tabs.set(who, { tab: await openTab(), expected: [] });
    const { tab, expected } = tabs.get(who)!;
    if (does === "runs") await tab.paste(code);
    else {
      expected.push(...code.trim().split("\n"));
      await tab.untilPrinted(expected.length);
    }
  }
  expect([...tabs.keys()]).toEqual(["anna", "ben"]);
  for (const { tab, expected } of tabs.values()) expect(inOrder(tab.printed)).toEqual(inOrder(expected));
});
