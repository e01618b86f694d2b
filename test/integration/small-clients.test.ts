/** Plays the small clients for Python and Go against the real service: broken lines, crashes, tokens, logs put back [LOG3] [LOG4] [ENV5]. */
import { afterAll, beforeAll, test as bunTest, describe, expect, setDefaultTimeout } from "bun:test";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SignJWT } from "jose";
import { Client } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { fresh } from "../support/people.ts";
import { projectFolder } from "../support/program.ts";
import { type LinkProxy, startProxy } from "../support/proxy.ts";
import { type Service, startService } from "../support/service.ts";
import { buildPlayer, buildProgram, hasGo, testClient } from "../support/small-clients/go.ts";
import { Player } from "../support/small-clients/player.ts";
import { secret, secretBytes } from "../support/tokens.ts";
import { until } from "../support/until.ts";
import { python } from "../support/websockets/peer.ts";

setDefaultTimeout(60_000);

const players = join(import.meta.dir, "../support/small-clients");
const built = mkdtempSync(join(tmpdir(), "small-clients-"));
const languages: { language: string; command: () => string[] | null }[] = [
  { language: "Python", command: () => [python(), join(players, "player.py"), join(projectFolder, "clients/python")] },
  { language: "Go", command: () => (hasGo ? [buildPlayer(built)] : null) },
];

let service: Service;
let line: LinkProxy;
beforeAll(async () => {
  service = await startService({ settings: { WEBSOCKET__COMPRESSION: "shared" } });
  line = await startProxy(service.port);
});
afterAll(async () => {
  await line?.stop();
  await service?.stop();
  await rm(built, { recursive: true });
});

async function say(conversation_id: string, content: string, to = service.url): Promise<void> {
  const ben = await Client.connect(to, { query: { user_id: "ben" } });
  await ben.ask("message.send", { conversation_id, client_message_id: crypto.randomUUID(), content });
  await ben.close();
}

describe.each(languages)("$language", ({ command }) => {
  const words = command();
  const test = words === null ? bunTest.skip : bunTest;
  const start = (options: Record<string, unknown>) => new Player(words!, options);
  const follow = (conversation: string, more: Record<string, unknown> = {}) =>
    start({
      url: `ws://127.0.0.1:${line.port}/ws`,
      user_id: "anna",
      topics: [`conversation:${conversation}`],
      ...more,
    });

  /** A service of its own, with a client that has heard something of it; another one may be started in its place. */
  async function begin() {
    const [port] = await freePorts(1);
    const settings = { SERVER__PORT: String(port) };
    const again = (folder?: string) => startService(folder === undefined ? { settings } : { settings, folder });
    const first = await again();
    const player = start({ url: first.url, user_id: "anna", topics: ["conversation:c1"] });
    await player.hears(({ live }) => live === true);
    await say("c1", "one", first.url);
    await player.has(["one"]);
    return { first, again, player };
  }

  test("[LOG3] [SUB6] over a line that breaks it misses nothing, hears nothing twice, and not what it said", async () => {
    const c = fresh("c");
    const player = follow(c);
    await player.hears(({ live }) => live === true);
    await say(c, "one");
    await player.has(["one"]);
    const mine = await player.do({ send: [c, "mine"] });
    expect(mine.payload).toMatchObject({ seq: 2, duplicate: false });
    line.cut();
    await say(c, "two");
    const sending = player.do({ send: [c, "mine too"] });
    line.heal();
    await player.has(["one", "two"]);
    expect((await sending).payload.duplicate).toBe(false);
    await say(c, "three");
    await player.has(["one", "two", "three"]);
    expect(player.contents).toEqual(["one", "two", "three"]);
    await player.kill();
  });

  test("[LOG4] over a crash of the service it comes back by itself", async () => {
    const { first, again, player } = await begin();
    await first.kill();
    const second = await again(first.folder);
    await say("c1", "two", second.url);
    await player.has(["one", "two"]);
    expect(player.contents).toEqual(["one", "two"]);
    await player.kill();
    await second.stop();
  });

  test("[LOG4] of another log it is told that something is missing, and of which topics", async () => {
    const { first, again, player } = await begin();
    await first.stop();
    const second = await again();
    // Its own topics are told of as well.
    await player.hears(({ event, payload }) => event === "gap" && payload.topics.includes("conversation:c1"));
    await say("c1", "anew", second.url);
    await player.has(["one", "anew"]);
    await player.kill();
    await second.stop();
  });

  test("[LOG6] what was acknowledged is not heard again by the program that comes after it, and all else is", async () => {
    const c = fresh("c");
    const device_id = fresh("device");
    const first = follow(c, { device_id, since: "acked" });
    await first.hears(({ live }) => live === true);
    await say(c, "one");
    await first.has(["one"]);
    // A cursor comes with the next answer to its own question; a new subscription has one at once.
    await first.do({ request: ["ack", { cursor: (await first.do({ request: ["ping", {}] })).payload.cursor }] });
    await first.kill();
    await say(c, "two");
    const second = follow(c, { device_id, since: "acked" });
    await second.has(["two"]);
    expect(second.contents).toEqual(["two"]);
    await second.kill();
  });

  test("[ENV5] where another one has come as the same device it ends, and says why", async () => {
    const device_id = fresh("device");
    const first = follow(fresh("c"), { device_id });
    await first.hears(({ live }) => live === true);
    const second = follow(fresh("c"), { device_id });
    expect(await first.hears(({ closed }) => closed !== undefined)).toMatchObject({ code: 4010 });
    await second.kill();
  });

  test("[ENV4] an error names its field, and what is not so is refused for good", async () => {
    const player = follow(fresh("c"));
    await player.hears(({ live }) => live === true);
    const wrong = await player.do({ request: ["history", { topic: "conversation:c1", limit: 1000 }] });
    expect([wrong.code, wrong.field]).toEqual(["invalid_payload", "payload.limit"]);
    await player.kill();
    const nobody = start({ url: service.url, topics: ["conversation"] });
    expect(await nobody.hears(({ closed }) => closed !== undefined)).toMatchObject({ code: 401 });
  });

  test("[AUTH3] it refreshes its token, and nothing is subscribed anew", async () => {
    const auth = { AUTH__MODE: "token", AUTH__SECRET: secret, DIRECTORY__MODE: "open" };
    const guarded = await startService({ settings: auth });
    let given = 0;
    const tokens = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch() {
        given++;
        const claims = new SignJWT({ sub: given > 50 ? "" : "anna" }).setIssuedAt().setExpirationTime("4s");
        return new Response(await claims.setProtectedHeader({ alg: "HS256" }).sign(secretBytes));
      },
    });
    const player = start({ url: guarded.url, token_url: tokens.url.href, topics: ["conversation:c1"] });
    await player.hears(({ live }) => live === true);
    await until(async () => given >= 3);
    const token = await new SignJWT({ sub: "ben" })
      .setExpirationTime("1m")
      .setProtectedHeader({ alg: "HS256" })
      .sign(secretBytes);
    const ben = await Client.connect(guarded.url, { query: { token } });
    await ben.ask("message.send", { conversation_id: "c1", client_message_id: "m1", content: "still here" });
    await player.has(["still here"]);
    const opened = guarded.logs.filter(({ msg }) => msg === "connected");
    expect(player.said.filter(({ live }) => live).length).toBe(1);
    expect(opened.length).toBeLessThanOrEqual(2);
    await ben.close();
    await player.kill();
    await tokens.stop(true);
    await guarded.stop();
  });

  test("[CON4] it agrees on compression", async () => {
    const player = follow(fresh("c"));
    const { extensions } = await player.hears(({ live }) => live === true);
    expect(extensions).toContain("permessage-deflate");
    await player.kill();
  });

  test("[DRN] told that the service is going, it comes back when it was told to", async () => {
    const { first, again, player } = await begin();
    first.signal("SIGTERM");
    await first.exited;
    const second = await again(first.folder);
    await say("c1", "after", second.url);
    await player.has(["one", "after"]);
    await player.kill();
    await second.stop();
  });
});

