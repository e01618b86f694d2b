/** Runs the client of one's own that the protocol's page shows, against the real service: over crashes, broken lines and refusals. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join, resolve } from "node:path";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client, type Received } from "../support/client.ts";
import { positionOf } from "../support/cursors.ts";
import { freePorts } from "../support/free-ports.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type LinkProxy, startProxy } from "../support/proxy.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const page = await Bun.file(join(resolve(import.meta.dir, "../.."), "docs/protocol.md")).text();
const code = /^<!-- resume -->\n```js\n([\s\S]*?)^```/m.exec(page)![1]!;

type Send = (id: string, type: string, payload?: object) => void;
type Connect = (url: string, topics: string[], onEvent: (event: Received) => void) => Send;

/** A page that runs the client as anna on `conversation:c1`. */
class Page {
  readonly heard: Received[] = [];
  readonly send: Send;
  /** The addresses that it has opened. */
  readonly addresses: URL[] = [];
  /** The replies to its subscribes. */
  readonly answers: Received[] = [];
  /** The codes that it has given up lines with. */
  readonly givenUp: (number | undefined)[] = [];
  /** Waited for before each subscribe leaves. */
  beforeSubscribe: () => Promise<unknown> = async () => {};
  /** Does at once what it does every 10 s. */
  tick = () => {};
  readonly #watchers = new Set<() => void>();
  #socket: WebSocket | null = null;
  #isClosed = false;

