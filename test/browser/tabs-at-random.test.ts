/** Opens, closes, freezes and leaves tabs of one browser at random while everybody writes; played again with TEST_SEED. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { CDPSession, Page } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { Client } from "../support/client.ts";
import { startProxy } from "../support/proxy.ts";
import { startService } from "../support/service.ts";
import { startSite } from "../support/site.ts";

setDefaultTimeout(120_000);

const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
console.info(`tabs: TEST_SEED=${seed}`);
const steps = Number(process.env.TEST_STEPS ?? 25);

/** mulberry32 */
function randomFrom(from: number): () => number {
  let state = from;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Tab {
  page: Page;
  frozen: CDPSession | null;
}

test("[LOG2] [LOG3] whatever becomes of the tabs and of the line, each shows every message once and in order", async () => {
  const random = randomFrom(seed);
  const below = (count: number) => Math.floor(random() * count);
  const [browser, service, site] = await Promise.all([
    launchChromium(),
    startService(),
    startSite("test/browser/chat-tab-page.ts"),
  ]);
  const line = await startProxy(service.port);
  const context = await browser.newContext();
  const topic = "conversation:c";
  const ben = await Client.connect(service.url, { query: { user_id: "ben" } });
  const tabs: Tab[] = [];
  const open = async () => {
    const page = await context.newPage();
    const socket = `ws://localhost:${line.port}/ws`;
    await page.goto(`${site.url}?${new URLSearchParams({ socket, user_id: "anna", conversation_id: "c" })}`);
    await page.waitForFunction("globalThis.tab");
    tabs.push({ page, frozen: null });
  };
  await open();
  await tabs[0]!.page.evaluate("tab.live()");
  let own = 0;
  const said: Promise<unknown>[] = [];
  const awake = () => tabs.filter(({ frozen }) => frozen === null);
  const actions: Record<string, () => Promise<unknown>> = {
    async say() {
      for (let n = below(4); n >= 0; n--) {
        const client_message_id = `ben-${said.length}`;
        said.push(ben.ask("message.send", { conversation_id: "c", client_message_id, content: client_message_id }));
      }
    },
    // Kept by the time that it resolves, so that it arrives whatever becomes of its tab.
    async send() {
      const tab = awake()[below(awake().length)];
      await tab?.page.evaluate(`tab.conversation.send("anna-${own++}").then(() => {})`);
    },
    async open() {
      if (tabs.length < 5) await open();
    },
    async close() {
      if (awake().length < 2) return;
      const [tab] = tabs.splice(tabs.indexOf(awake()[below(awake().length)]!), 1);
      await tab!.page.close();
    },
    async reload() {
      const tab = awake()[below(awake().length)]!;
      await tab.page.reload();
      await tab.page.waitForFunction("globalThis.tab");
    },
    async freeze() {
      if (awake().length < 2 || awake().length < tabs.length) return;
      const tab = awake()[below(awake().length)]!;
      tab.frozen = await context.newCDPSession(tab.page);
      await tab.frozen.send("Debugger.enable");
      await tab.frozen.send("Debugger.pause");
    },
    async thaw() {
      for (const tab of tabs) {
        await tab.frozen?.send("Debugger.disable");
        await tab.frozen?.detach();
        tab.frozen = null;
      }
    },
    async cut() {
      line.cut();
      line.heal();
    },
    // Long enough for some of it to come in between.
    pause: () => ben.settled(),
  };
  const often = [
    "say",
    "say",
    "say",
    "send",
    "send",
    "send",
    "open",
    "close",
    "reload",
    "freeze",
    "thaw",
    "cut",
    "pause",
  ];
  for (let step = 0; step < steps; step++) {
    const action = often[below(often.length)]!;
    await actions[action]!();
  }
  await actions.thaw!();
  await Promise.all(said);
  await ben.ask("message.send", { conversation_id: "c", client_message_id: "end", content: "end" });

  const contents: string[] = [];
  for (const tab of tabs) await tab.page.evaluate(`tab.untilShown("end sent")`);
  for (const tab of tabs) await tab.page.evaluate("tab.untilNothingWaits()");
  for (let before = 0, hasMore = true; hasMore; ) {
    const page = await ben.ask("history", { topic, after_seq: before, limit: 200, types: ["message.new"] });
    contents.push(...page.events.map(({ payload }: any) => payload.content));
    before = page.events.at(-1)?.seq ?? before;
    hasMore = page.has_more;
  }
  const whole = [...said.keys()].map((n) => `ben-${n}`);
  expect(contents.filter((it) => it.startsWith("ben"))).toEqual(whole);
  expect(contents.filter((it) => it.startsWith("anna")).sort()).toEqual(
    [...Array(own).keys()].map((n) => `anna-${n}`).sort(),
  );
  for (const { page } of tabs) {
    await page.evaluate("tab.loadAll()");
    expect(await page.evaluate("tab.messages()")).toEqual(contents.map((it) => `${it} sent`));
  }
  await browser.close();
  await ben.close();
  await line.stop();
  await site.stop();
  await service.stop();
});