/** Takes a block of a client's README. */
async function blockOf(language: string, kind: "run" | "prints"): Promise<string> {
  const readme = await Bun.file(join(projectFolder, "clients", language, "README.md")).text();
  const block = new RegExp(`^<!-- ${kind} -->\\n\`\`\`\\w+\\n([\\s\\S]*?)^\`\`\``, "m").exec(readme)![1]!;
  return block.replace("ws://localhost:8086/ws", service.url);
}

bunTest("[MSG1] the lines of the README of the Python client do what it says", async () => {
  const child = Bun.spawn([python(), "-c", await blockOf("python", "run")], {
    env: { ...process.env, PYTHONPATH: join(projectFolder, "clients/python") },
  });
  expect(await child.stdout.text()).toBe(await blockOf("python", "prints"));
});

bunTest("[CON7] a program in Python that takes its time is not taken for a line that is dead", async () => {
  const slow = `
import asyncio, ws_service
# Asked often; an answer has longer than a busy machine needs for it, for while the program takes its time there is none.
ws_service.PING_EVERY, ws_service.ANSWER_WITHIN = 0.02, 1
lines, pinged = [], asyncio.Semaphore(0)
class Counting(ws_service.Client):
    async def _talk(self, socket):
        lines.append(socket)
        send = socket.send
        async def counting(text):
            if '"ping"' in text:
                pinged.release()
            await send(text)
        socket.send = counting
        await super()._talk(socket)
async def main():
    c = "${fresh("c")}"
    options = {"topics": [f"conversation:{c}"]}
    async with Counting("${service.url}", user_id="anna", backlog=2, **options) as anna:
        async with ws_service.Client("${service.url}", user_id="ben", **options) as ben:
            for n in range(10):
                await ben.send(c, str(n))
        for _ in range(5):
            await pinged.acquire()
        async for event in anna:
            if event.type == "message.new":
                print(event.payload["content"], end=" ")
                if event.payload["content"] == "9":
                    break
    print(len(lines))
asyncio.run(main())`;
  const child = Bun.spawn([python(), "-c", slow], {
    env: { ...process.env, PYTHONPATH: join(projectFolder, "clients/python") },
  });
  expect(await child.stdout.text()).toBe("0 1 2 3 4 5 6 7 8 9 1\n");
});

bunTest.skipIf(!hasGo)("[LOG2] [LOG3] [ENV4] the Go client's own tests hold", testClient);

bunTest.skipIf(!hasGo)("[MSG1] the lines of the README of the Go client do what it says", async () => {
  const child = Bun.spawn([await buildProgram(await blockOf("go", "run"), built)]);
  expect(await child.stdout.text()).toBe(await blockOf("go", "prints"));
});