  constructor(port: number) {
    const page = this;
    class Socket extends WebSocket {
      constructor(address: URL) {
        // A page that is closed opens nothing any more.
        super(page.#isClosed ? "ws://127.0.0.1:1" : address);
        page.addresses.push(address);
        page.#socket = this;
        page.#look();
        this.addEventListener("message", ({ data }) => {
          const message: Received = JSON.parse(data);
          if (message.reply_to !== "all") return;
          page.answers.push(message);
          page.#look();
        });
      }
      override close(code?: number): void {
        if (!page.#isClosed) page.givenUp.push(code);
        super.close(code);
      }
      override send(text: string): void {
        const leave = () => super.send(text);
        if (JSON.parse(text).type === "subscribe") void page.beforeSubscribe().then(leave);
        else leave();
      }
    }
    const setInterval = (run: () => void) => void (page.tick = run);
    const connect = new Function("WebSocket", "setInterval", `${code}\nreturn connect`)(Socket, setInterval) as Connect;
    this.send = connect(`ws://127.0.0.1:${port}/ws?user_id=anna`, ["conversation:c1"], (event) => {
      this.heard.push(event);
      this.#look();
    });
  }

  get contents(): unknown[] {
    return this.heard.flatMap(({ type, payload }) => (type === "message.new" ? [payload.content] : []));
  }

  get lives(): number {
    return this.answers.filter(({ type }) => type === "subscribed").length;
  }

  get refusals(): string[] {
    return this.answers.flatMap(({ type, payload }) => (type === "error" ? [payload.code] : []));
  }

  until(condition: () => boolean): Promise<void> {
    return new Promise<void>((resolve) => {
      const look = () => {
        if (!condition()) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  live = (times: number) => this.until(() => this.lives >= times);

  close(): void {
    this.#isClosed = true;
    this.#socket?.close(1000);
  }

  #look(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}

let service: Service;
let line: LinkProxy;
beforeAll(async () => {
  service = await startService({ settings: { RATE_LIMITS__ENABLED: "true" } });
  line = await startProxy(service.port);
});
afterAll(async () => {
  await line?.stop();
  await service?.stop();
});

/** Somebody else says something in the conversation. */
async function say(content: string, to = service): Promise<void> {
  const ben = await Client.connect(to.url, { query: { user_id: "ben" } });
  const message = { conversation_id: "c1", client_message_id: crypto.randomUUID(), content };
  while ((await ben.request("message.send", message)).payload.retryable);
  await ben.close();
}

test("[LOG4] the page's client is short", () => {
  expect(code.trim().split("\n").length).toBeLessThanOrEqual(47);
});

test("[LOG4] [LOG5] the page's client misses nothing and hears nothing twice, also over a crash of the service", async () => {
  const [port] = await freePorts(1);
  const settings = { SERVER__PORT: String(port) };
  const first = await startService({ settings });
  const page = new Page(port!);
  await page.live(1);
  await say("one", first);
  await page.until(() => page.contents.includes("one"));
  await first.kill();
  const second = await startService({ settings, folder: first.folder });
  await say("two", second);
  await page.until(() => page.contents.includes("two"));
  await page.live(2);
  expect(page.contents).toEqual(["one", "two"]);
  page.close();
  await second.stop();
});

test("[CON6] [LOG4] [ENV5] a network that goes without a word is noticed, and it comes back by a new one", async () => {
  const page = new Page(line.port);
  await page.live(1);
  line.freeze();
  for (let ticks = 0; ticks < 3; ticks++) page.tick();
  await say("meanwhile");
  await page.until(() => page.addresses.length === 2);
  line.heal();
  await page.live(2);
  // Without a code it would say goodbye, and others would see it go and come [PRE1].
  expect(page.givenUp).toEqual([4000]);
  await page.until(() => page.contents.includes("meanwhile"));
  expect(page.contents.filter((it) => it === "meanwhile")).toEqual(["meanwhile"]);
  // Nothing is wrong with a line that answers.
  for (let ticks = 1; ticks <= 5; ticks++) {
    page.tick();
    await page.until(() => page.heard.filter(({ type }) => type === "pong").length >= ticks);
  }
  expect(page.addresses.length).toBe(2);
  page.close();
});

test("[LOG4] [SUB6] [CON3] it comes back as the same device, from its newest cursor, without what it has and what it said", async () => {
  const page = new Page(line.port);
  await page.live(1);
  const own = { conversation_id: "c1", client_message_id: crypto.randomUUID(), content: "mine" };
  page.send("own", "message.send", own);
  await page.until(() => page.heard.some(({ reply_to }) => reply_to === "own"));
  await say("one");
  await page.until(() => page.contents.includes("one"));
  line.cut();
  await say("two");
  line.heal();
  await page.live(2);
  page.send("sync", "ping");
  await page.until(() => page.heard.some(({ reply_to }) => reply_to === "sync"));
  expect(page.contents).toEqual(["one", "two"]);
  const devices = page.heard.flatMap(({ type, payload }) => (type === "connected" ? [payload.device_id] : []));
  expect(new Set(devices).size).toBe(1);
  expect(page.addresses.at(-1)!.searchParams.get("device_id")).toBe(devices[0]);

  // It asks for the cursor by itself, and what that covers is asked for no more.
  const at = page.heard.findLast(({ type }) => type === "message.new")!.position!;
  const pongs = () => page.heard.filter(({ type }) => type === "pong");
  while (!(positionOf(pongs().at(-1)!.payload.cursor) >= at)) {
    const before = pongs().length;
    page.tick();
    await page.until(() => pongs().length > before);
  }
  line.cut();
  line.heal();
  await page.live(3);
  expect(positionOf(page.addresses.at(-1)!.searchParams.get("since")!)).toBeGreaterThanOrEqual(at);
  expect(page.answers.at(-1)!.payload.topics[0]).toMatchObject({ recovered: true, replayed: 0 });
  page.close();
});

test("[LIM] [ENV4] a subscribe that is refused is sent again, and what came meanwhile is there", async () => {
  const other = await Client.connect(service.url, { query: { user_id: "anna" } });
  /** Another tab of the same user takes all that its limits allow just now. */
  const useUp = async () => {
    for (;;) {
      const asked = Array.from({ length: 60 }, () => other.request("unsubscribe", { topics: ["typing"] }));
      const last = (await Promise.all(asked)).at(-1)!;
      if (last.payload.code === "rate_limited" && last.payload.retry_after_ms > 100) return;
    }
  };
  const page = new Page(line.port);
  await page.live(1);
  await say("before");
  await page.until(() => page.contents.includes("before"));
  let refused = false;
  page.beforeSubscribe = async () => {
    refused ||= page.refusals.length > 0;
    if (!refused) await useUp();
  };
  // The limits fill up again meanwhile: it is tried until it was refused.
  for (let times = 2; !page.refusals.includes("rate_limited"); times++) {
    line.cut();
    await say(`away ${times}`);
    line.heal();
    await page.live(times);
  }
  await say("after");
  await page.until(() => page.contents.includes("after"));
  const away = Array.from({ length: page.lives - 1 }, (_, index) => `away ${index + 2}`);
  expect(page.contents).toEqual(["before", ...away, "after"]);
  page.close();
  await other.close();
});

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[END2] [ENV4] nor does an outage of the storage in the middle of coming back make it deaf",
  async () => {
    const server: PostgresServer = await startPostgres();
    const url = await server.newDatabase();
    await migrateStorage({ url, lockTimeoutMs: 10_000 });
    const clustered = await startService({ settings: { STORAGE__URL: url } });
    const page = new Page(clustered.port);
    page.beforeSubscribe = async () => {
      page.beforeSubscribe = async () => {};
      // Its own topics are there; where they fail the connection ends.
      await page.until(() => page.heard.some(({ type }) => type === "subscribed"));
      await server.halt();
    };
    // Its subscribe is refused, or the whole connection where it was still looked at.
    await page.until(() => page.refusals.length > 0 || page.addresses.length > 1);
    expect(page.refusals.every((code) => code === "unavailable")).toBe(true);
    await server.resume();
    await page.live(1);
    await say("after", clustered);
    await page.until(() => page.contents.includes("after"));
    page.close();
    await clustered.stop();
    await server.stop();
  },
);
