/** Plays the client's connection against the real service: it comes live, comes back, and tells each event once. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { News, Store } from "../../src/client/core.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import { connection, fastClock, stopConnections, watchedSockets } from "../support/connections.ts";
import { type LinkProxy, startProxy } from "../support/proxy.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

setDefaultTimeout(60_000);
let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => stopConnections());
afterAll(() => service.stop());

type Connected = ReturnType<typeof connection>;

const isSent = (content: string) => (news: News) =>
  news.kind === "sent" && "content" in news.entry.payload && news.entry.payload.content === content;

const isMessage = (content: string) => (news: News) =>
  news.kind === "event" && news.event.type === "message.new" && news.event.payload.content === content;
const contents = (of: Connected) => of.events("message.new").map(({ payload }) => payload.content);
const gapsOf = (of: Connected) => of.news.flatMap((news) => (news.kind === "gap" ? news.topics : []));

function send(from: Connected, conversation_id: string, content: string) {
  return from.connection.request("message.send", {
    conversation_id,
    client_message_id: content.replaceAll(" ", "_"),
    content,
  });
}

/** Starts them, and resolves once each is on the conversation. */
async function on(conversationId: string, ...connections: Connected[]): Promise<void> {
  for (const { connection } of connections) {
    connection.start();
    await connection.follow(["conversation"], { conversation_id: conversationId }).ready;
  }
}

describe("one connection", () => {
  test("[CON5] [SUB2] comes live, is told of its own topics, and answers requests that were asked before", async () => {
    const anna = connection({ url: service.url, userId: "anna" });
    const pong = anna.connection.request("ping", {});
    anna.connection.start();
    await anna.live();
    expect((await pong).server_time).toBeString();
    expect(anna.connection.userId).toBe("anna");
    expect(anna.connection.deviceId).toBeString();
    expect(anna.states.map(({ status }) => status)).toEqual(["connecting", "live"]);
    await anna.told((news) => news.kind === "subscribed" && news.topics.some(({ topic }) => topic === "user:anna"));
  });

  test("[CON5] its state is the same object until it is another one, also while it begins", async () => {
    const anna = connection({ url: service.url, userId: "anna" });
    anna.connection.start();
    const { state } = anna.connection;
    expect(state.status).toBe("connecting");
    expect(anna.connection.state).toBe(state);
    await anna.live();
    expect(anna.connection.state).toBe(anna.connection.state);
  });

  test("[LOG3] [SUB6] is told once over a broken line what others say, and not at all what it has said itself", async () => {
    const sockets = watchedSockets();
    const anna = connection({ url: service.url, userId: "anna", webSocket: sockets.webSocket });
    const ben = connection({ url: service.url, userId: "ben" });
    await on("c1", anna, ben);
    await send(ben, "c1", "one");
    await anna.told(isMessage("one"));
    await send(anna, "c1", "mine");
    sockets.cut();
    await anna.state(({ status }) => status === "waiting");
    await send(ben, "c1", "two");
    await anna.told(isMessage("two"));
    expect(contents(anna)).toEqual(["one", "two"]);
    expect(gapsOf(anna)).toEqual([]);
    expect(new Set(sockets.lines.slice(1).map(({ url }) => new URL(url).searchParams.get("device_id")))).toEqual(
      new Set([anna.connection.deviceId]),
    );
  });

  test("[ENV4] names what the server refuses, and the field", async () => {
    const anna = connection({ url: service.url, userId: "anna" });
    anna.connection.start();
    const refused = await anna.connection.request("history", { topic: "user:anna", limit: 999 }).catch((it) => it);
    expect(refused).toMatchObject({ name: "ServerError", code: "invalid_payload", field: "payload.limit" });
    expect(refused.message).toContain("limit");
  });

  test("[ENV7] has many requests under way at once, each with its own answer", async () => {
    const anna = connection({ url: service.url, userId: "anna" });
    await on("c2", anna);
    const acks = await Promise.all(Array.from({ length: 300 }, (_, index) => send(anna, "c2", `m${index}`)));
    expect(acks.map(({ seq }) => seq)).toEqual(Array.from({ length: 300 }, (_, index) => index + 1));
  });

  test("[SUB4] comes back with 2,500 conversations under the usual limits, by whole names", async () => {
    const limited = await startService({ settings: { RATE_LIMITS__ENABLED: "true" } });
    try {
      const sockets = watchedSockets();
      const anna = connection({ url: limited.url, userId: "anna", webSocket: sockets.webSocket });
      const names = Array.from({ length: 2_500 }, () => `conversation:${crypto.randomUUID()}`);
      const { ready } = anna.connection.follow(names);
      anna.connection.start();
      expect((await ready).topics.length).toBe(2_500);
      await anna.live();
      sockets.cut();
      await anna.state(({ status }) => status === "waiting");
      await anna.live();
      const portions = sockets.lines.at(-1)!.sent.filter(({ type }) => type === "subscribe");
      expect(portions.flatMap(({ payload }) => payload.topics).length).toBe(2_503);
      expect(new Set(portions.map(({ payload }) => payload.since.cursor)).size).toBe(1);
      expect(anna.errors).toEqual([]);
    } finally {
      await limited.stop();
    }
  });

  test("[CON3] leaves its device to whoever connects as it, or comes back as another", async () => {
    const deviceId = "shared";
    const one = connection({ url: service.url, userId: "dora", deviceId });
    one.connection.start();
    await one.live();
    const other = connection({ url: service.url, userId: "dora", deviceId });
    other.connection.start();
    expect(await one.state(({ status }) => status === "stopped")).toMatchObject({ reason: "replaced", code: 4010 });
    await other.live();
    const taking = connection({ url: service.url, userId: "dora", deviceId });
    const leaving = connection({ url: service.url, userId: "emil", deviceId, whenReplaced: "another_device" });
    leaving.connection.start();
    await leaving.live();
    const same = connection({ url: service.url, userId: "emil", deviceId });
    // Waited for from before it can come: it does not last.
    const isLeaving = leaving.state(({ status }) => status === "waiting");
    same.connection.start();
    await Promise.all([same.live(), isLeaving]);
    await leaving.live();
    expect(leaving.connection.deviceId).not.toBe(deviceId);
    expect(same.connection.state.status).toBe("live");
    taking.connection.start();
    await other.state(({ status }) => status === "stopped");
  });

  test("[PRE1] says goodbye when it is stopped, and goes on when it is started again", async () => {
    const sockets = watchedSockets();
    const anna = connection({ url: service.url, userId: "anna", webSocket: sockets.webSocket });
    const ben = connection({ url: service.url, userId: "ben" });
    await on("c3", anna, ben);
    let code = 0;
    sockets.lines.at(-1)!.socket.addEventListener("close", (event) => {
      code = event.code;
    });
    await anna.connection.stop();
    expect(code).toBe(1000);
    await send(ben, "c3", "while you were away");
    anna.connection.start();
    await anna.told(isMessage("while you were away"));
  });
});

