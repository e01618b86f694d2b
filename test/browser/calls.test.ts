/** Proves with the media of real browsers that a call lives through all that phones do to it [CALL]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { laySharedFile, type SharedFile } from "../support/ground.ts";
import { fresh } from "../support/people.ts";
import { type LinkProxy, startProxy } from "../support/proxy.ts";
import { startService } from "../support/service.ts";
import { type Site, startSite } from "../support/site.ts";

setDefaultTimeout(120_000);

let browser: Browser;
let site: Site;
let ground: SharedFile;

beforeAll(async () => {
  [browser, ground, site] = await Promise.all([
    launchChromium(),
    laySharedFile(),
    startSite("test/browser/calls-page.ts"),
  ]);
});
afterAll(async () => {
  await browser?.close();
  await ground?.stop();
  await site?.stop();
});

// So that they need no conversation.
const settings = { CALLS__ALLOWED_BETWEEN: "everyone" };
const startNode = () => ground.startNode({ ...settings, CLUSTER__HEARTBEAT: "200ms" });

interface Phone {
  page: Page;
  /** Loads the page, or loads it anew, and waits until it knows what it is in. @returns the calls of the snapshot */
  load(): Promise<any[]>;
  /** Runs what the page offers as `phone`, and gives what comes of it. */
  does(what: string): Promise<any>;
  /** Waits until that has happened, and takes it. */
  when(what: string): Promise<any>;
}

/** A page of a user: a device of its own where it is named, else a tab of the browser's. */
async function openPhone(context: BrowserContext, port: number, query: Record<string, string>): Promise<Phone> {
  const page = await context.newPage();
  const socket = `ws://localhost:${port}/ws`;
  const does = (what: string) => page.evaluate(`phone.${what}`) as Promise<any>;
  const when = (what: string) => does(`when(${JSON.stringify(what)})`);
  async function load() {
    await page.goto(`${site.url}?${new URLSearchParams({ socket, ...query })}`);
    await page.waitForFunction("globalThis.phone");
    return query.device_id === undefined ? [] : (await when("found")).calls;
  }
  await load();
  return { page, load, does, when };
}

/** A phone for each device; devices of one user share a browser's profile. */
async function phonesOf(userId: string, devices: { deviceId: string; port: number }[]): Promise<Phone[]> {
  const context = await browser.newContext();
  return Promise.all(
    devices.map(({ deviceId, port }) => openPhone(context, port, { user_id: userId, device_id: deviceId })),
  );
}

/** Forgets what has happened so far: what comes is of what is done next. */
const emptied = (phone: Phone) => phone.does("all().splice(0).filter(({ what }) => what === 'trouble')");

