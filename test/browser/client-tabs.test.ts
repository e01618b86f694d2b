/** Proves in a real browser, with tabs that close, crash and freeze, that all of them have one connection and none of them misses anything. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, BrowserContext } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { openTab, type Site, startSite, type Tab } from "../support/site.ts";
import { secret, signToken } from "../support/tokens.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let browser: Browser;
let service: Service;
let site: Site;
let chat: Site;
const contexts: BrowserContext[] = [];
beforeAll(async () => {
  [browser, service, site, chat] = await Promise.all([
    launchChromium(),
    startService(),
    startSite("test/browser/tabs-page.ts"),
    startSite("test/browser/chat-tab-page.ts"),
  ]);
});
afterEach(async () => {
  for (const context of contexts.splice(0)) await context.close();
});
afterAll(async () => {
  await browser?.close();
  await site?.stop();
  await chat?.stop();
  await service?.stop();
});
const people = createPeople(() => service.url);

async function openContext(): Promise<BrowserContext> {
  const context = await browser.newContext();
  contexts.push(context);
  return context;
}

const tabOf = (
  context: BrowserContext,
  query: Record<string, string>,
  of: Site & { script?: string } = site,
): Promise<Tab> => openTab(context, of, { socket: `ws://localhost:${service.port}/ws`, ...query });

/** A browser with so many tabs of one user on one conversation, all of them live; the first one leads. */
async function openTabs(count: number) {
  const context = await openContext();
  const userId = fresh("anna");
  const conversationId = fresh("c");
  const topic = `conversation:${conversationId}`;
  const open = () => tabOf(context, { user_id: userId, topic });
  const tabs: Tab[] = [];
  for (let n = 0; n < count; n++) {
    tabs.push(await open());
    await tabs[n]!.does("live()");
  }
  const ben = await people.connect(fresh("ben"));
  const say = (content: string) =>
    ben.ask("message.send", { conversation_id: conversationId, client_message_id: fresh("m"), content });
  // From there another one goes on, should this one end now.
  await eventually(
    () => tabs[0]!.does("store.read('session/covered')"),
    (kept) => kept.some(([, covered]: [string, string[]]) => covered.includes(topic)),
  );
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

test("[CON3] [CALL7] who leads next comes as the device that it was, also where that was not written down yet", async () => {
  const context = await openContext();
  const query = { user_id: fresh("anna"), unwritten: "yes" };
  const [first, next] = [await tabOf(context, query), await tabOf(context, query)];
  for (const tab of [first, next]) await tab.does("live()");
  const deviceId = await first.does("core.deviceId");
  await first.page.close();
  await next.does("untilLead()");
  expect(await next.does('core.request("ping", {})')).toBeObject();
  expect(await next.does("core.deviceId")).toBe(deviceId);
});

test("[CON3] a tab that asks twice what it has missed is told it once, and all that follows", async () => {
  const context = await openContext();
  const conversationId = fresh("c");
  // With nothing written down it has missed everything.
  const query = { user_id: fresh("anna"), topic: `conversation:${conversationId}`, unwritten: "yes" };
  const ben = await people.connect(fresh("ben"));
  const say = (content: string) =>
    ben.ask("message.send", { conversation_id: conversationId, client_message_id: fresh("m"), content });
  const first = await tabOf(context, query);
  await first.does("live()");
  for (const content of ["0", "1", "2"]) await say(content);
  await first.does('untilHeard("2")');

  const twice = `const { postMessage } = BroadcastChannel.prototype;
    BroadcastChannel.prototype.postMessage = function (message) {
      for (let n = message.kind === "hello" ? 2 : 1; n > 0; n--) postMessage.call(this, message);
    };`;
  const second = await tabOf(context, query, { ...site, script: twice });
  await second.does("live()");
  // Answered after both.
  await second.does('core.request("ping", {})');
  for (const content of ["3", "4"]) await say(content);
  for (const tab of [first, second]) {
    await tab.does('untilHeard("4")');
    expect(await tab.does("heard()")).toEqual(["0", "1", "2", "3", "4"]);
    expect(await tab.does("kinds()")).not.toContain("gap");
  }
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

test("[CON3] [LOG3] the tab that leads is frozen: the lead is taken from it; it wakes up as one of the others, and has missed nothing either", async () => {
  const { context, tabs, say, connections } = await openTabs(3);
  const [first, second, third] = tabs as [Tab, Tab, Tab];
  await say("before");
  for (const tab of tabs) await tab.does("untilHeard('before')");
  const [connection] = await connections();
  const tools = await context.newCDPSession(first.page);
  // Stops it before it does anything more, as the browser does with tabs that nobody has looked at for long.
  await tools.send("Debugger.enable");
  await tools.send("Debugger.pause");
  await say("frozen");
  const own = second.does("say('own')");
  await Promise.race([second, third].map((tab) => tab.does("untilLead()")));
  await own;
  for (const tab of [second, third]) {
    await tab.does("untilHeard('frozen')");
    await tab.does("untilSent('own')");
    expect(await tab.does("heard()")).toEqual(["before", "frozen"]);
  }
  const [now] = await eventually(connections, (it) => it.length === 1);
  expect(now.device_id).toBe(connection.device_id);

  await tools.send("Debugger.disable");
  // It has lost its place, and is told to load anew.
  await first.does("untilKind('gap')");
  await say("after");
  for (const tab of tabs) await tab.does("untilHeard('after')");
  expect(await leads(first)).toBe(false);
  expect(await first.does("core.state.status")).toBe("live");
  expect((await connections()).map(({ connection_id }) => connection_id)).toEqual([now.connection_id]);
  for (const tab of [second, third]) expect(await tab.does("heard()")).toEqual(["before", "frozen", "after"]);
  await first.does("say('of the first')");
  for (const tab of tabs) await tab.does("untilSent('of the first')");
});

test("[LOG3] [LOG4] a frozen tab that wakes up as the only one is told that it has missed what the others were told meanwhile", async () => {
  const { context, tabs, say } = await openTabs(2);
  const [first, second] = tabs as [Tab, Tab];
  await say("before");
  for (const tab of tabs) await tab.does("untilHeard('before')");
  const tools = await context.newCDPSession(first.page);
  await tools.send("Debugger.enable");
  await tools.send("Debugger.pause");
  await say("frozen");
  await second.does("untilLead()");
  await second.does("untilHeard('frozen')");
  // Closed by hand, it has written what it was told.
  await second.does("core.stop()");
  await second.page.close();
  await tools.send("Debugger.disable");
  await first.does("untilKind('gap')");
  await first.does("live()");
  expect(await leads(first)).toBe(true);
  await say("after");
  await first.does("untilHeard('after')");
});

test("[CON3] a tab that leads by a clock that is behind is followed all the same", async () => {
  const context = await openContext();
  const userId = fresh("anna");
  const conversationId = fresh("c");
  const query = { user_id: userId, topic: `conversation:${conversationId}` };
  const hourAhead = "const now = Date.now; Date.now = () => now() + 3_600_000;";
  const first = await tabOf(context, query, { ...site, script: hourAhead });
  await first.does("live()");
  const others = [await tabOf(context, query), await tabOf(context, query)] as const;
  for (const tab of others) await tab.does("live()");
  const ben = await people.connect(fresh("ben"));
  await first.page.close();
  await others[0].does("untilLead()");
  await ben.ask("message.send", { conversation_id: conversationId, client_message_id: fresh("m"), content: "after" });
  for (const tab of others) await tab.does("untilHeard('after')");
  // The other one need not have taken the lead to hear it.
  expect(await Promise.all(others.map(leads))).toEqual([true, false]);
});

test("[SUB4] what the last tab lets go of is left, what another still follows is not; a tab that closes lets go of all", async () => {
  const { context, userId, tabs, topic, connections, say } = await openTabs(2);
  const other = `conversation:${fresh("c")}`;
  const third = await tabOf(context, { user_id: userId, topic: other });
  await third.does("live()");
  const admin = await people.connect(fresh("admin"), { roles: "admin" });
  const subscribers = async (it: string) => (await admin.ask("admin.topic", { topic: it })).subscribers as number;
  expect(
    await eventually(
      () => subscribers(other),
      (count) => count === 1,
    ),
  ).toBe(1);
  await third.page.close();
  await eventually(
    () => subscribers(other),
    (count) => count === 0,
  );
  await tabs[0]!.page.close();
  await tabs[1]!.does("untilLead()");
  await say("after");
  await tabs[1]!.does("untilHeard('after')");
  expect(await subscribers(topic)).toBe(1);
  expect(await connections()).toHaveLength(1);
});

test("[LOG4] signing out in one tab is signing out in all, and nothing is left on the device; signing in again begins anew", async () => {
  const { tabs, say, connections } = await openTabs(3);
  await say("before");
  for (const tab of tabs) await tab.does("untilHeard('before')");
  await tabs[2]!.does("core.signOut()");
  for (const tab of tabs) {
    await tab.does("stopped()");
    expect(await tab.does("core.state")).toEqual({ status: "stopped", reason: "signed_out" });
    expect(await tab.does("kinds()")).toContain("forgotten");
    expect(await tab.does("core.request('ping', {}).catch(({ code }) => code)")).toBe("stopped");
    const late = "core.outbox.add('mark.read', { conversation_id: 'c', up_to_seq: 1 }).catch(({ code }) => code)";
    expect(await tab.does(late)).toBe("stopped");
  }
  expect(await connections()).toEqual([]);
  expect(await tabs[1]!.does("store.read('')")).toEqual([]);
  await tabs[1]!.does("core.start()");
  for (const tab of tabs) await tab.does("live()");
  await say("again");
  for (const tab of tabs) await tab.does("untilHeard('again')");
  expect(await connections()).toHaveLength(1);
});

test("[CON3] another user in another tab of the browser has a connection and a store of its own", async () => {
  const { context, tabs, topic, say, connections } = await openTabs(1);
  const cleo = fresh("cleo");
  const other = await tabOf(context, { user_id: cleo, topic });
  await other.does("live()");
  expect(await Promise.all([tabs[0]!, other].map(leads))).toEqual([true, true]);
  expect(await other.does("core.userId")).toBe(cleo);
  expect(await other.does("core.deviceId")).not.toBe(await tabs[0]!.does("core.deviceId"));
  await other.does("say('of cleo')");
  await tabs[0]!.does("untilHeard('of cleo')");
  await other.does("core.signOut()");
  await say("after");
  await tabs[0]!.does("untilHeard('after')");
  expect(await connections()).toHaveLength(1);
});

const lacking: Record<string, { script: string; errors: number }> = {
  "where nothing may be kept": {
    script: `Object.defineProperty(globalThis, "indexedDB", { get() { throw new DOMException("no", "SecurityError"); } })`,
    errors: 1,
  },
  "where a database cannot be opened": {
    script: `IDBFactory.prototype.open = () => { throw new DOMException("no", "InvalidStateError"); }`,
    errors: 1,
  },
  "where a database never opens": {
    script: "IDBFactory.prototype.open = () => new EventTarget();",
    errors: 1,
  },
  "without Web Locks": { script: "delete Navigator.prototype.locks", errors: 0 },
};

for (const [where, { script, errors }] of Object.entries(lacking))
  test(`[CON3] ${where} each tab is by itself, as a device of its own`, async () => {
    const context = await openContext();
    await context.addInitScript(script);
    const query = { user_id: fresh("anna"), topic: `conversation:${fresh("c")}` };
    const tabs = [await tabOf(context, query), await tabOf(context, query)] as const;
    for (const tab of tabs) await tab.does("live()");
    const ids = await Promise.all(tabs.map((tab) => tab.does("core.deviceId")));
    expect(new Set(ids).size).toBe(2);
    await tabs[0].does("say('one')");
    await tabs[0].does("untilSent('one')");
    await tabs[1].page.waitForFunction("tab.news.some(({ event }) => event?.payload.content === 'one')");
    for (const tab of tabs) expect(await tab.does("errors")).toHaveLength(errors);
  });

test("[LOG2] a tab that opens late shows what is kept and what is live, each message once, also one that waits and one that changed hands", async () => {
  const context = await openContext();
  const conversationId = fresh("c");
  const query = { user_id: fresh("anna"), conversation_id: conversationId };
  const open = () => tabOf(context, query, chat);
  const ben = await people.connect(fresh("ben"));
  const say = (content: string) =>
    ben.ask("message.send", { conversation_id: conversationId, client_message_id: fresh("m"), content });
  await say("0");
  const first = await open();
  await first.does("live()");
  const expected = ["0 sent"];
  const tabs = [first];
  for (let n = 1; n <= 6; n++) {
    await say(`${n}`);
    await tabs.at(-1)!.does(`conversation.send("own ${n}")`);
    await tabs.at(-1)!.does(`untilShown("own ${n} sent")`);
    expected.push(`${n} sent`, `own ${n} sent`);
    // It comes between what is kept and what is told, however that falls.
    const opening = open();
    await say(`while ${n}`);
    const tab = await opening;
    expected.push(`while ${n} sent`);
    for (const it of [...tabs, tab]) {
      await it.does(`untilShown("while ${n} sent")`);
      expect(await it.does("messages()")).toEqual(expected);
    }
    if (n % 2 === 0) await tabs.shift()!.page.close();
    tabs.push(tab);
  }
  for (const tab of tabs) expect(await tab.does("messages()")).toEqual(expected);
});

test("[ENV3] what may not be asked twice fails where the tab that leads goes before it has answered, all else is asked of the next one", async () => {
  const { context, tabs, conversationId } = await openTabs(2);
  const [first, second] = tabs as [Tab, Tab];
  const tools = await context.newCDPSession(first.page);
  await tools.send("Debugger.enable");
  await tools.send("Debugger.pause");
  const code = ".then(() => 'answered', ({ code }) => code)";
  const asked = Promise.all([
    second.does(`core.request("typing.start", { conversation_id: "${conversationId}" })${code}`),
    second.does(`core.request("ping", {})${code}`),
    second.does(`core.request("ping", {}, { timeoutMs: 1 })${code}`),
  ]);
  const crashed = first.page.waitForEvent("crash");
  void tools.send("Page.crash").catch(() => {});
  await crashed;
  expect(await asked).toEqual(["lead_lost", "answered", "timeout"]);
});

test("[ENV6] a tab of a later release that asks for what the one that leads does not know is told so", async () => {
  const context = await openContext();
  const query = { user_id: fresh("anna"), topic: `conversation:${fresh("c")}` };
  const first = await tabOf(context, query);
  await first.does("live()");
  const later = `const { postMessage } = BroadcastChannel.prototype;
    BroadcastChannel.prototype.postMessage = function (message) {
      postMessage.call(this, message.ask?.type === "ping" ? { ...message, ask: { do: "later" } } : message);
    };`;
  const second = await tabOf(context, query, { ...site, script: later });
  await second.does("live()");
  expect(await second.does("core.request('ping', {}).catch(({ code }) => code)")).toBe("invalid_payload");
  expect(await first.does("core.request('ping', {}).then(() => 'answered')")).toBe("answered");
});

test("[AUTH2] with `getToken` alone the token says whose tab it is: those of one user share, those of two do not", async () => {
  const authority = await startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
  const context = await openContext();
  const token = (sub: string) => signToken({ sub, exp: Math.floor(Date.now() / 1000) + 3600 });
  const open = async (userId: string) => {
    const socket = `ws://localhost:${authority.port}/ws`;
    const tab = await tabOf(context, { socket, token: await token(userId), topic: "conversation:c" });
    await tab.does("live()");
    return tab;
  };
  const tabs = [await open("anna"), await open("ben"), await open("anna"), await open("ben")];
  expect(await Promise.all(tabs.map(leads))).toEqual([true, true, false, false]);
  const userIds = await Promise.all(tabs.map((tab) => tab.does("core.userId")));
  expect(userIds).toEqual(["anna", "ben", "anna", "ben"]);
  await tabs[2]!.does("say('of anna')");
  for (const n of [1, 3]) await tabs[n]!.does("untilHeard('of anna')");
  for (const n of [0, 2]) await tabs[n]!.does("untilSent('of anna')");
  await authority.stop();
});