describe("a line that breaks", () => {
  let proxy: LinkProxy;
  let url: string;
  beforeAll(async () => {
    proxy = await startProxy(service.port);
    url = `ws://127.0.0.1:${proxy.port}/ws`;
  });
  afterAll(() => proxy.stop());

  test("[CON6] half-open is noticed, and replaced by one of the same device", async () => {
    const anna = connection({ url, userId: "anna", clock: fastClock(30) });
    await on("c4", anna);
    const { deviceId } = anna.connection;
    proxy.freeze();
    expect(await anna.state(({ status }) => status === "waiting")).toMatchObject({ reason: "closed", code: 4000 });
    proxy.heal();
    await anna.live();
    expect(anna.connection.deviceId).toBe(deviceId);
  });

  test("[ENV5] what cannot be reached is tried again", async () => {
    proxy.cut();
    const anna = connection({ url, userId: "anna", clock: fastClock(20) });
    anna.connection.start();
    await anna.state((state) => state.status === "waiting" && state.reason === "refused");
    proxy.heal();
    await anna.live();
  });

  for (const signal of ["SIGTERM", "SIGKILL"] as const)
    test(`[DRN] [LOG2] [LOG3] a server that restarts (${signal}) loses nothing of what is sent to it, and repeats nothing`, async () => {
      let own = await startService();
      const { folder } = own;
      const door = await startProxy(own.port);
      try {
        const way = `ws://127.0.0.1:${door.port}/ws`;
        const clock = fastClock(10);
        const anna = connection({ url: way, userId: "anna", clock });
        const ben = connection({ url: way, userId: "ben", clock });
        await on("c1", anna, ben);
        const sent: Promise<unknown>[] = [];
        for (let index = 0; index < 40; index++) {
          const content = String(index);
          sent.push(
            anna.connection.outbox.add("message.send", { conversation_id: "c1", client_message_id: content, content }),
          );
          if (index % 5 === 0) await ben.told(isMessage(content));
          if (index !== 20) continue;
          own.signal(signal);
          await own.exited;
          own = await startService({ folder });
          door.lead(own.port);
        }
        await Promise.all(sent);
        await ben.told(isMessage("39"));
        expect(contents(ben)).toEqual(Array.from({ length: 40 }, (_, index) => String(index)));
        expect(contents(anna)).toEqual([]);
        await anna.told(isSent("39"));
        expect(anna.connection.outbox.entries).toEqual([]);
        if (signal === "SIGTERM")
          expect(anna.states).toContainEqual(expect.objectContaining({ reason: "draining", code: 1012 }));
      } finally {
        await stopConnections();
        await door.stop();
        await own.stop();
      }
    });

  test("[LOG4] a log that was put back has a gap, and goes on from there", async () => {
    let own = await startService();
    const { folder } = own;
    const kept = mkdtempSync(join(tmpdir(), "ws-kept-"));
    const door = await startProxy(own.port);
    const restart = async (between: () => void) => {
      own.signal("SIGTERM");
      await own.exited;
      between();
      own = await startService({ folder });
      door.lead(own.port);
    };
    try {
      const way = `ws://127.0.0.1:${door.port}/ws`;
      const anna = connection({ url: way, userId: "anna", clock: fastClock(10) });
      const ben = connection({ url: way, userId: "ben", clock: fastClock(10) });
      await on("c1", anna, ben);
      await send(ben, "c1", "before");
      await anna.told(isMessage("before"));
      await restart(() => cpSync(join(folder, "data"), kept, { recursive: true }));
      await Promise.all([anna.live(), ben.live()]);
      expect(gapsOf(anna)).toEqual([]);
      await send(ben, "c1", "lost 1");
      await send(ben, "c1", "lost 2");
      await anna.told(isMessage("lost 2"));
      await anna.connection.request("ping", {});
      await restart(() => {
        rmSync(join(folder, "data"), { recursive: true });
        cpSync(kept, join(folder, "data"), { recursive: true });
      });
      await anna.told((news) => news.kind === "gap" && news.topics.includes("conversation:c1"));
      await ben.live();
      await send(ben, "c1", "after");
      await anna.told(isMessage("after"));
      expect(contents(anna)).toEqual(["before", "lost 1", "lost 2", "after"]);
    } finally {
      await stopConnections();
      await door.stop();
      await own.stop();
      rmSync(kept, { recursive: true });
    }
  });
});