/** Plays a whole call; each side's line is to a port of its own, and the caller's may break. */
async function talk(line: LinkProxy, port: number): Promise<void> {
  const ids = { anna: fresh("anna"), ben: fresh("ben") };
  const [anna] = (await phonesOf(ids.anna, [{ deviceId: "mobile", port: line.port }])) as [Phone];
  const devices = ["mobile", "tablet"].map((deviceId) => ({ deviceId, port }));
  const [mobile, ben] = (await phonesOf(ids.ben, devices)) as [Phone, Phone];
  const bothFlow = (...kinds: string[]) =>
    Promise.all([anna, ben].map((phone) => phone.does(`flows(${JSON.stringify(kinds)})`)));
  const bothAgree = () => Promise.all([anna, ben].map((phone) => phone.when("agreed")));
  const empty = async () => {
    for (const phone of [anna, ben]) expect(await emptied(phone)).toEqual([]);
  };

  const callId = await anna.does(`call("${ids.ben}", "audio")`);
  for (const phone of [mobile, ben])
    expect((await phone.when("call")).view).toMatchObject({
      ...{ id: callId, state: "ringing", direction: "incoming", peerUserId: ids.anna, media: "audio" },
    });
  await ben.does("answer()");
  expect((await mobile.when("ended")).view).toMatchObject({ id: callId, endReason: "answered_elsewhere" });
  expect(await mobile.does("callIds()")).toEqual([]);
  await bothAgree();
  await bothFlow("audio");
  for (const phone of [anna, ben]) {
    await phone.when("active");
    expect(await phone.does("view()")).toMatchObject({ state: "active", local: ["audio"], remote: ["audio"] });
  }

  // To see the other one need not be seen.
  await anna.does('setMedia("video")');
  await ben.when("call.offer");
  await bothAgree();
  await ben.does('flows(["audio", "video"])');
  expect(await ben.does("view()")).toMatchObject({ media: "video", local: ["audio"], remote: ["audio", "video"] });
  await ben.does('setMedia("video")');
  const [{ ufrags: before }] = await bothAgree();
  await bothFlow("audio", "video");

  await empty();
  line.cut();
  expect(await anna.when("closed")).toMatchObject({ code: 1006 });
  line.heal();
  const active = { call_id: callId, state: "active", media: "video" };
  expect((await anna.when("found")).calls).toMatchObject([
    { ...active, peer_user_id: ids.ben, peer_device_id: "tablet" },
  ]);
  const [{ ufrags: after }] = await bothAgree();
  for (const ufrag of after) expect(before).not.toContain(ufrag);
  await bothFlow("audio", "video");
  expect(await ben.does("peerCount()")).toBe(1);

  await ben.does("mute(true)");
  const { activeSince } = await ben.does("view()");
  await empty();
  await ben.page.reload();
  expect((await ben.when("found")).calls).toMatchObject([
    { ...active, peer_user_id: ids.anna, peer_device_id: "mobile" },
  ]);
  expect((await ben.when("call")).view).toMatchObject({ id: callId, state: "connecting", direction: "incoming" });
  await ben.when("active");
  await bothFlow("audio", "video");
  expect(await ben.does("view()")).toMatchObject({ isMuted: true, isCameraOn: true, activeSince });
  expect(await anna.does("peerCount()")).toBe(2);

  // An offer that waits for a page which has gone does not fit the next one.
  await empty();
  await ben.page.goto("about:blank");
  await anna.does("restart()");
  await anna.when("call.offer acked");
  expect(await ben.load()).toMatchObject([active]);
  await ben.when("active");
  await bothFlow("audio", "video");

  // An answer that crosses the offer of the next page is taken for one to that.
  await empty();
  line.freeze();
  await ben.does("restart()");
  await ben.when("call.offer acked");
  await ben.load();
  await ben.when("call.offer acked");
  line.heal();
  await anna.when("call_conflict");
  await ben.when("active");
  await bothFlow("audio", "video");

  // Both at once: the later one is refused, and its page answers the other's.
  await empty();
  line.freeze();
  await anna.does("restart()");
  await anna.when("call.offer asked");
  await ben.does("restart()");
  await ben.when("call.offer acked");
  line.heal();
  await anna.when("call_conflict");
  await anna.when("call.offer");
  await bothAgree();
  await bothFlow("audio", "video");

  await anna.does('setMedia("audio")');
  await bothAgree();
  expect(await ben.does("view()")).toMatchObject({ local: ["audio", "video"], remote: ["audio"] });

  await ben.does("hangUp()");
  for (const phone of [anna, ben]) {
    expect((await phone.when("call.ended")).payload).toMatchObject({ call_id: callId, reason: "hangup" });
    const view = await phone.does("view()");
    expect(view).toMatchObject({ state: "ended", endReason: "hangup", endedBy: ids.ben, local: null, remote: null });
    expect(view.durationMs).toBeGreaterThan(0);
    expect(await phone.does("callIds()")).toEqual([]);
  }
  for (const phone of [anna, mobile, ben]) expect(await emptied(phone)).toEqual([]);
}

const title = "ring, answer on the second device, video, ICE anew after a cut, a reload, both at once, hang up";
test(`[CALL1] [CALL2] [CALL3] [CALL4] [CALL5] [CALL7] ${title}`, async () => {
  const service = await startService({ settings });
  const line = await startProxy(service.port);
  await talk(line, service.port);
  await line.stop();
  await service.stop();
});

