/** Proves with the media of real browsers that a call lives through all that phones do to it [CALL]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Browser, Page } from "playwright-core";
import { launchChromium } from "../support/chromium.ts";
import { fresh } from "../support/people.ts";
import { type LinkProxy, startProxy } from "../support/proxy.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(120_000);

const site = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  routes: { "/": new Response(Bun.file(join(import.meta.dir, "call-page.html"))) },
});
let browser: Browser;
let redis: RedisServer;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ws-browser-calls-"));
  [browser, redis] = await Promise.all([launchChromium(), startRedis()]);
});
afterAll(async () => {
  await browser?.close();
  await redis?.stop();
  await site.stop(true);
  rmSync(folder, { recursive: true, force: true });
});

// So that they need no conversation.
const settings = { CALLS__ALLOWED_BETWEEN: "everyone" };
const startNode = () =>
  startService({
    entry: resolve(import.meta.dir, "../support/clustered-service.ts"),
    env: { TEST_CLUSTER_URL: redis.url },
    settings: { ...settings, STORAGE__URL: `sqlite:${join(folder, "log.db")}`, CLUSTER__HEARTBEAT: "200ms" },
  });

interface Phone {
  page: Page;
  /** Loads the page, or loads it anew, and waits until it knows what it is in. @returns the calls of the snapshot */
  load(): Promise<any[]>;
  /** Runs what the page offers as `phone`, and gives what comes of it. */
  does(what: string): Promise<any>;
  /** Waits until that has happened, and takes it. */
  when(what: string): Promise<any>;
}

/** A phone for each device; devices of one user share a browser's profile. */
async function phonesOf(userId: string, devices: { deviceId: string; port: number }[]): Promise<Phone[]> {
  const context = await browser.newContext();
  return Promise.all(
    devices.map(async ({ deviceId, port }) => {
      const page = await context.newPage();
      const socket = `ws://localhost:${port}/ws`;
      const does = (what: string) => page.evaluate(`phone.${what}`) as Promise<any>;
      const when = (what: string) => does(`when(${JSON.stringify(what)})`);
      async function load() {
        await page.goto(
          `http://localhost:${site.port}/?${new URLSearchParams({ socket, user_id: userId, device_id: deviceId })}`,
        );
        return (await when("found")).calls;
      }
      await load();
      return { page, load, does, when };
    }),
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
  const callId = crypto.randomUUID();

  await anna.does(`call("${callId}", "${ids.ben}", "audio")`);
  for (const phone of [mobile, ben])
    expect((await phone.when("incoming")).payload).toMatchObject({ from_user_id: ids.anna, media: "audio" });
  await ben.does("answer()");
  expect((await mobile.when("ended")).payload).toEqual({ call_id: callId, reason: "answered_elsewhere" });
  await bothAgree();
  await bothFlow("audio");

  await anna.does("showCamera()");
  expect(await ben.when("offer")).toMatchObject({ isNewPage: false });
  const [{ ufrags: before }] = await bothAgree();
  await bothFlow("audio", "video");

  line.cut();
  expect(await anna.when("closed")).toMatchObject({ code: 1006 });
  line.heal();
  const active = { call_id: callId, state: "active", media: "video" };
  expect((await anna.when("found")).calls).toMatchObject([
    { ...active, peer_user_id: ids.ben, peer_device_id: "tablet" },
  ]);
  expect(await ben.when("offer")).toMatchObject({ isNewPage: false });
  const [{ ufrags: after }] = await bothAgree();
  for (const ufrag of after) expect(before).not.toContain(ufrag);
  await bothFlow("audio", "video");

  await ben.page.reload();
  expect((await ben.when("found")).calls).toMatchObject([
    { ...active, peer_user_id: ids.anna, peer_device_id: "mobile" },
  ]);
  expect(await anna.when("offer")).toMatchObject({ isNewPage: true });
  await bothAgree();
  await bothFlow("audio", "video");

  // An offer that waits for a page which has gone does not fit the next one.
  for (const phone of [anna, ben]) expect(await emptied(phone)).toEqual([]);
  await ben.page.goto("about:blank");
  await anna.does("restart()");
  await anna.when("offered");
  expect(await ben.load()).toMatchObject([active]);
  await bothFlow("audio", "video");

  // An answer that crosses the offer of the next page is taken for one to that.
  for (const phone of [anna, ben]) expect(await emptied(phone)).toEqual([]);
  line.freeze();
  await ben.does("restart()");
  await ben.when("offered");
  await ben.load();
  await ben.when("offered");
  line.heal();
  await anna.when("anew");
  await bothFlow("audio", "video");

  // Both at once: the later one is refused, and its page answers the other's.
  for (const phone of [anna, ben]) expect(await emptied(phone)).toEqual([]);
  line.freeze();
  await anna.does("restart()");
  await anna.when("offering");
  await ben.does("restart()");
  await ben.when("offered");
  line.heal();
  await anna.when("call_conflict");
  expect(await anna.when("offer")).toMatchObject({ isNewPage: false });
  await bothAgree();
  await bothFlow("audio", "video");

  await ben.does("hangUp()");
  for (const phone of [anna, ben])
    expect((await phone.when("ended")).payload).toMatchObject({ call_id: callId, reason: "hangup", ended_by: ids.ben });
  for (const phone of [anna, mobile, ben]) {
    const troubles = (await phone.does("all()")).filter(({ what }: { what: string }) => what === "trouble");
    expect(troubles).toEqual([]);
  }
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