describe("tokens", () => {
  let guarded: Service;
  beforeAll(async () => {
    guarded = await startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
  });
  afterAll(() => guarded.stop());

  const seconds = () => Math.floor(Date.now() / 1_000);
  const token = (lifeSeconds: number, sub = "anna") => signToken({ sub, iat: seconds(), exp: seconds() + lifeSeconds });

  test("[AUTH3] are refreshed before they end, and nothing is subscribed anew", async () => {
    const sockets = watchedSockets();
    const whys: string[] = [];
    const getToken = (why: string) => {
      whys.push(why);
      return token(why === "connect" ? 3 : 600);
    };
    const anna = connection({ url: guarded.url, getToken, webSocket: sockets.webSocket });
    anna.connection.start();
    await anna.live();
    await anna.told((news) => news.kind === "event" && news.event.type === "auth.expiring");
    const refreshed = () => sockets.lines[0]!.received.filter(({ type }) => type === "auth.success").length === 2;
    while (!refreshed()) await anna.connection.request("ping", {});
    expect(whys).toEqual(["connect", "expiring"]);
    expect(sockets.lines.length).toBe(1);
    expect(new URL(sockets.lines[0]!.url).search).toBe("");
  });

  test("[AUTH1] that are refused are asked for anew", async () => {
    const getToken = (why: string) => token(why === "connect" ? -3_600 : 600);
    const anna = connection({ url: guarded.url, getToken });
    anna.connection.start();
    await anna.state((state) => state.status === "waiting" && state.reason === "refused");
    await anna.live();
    const wrong = connection({ url: guarded.url, token: "wrong" });
    wrong.connection.start();
    expect(await wrong.state(({ status }) => status === "stopped")).toMatchObject({
      reason: "authentication",
      code: 4004,
      message: "token_invalid",
    });
  });

  test("[AUTH1] of another user leave nothing of the one before", async () => {
    const store = new MemoryStore();
    let who = "anna";
    const getToken = () => token(600, who);
    const one = connection({ url: guarded.url, getToken, store });
    await on("c1", one);
    await one.connection.outbox.add("message.send", { conversation_id: "c1", client_message_id: "1", content: "1" });
    const { deviceId } = one.connection;
    await one.connection.stop();
    who = "ben";
    const other = connection({ url: guarded.url, getToken, store });
    await other.connection.loaded;
    expect(JSON.stringify(await store.read(""))).not.toMatch(/anna|outbox/);
    other.connection.start();
    await other.live();
    expect(other.connection.userId).toBe("ben");
    expect(other.connection.deviceId).not.toBe(deviceId);
    await other.connection.signOut();
    expect(await store.read("")).toEqual([]);
    expect(other.connection.userId).toBeNull();
    expect(other.connection.state).toEqual({ status: "stopped", reason: "signed_out" });
  });
});