test(`[CALL1] [CALL2] [CALL3] [CALL4] [CALL5] [CALL7] the same between two nodes`, async () => {
  const nodes = [await startNode(), await startNode()] as const;
  const line = await startProxy(nodes[0].port);
  await talk(line, nodes[1].port);
  await line.stop();
  for (const node of nodes) await node.stop();
});

test("[CALL1] [CALL4] [CALL5] declined, busy, given up, without a microphone, both at once: each side knows why it is over", async () => {
  const service = await startService({ settings: { ...settings, CALLS__BUSY: "true" } });
  const { port } = service;
  const ids = { anna: fresh("anna"), ben: fresh("ben"), cleo: fresh("cleo") };
  const [anna] = (await phonesOf(ids.anna, [{ deviceId: "mobile", port }])) as [Phone];
  const [ben, tablet] = (await phonesOf(ids.ben, [
    { deviceId: "mobile", port },
    { deviceId: "tablet", port },
  ])) as [Phone, Phone];
  const calls = async (media: string) => {
    await anna.does(`call("${ids.ben}", "${media}")`);
    for (const phone of [ben, tablet]) await phone.when("call");
    await anna.when("call.offer acked");
  };
  const ends = async (...reasons: string[]) => {
    const ended = await Promise.all([anna, ben, tablet].map((phone) => phone.when("ended")));
    expect(ended.map(({ view }) => view.endReason)).toEqual(reasons);
    for (const phone of [anna, ben, tablet]) expect(await phone.does("callIds()")).toEqual([]);
  };

  await calls("audio");
  await ben.does("decline()");
  await ends("declined", "declined", "declined_elsewhere");

  await calls("video");
  await ben.does('decline("busy")');
  await ends("busy", "busy", "declined_elsewhere");

  await calls("audio");
  await anna.does("hangUp()");
  await ends("cancelled", "cancelled", "cancelled");

  // Where there is no microphone nobody is called, and nobody who calls is left to wait.
  const deaf = await openPhone(await browser.newContext(), port, {
    ...{ user_id: ids.cleo, device_id: "mobile", no_media: "" },
  });
  await deaf.does(`call("${ids.anna}", "audio")`);
  expect((await deaf.when("ended")).view).toMatchObject({ endReason: "media_failed" });
  expect(await deaf.does("view()")).toMatchObject({ error: "Error: There is no microphone." });
  await anna.does(`call("${ids.cleo}", "audio")`);
  await deaf.when("call");
  await deaf.does("answer()");
  expect((await deaf.when("ended")).view).toMatchObject({ endReason: "media_failed" });
  expect((await anna.when("ended")).view).toMatchObject({ endReason: "declined" });

  // A call among others: the second one knows that the first one is on, and the first one goes on.
  await calls("audio");
  await ben.does("answer()");
  await anna.when("active");
  await deaf.page.goto("about:blank");
  const cleo = await openPhone(await browser.newContext(), port, { user_id: ids.cleo, device_id: "tablet" });
  await cleo.does(`call("${ids.ben}", "audio")`);
  await cleo.when("busy");
  expect(await cleo.does("view()")).toMatchObject({ state: "ringing", busy: true });
  await cleo.does("hangUp()");
  await ben.when("ended");
  await anna.does("hangUp()");
  await anna.when("ended");

  for (const phone of [anna, ben, tablet, cleo]) expect(await emptied(phone)).toEqual([]);
  const [annas, cleos] = await Promise.all([
    anna.does(`call("${ids.cleo}", "audio")`),
    cleo.does(`call("${ids.anna}", "audio")`),
  ]);
  const [winner, loser] = annas < cleos ? [anna, cleo] : [cleo, anna];
  expect((await loser.when("ended")).view).toMatchObject({ endReason: "replaced", direction: "outgoing" });
  await loser.when("call");
  await loser.does("answer()");
  for (const phone of [anna, cleo]) await phone.when("active");
  // With the other's call, where it rang before it was replaced.
  expect(await emptied(winner)).toEqual([]);
  await loser.does("client.stop()");
  expect((await winner.when("ended")).view).toMatchObject({ endReason: "hangup" });
  await service.stop();
});

test("[CALL2] [CALL7] an answer that was lost with the line, a call without one and an end without one are made good when it is back", async () => {
  const service = await startService({ settings });
  const line = await startProxy(service.port);
  const ids = { anna: fresh("anna"), ben: fresh("ben") };
  const [anna] = (await phonesOf(ids.anna, [{ deviceId: "mobile", port: line.port }])) as [Phone];
  const [ben] = (await phonesOf(ids.ben, [{ deviceId: "mobile", port: service.port }])) as [Phone];
  await anna.does(`call("${ids.ben}", "audio")`);
  await ben.when("call");
  await anna.when("call.offer acked");
  line.freeze();
  await ben.does("answer()");
  await ben.when("call.answer acked");
  line.cut();
  await anna.when("closed");
  line.heal();
  for (const phone of [anna, ben]) await phone.when("active");
  await Promise.all([anna, ben].map((phone) => phone.does('flows(["audio"])')));

  // A call that is made without a line rings once there is one.
  await ben.does("hangUp()");
  for (const phone of [anna, ben]) await phone.when("ended");
  line.cut();
  await anna.when("closed");
  await anna.does(`call("${ids.ben}", "audio")`);
  line.heal();
  await ben.when("call");
  await ben.does("answer()");
  for (const phone of [anna, ben]) await phone.when("active");

  // One that is given up without a line is given up for both.
  line.cut();
  await anna.when("closed");
  await anna.does("hangUp()");
  expect(await anna.does("view()")).toMatchObject({ state: "ended", endReason: "hangup" });
  line.heal();
  expect((await ben.when("ended")).view).toMatchObject({ endReason: "hangup", endedBy: ids.anna });

  // The same of one that is declined: it does not ring again.
  await anna.when("ended");
  await ben.does(`call("${ids.anna}", "audio")`);
  await anna.when("call");
  line.cut();
  await anna.when("closed");
  await anna.does("decline()");
  line.heal();
  expect((await ben.when("ended")).view).toMatchObject({ endReason: "declined", endedBy: ids.anna });
  expect((await anna.does("all()")).filter(({ what }: { what: string }) => what === "call")).toEqual([]);
  for (const phone of [anna, ben]) expect(await emptied(phone)).toEqual([]);
  await line.stop();
  await service.stop();
});

test("[CALL5] [CALL6] a call that nobody answers is over for all, and one may call again", async () => {
  const service = await startService({ settings: { ...settings, CALLS__RING_TIMEOUT: "700ms" } });
  const ids = { anna: fresh("anna"), ben: fresh("ben") };
  const [anna] = (await phonesOf(ids.anna, [{ deviceId: "mobile", port: service.port }])) as [Phone];
  const [ben] = (await phonesOf(ids.ben, [{ deviceId: "mobile", port: service.port }])) as [Phone];
  for (let n = 0; n < 2; n++) {
    await anna.does(`call("${ids.ben}", "audio")`);
    for (const phone of [anna, ben]) expect((await phone.when("ended")).view).toMatchObject({ endReason: "timeout" });
  }
  expect(await anna.does("view()")).toMatchObject({ local: null, durationMs: null });
  await service.stop();
});