describe("what is kept", () => {
  test("[LOG4] has the place and all that was folded up to it in one piece; a program that starts again goes on from there", async () => {
    const writes: [string, unknown][][] = [];
    const memory = new MemoryStore();
    const store: Store = {
      read: (prefix) => memory.read(prefix),
      write: (changes) => {
        writes.push([...changes]);
        return memory.write(changes);
      },
      clear: () => memory.clear(),
    };
    const anna = connection({ url: service.url, userId: "anna", store });
    const folded: string[] = [];
    anna.connection.onNews((news) => void (isMessage("kept")(news) && folded.push("kept")));
    anna.connection.keep({ takeChanges: () => [["conversation/c5", [...folded]]] });
    const ben = connection({ url: service.url, userId: "ben" });
    await on("c5", anna, ben);
    await send(ben, "c5", "kept");
    await anna.told(isMessage("kept"));
    await anna.connection.stop();
    const last = new Map(writes.findLast((changes) => changes.some(([key]) => key === "session")));
    expect(last.get("conversation/c5")).toEqual(["kept"]);
    expect(last.get("session")).toMatchObject({ userId: "anna", seen: { "conversation:c5": expect.any(Number) } });
    await send(ben, "c5", "missed");
    const again = connection({ url: service.url, userId: "anna", store });
    await again.connection.loaded;
    expect(again.connection.deviceId).toBe(anna.connection.deviceId);
    await on("c5", again);
    await again.told(isMessage("missed"));
    expect(contents(again)).toEqual(["missed"]);
  });

  test("[LOG4] goes with the next write where one has failed", async () => {
    const memory = new MemoryStore();
    let isFull = true;
    const store: Store = {
      read: (prefix) => memory.read(prefix),
      write: (changes) => (isFull ? Promise.reject(new Error("the disk is full")) : memory.write(changes)),
      clear: () => memory.clear(),
    };
    const anna = connection({ url: service.url, userId: "anna", store });
    const changes: [string, unknown][] = [["conversation/c6", "folded"]];
    anna.connection.keep({ takeChanges: () => changes.splice(0) });
    await on("c6", anna);
    await anna.connection.stop();
    expect(String(anna.errors.at(-1))).toContain("the disk is full");
    isFull = false;
    anna.connection.start();
    await anna.live();
    await anna.connection.stop();
    expect((await memory.read("")).map(([key]) => key)).toEqual(["conversation/c6", "session", "session/covered"]);
  });
});

test("[SUB1] what is followed while it comes back is asked for as well", async () => {
  const anna = connection({ url: service.url, userId: "anna" });
  const ready = new Promise((resolve) => {
    const unlisten = anna.connection.onNews(() => {
      unlisten();
      expect(anna.connection.state.status).toBe("connecting");
      resolve(anna.connection.follow(["conversation:c1"]).ready);
    });
  });
  anna.connection.start();
  await ready;
  await anna.live();
});