test("[CALL2] [CALL7] of many tabs all ring, and the call lives in the one that has accepted it, until that is gone", async () => {
  const service = await startService({ settings });
  const { port } = service;
  const ids = { anna: fresh("anna"), ben: fresh("ben") };
  const [anna] = (await phonesOf(ids.anna, [{ deviceId: "mobile", port }])) as [Phone];
  const context = await browser.newContext();
  const lead = await openPhone(context, port, { user_id: ids.ben });
  await lead.does("live()");
  const other = await openPhone(context, port, { user_id: ids.ben });
  await other.does("live()");
  const callId = await anna.does(`call("${ids.ben}", "audio")`);
  for (const tab of [lead, other]) expect((await tab.when("call")).view).toMatchObject({ id: callId });

  const opened = await openPhone(context, port, { user_id: ids.ben });
  expect((await opened.when("call")).view).toMatchObject({ id: callId, state: "ringing", peerUserId: ids.anna });

  // Both at once: one of them has it.
  await Promise.all([other.does("answer()"), lead.does("answer()")]);
  await anna.when("active");
  const hasIt = (await other.does("callIds()")).length === 1;
  const [owner, idle] = hasIt ? [other, lead] : [lead, other];
  expect((await idle.when("ended")).view).toMatchObject({ endReason: "answered_elsewhere" });
  expect(await idle.does("callIds()")).toEqual([]);
  await owner.when("active");

  expect((await opened.when("ended")).view).toMatchObject({ endReason: "answered_elsewhere" });
  await opened.page.close();

  const reloads = async () => {
    await owner.page.reload();
    await owner.page.waitForFunction("globalThis.phone");
    expect((await owner.when("call")).view).toMatchObject({ id: callId, state: "connecting" });
    await owner.when("active");
    await Promise.all([anna, owner].map((phone) => phone.does('flows(["audio"])')));
  };
  await reloads();
  expect(await idle.does("callIds()")).toEqual([]);

  const late = await openPhone(context, port, { user_id: ids.ben });
  await late.does("live()");
  expect(await late.does("callIds()")).toEqual([]);

  // The one that leads goes, and then, if it is the one that has the call, is loaded anew.
  await idle.page.close();
  await owner.does('client.request("ping", {})');
  await reloads();
  expect(await late.does("callIds()")).toEqual([]);

  await owner.page.close();
  expect((await anna.when("ended")).view).toMatchObject({ endReason: "hangup", endedBy: ids.ben });
  for (const phone of [anna, late]) expect(await emptied(phone)).toEqual([]);
  await service.stop();
});

test("[CALL7] of two tabs the one that leads has a call and is loaded anew: it goes on there, whoever is quicker", async () => {
  const service = await startService({ settings });
  const { port } = service;
  const ids = { anna: fresh("anna"), ben: fresh("ben") };
  const [ben] = (await phonesOf(ids.ben, [{ deviceId: "mobile", port }])) as [Phone];
  const context = await browser.newContext();
  const open = async () => {
    const tab = await openPhone(context, port, { user_id: ids.anna });
    await tab.does("live()");
    return tab;
  };
  const anna = await open();
  let other = await open();
  const callId = await anna.does(`call("${ids.ben}", "audio")`);
  await ben.when("call");
  await ben.does("answer()");
  for (const phone of [anna, ben]) await phone.when("active");

  const address = anna.page.url();
  const atOnce = () => anna.page.reload();
  // The snapshot is among what the other one tells it as missed.
  const afterSnapshot = async () => {
    // Of the same site: in another process the browser may have nothing yet of what the tab has kept.
    await anna.page.goto(new URL("/elsewhere", address).href);
    expect((await other.when("found")).calls).toMatchObject([{ call_id: callId, state: "active" }]);
    await anna.page.goto(address);
  };
  for (const reload of [atOnce, afterSnapshot, afterSnapshot]) {
    await reload();
    await anna.page.waitForFunction("globalThis.phone");
    expect((await anna.when("call")).view).toMatchObject({ id: callId, state: "connecting", direction: "outgoing" });
    await anna.when("active");
    await Promise.all([anna, ben].map((phone) => phone.does('flows(["audio"])')));
    expect(await other.does("callIds()")).toEqual([]);
    // Makes the one with the call lead again.
    await other.page.close();
    await anna.does('client.request("ping", {})');
    other = await open();
  }

  await anna.page.close();
  expect((await ben.when("ended")).view).toMatchObject({ endReason: "hangup", endedBy: ids.anna });
  for (const phone of [other, ben]) expect(await emptied(phone)).toEqual([]);
  await service.stop();
});
