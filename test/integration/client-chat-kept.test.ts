/** Plays the client on a device that was away, offline or switched off: what it shows then, and that it ends as the service has it. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { ClientOptions } from "../../src/client/client.ts";
import type { ConversationView } from "../../src/client/conversations/conversation.ts";
import { MemoryStore } from "../../src/client/stores/memory.ts";
import { chatter, network, opened, RememberingStore, shows, stopChatters, textsOf } from "../support/chatters.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterEach(() => stopChatters());
afterAll(() => service.stop());

const people = createPeople(() => service.url);
const userOf = (userId: string, options: Partial<ClientOptions> = {}) =>
  chatter({ url: service.url, userId, ...options }).client;
const isLive = ({ status, isLoadingOlder }: ConversationView) => status === "live" && !isLoadingOlder;
const keptIn = async (store: MemoryStore) => JSON.stringify(await store.read(""));

/** Says things in a conversation from a plain connection. */
async function speaker(conversation_id: string, listener = fresh("anna")) {
  // The listener is a member from the beginning.
  const [ben] = await people.gather(conversation_id, [fresh("ben"), listener]);
  const ask = (type: string, payload: object) => ben!.ask(type, { conversation_id, ...payload });
  return {
    ben: ben!,
    ask,
    say: (content: string) => ask("message.send", { client_message_id: fresh("m"), content }),
  };
}

test("[LOG2] a page opens without the network with what was kept, takes what is sent, and sends it once it can", async () => {
  const [c, anna] = [fresh("c"), fresh("anna")];
  const { ben, say } = await speaker(c, anna);
  for (const text of ["one", "two", "three"]) await say(text);
  const store = new MemoryStore();
  const first = userOf(anna, { store });
  const list = opened(first.conversations());
  await shows(opened(first.conversation(c)), (it) => isLive(it) && it.messages.length === 3);
  await shows(list, ({ items, status }) => status === "live" && items[0]?.unread === 3);
  await first.stop();
  const line = network();
  line.off();
  const second = userOf(anna, { store, webSocket: line.webSocket });
  const annas = opened(second.conversation(c));
  expect(textsOf(await shows(annas, ({ status }) => status === "kept"))).toEqual(["one", "two", "three"]);
  const kept = await shows(second.conversations(), ({ status }) => status === "kept");
  expect(kept.items).toMatchObject([{ id: c, unread: 3, lastMessage: { content: "three" } }]);
  annas.markRead();
  const { key } = await annas.send("from the tunnel");
  expect(annas.current).toMatchObject({ unread: 0, messages: [{}, {}, {}, { key, state: "pending" }] });
  await second.stop();
  // Reloaded, and still without the network.
  const third = userOf(anna, { store, webSocket: line.webSocket });
  const again = opened(third.conversation(c));
  await shows(again, ({ messages, unread }) => messages[3]?.key === key && unread === 0);
  line.on();
  third.stop();
  third.start();
  await shows(again, (it) => isLive(it) && it.messages[3]!.state === "sent");
  await ben.next("message.new", ({ content }) => content === "from the tunnel");
  await ben.settled();
  expect(ben.all("message.new")).toHaveLength(1);
  expect(textsOf(again.current)).toEqual(["one", "two", "three", "from the tunnel"]);
});

test("[LOG4] [MSG2] [MSG3] what happened meanwhile is there afterwards, and what was deleted is not kept any more", async () => {
  const [c, anna] = [fresh("c"), fresh("anna")];
  const { ask, say } = await speaker(c, anna);
  const [one, two, three] = [await say("one"), await say("the secret"), await say("three")];
  const store = new MemoryStore();
  const line = network();
  const client = userOf(anna, { store, webSocket: line.webSocket });
  const annas = opened(client.conversation(c));
  await shows(annas, (it) => isLive(it) && it.messages.length === 3);
  await client.stop();
  expect(await keptIn(store)).toInclude("the secret");
  client.start();
  await shows(annas, isLive);
  line.off();
  await shows(annas, ({ status }) => status === "kept");
  await ask("message.edit", { message_id: one.message_id, content: "ONE" });
  await ask("message.delete", { message_id: two.message_id });
  await ask("reaction.add", { message_id: three.message_id, reaction: "👍" });
  await say("four");
  expect(textsOf(annas.current)).toEqual(["one", "the secret", "three"]);
  line.on();
  const back = await shows(annas, (it) => isLive(it) && it.messages.length === 4);
  expect(textsOf(back)).toEqual(["ONE", null, "three", "four"]);
  expect(back.messages[2]!.reactions).toMatchObject([{ reaction: "👍", count: 1 }]);
  expect(back.unread).toBe(3);
  await client.stop();
  expect(await keptIn(store)).not.toInclude("secret");
  // The same on a device that was off.
  await ask("message.delete", { message_id: three.message_id });
  const next = userOf(anna, { store });
  const off = await shows(opened(next.conversation(c)), (it) => isLive(it) && it.messages[2]!.content === null);
  expect(textsOf(off)).toEqual(["ONE", null, null, "four"]);
  await next.stop();
  expect(await keptIn(store)).not.toInclude("three");
});

test("[LOG4] from whatever moment a device goes on, it ends as the service has it", async () => {
  const [c, anna] = [fresh("c"), fresh("anna")];
  const { ask, say } = await speaker(c, anna);
  const store = new RememberingStore();
  const client = userOf(anna, { store, deviceId: "first" });
  const annas = opened(client.conversation(c));
  opened(client.conversations());
  await shows(annas, isLive);
  for (let round = 0; round < 12; round++) {
    const { message_id } = await say(`message ${round}`);
    if (round % 3 === 0) await ask("message.delete", { message_id });
    if (round % 3 === 1) await ask("message.edit", { message_id, content: `edited ${round}` });
    if (round % 3 === 2) await ask("reaction.add", { message_id, reaction: "+" });
    await annas.send(`answer ${round}`);
    await shows(
      annas,
      ({ messages }) => messages.filter(({ isOwn, state }) => isOwn && state === "sent").length > round,
    );
    if (round % 4 === 0) annas.markRead();
    // So that there are moments between.
    await client.request("ping", {});
    await Bun.sleep(120);
  }
  const shown = (view: ConversationView) => ({
    messages: view.messages.map(({ key, content, reactions }) => [key, content, reactions.map(({ count }) => count)]),
    unread: view.unread,
  });
  await client.stop();
  const truth = await shows(opened(userOf(anna).conversation(c)), (it) => isLive(it) && it.messages.length === 24);
  expect(store.moments.length).toBeGreaterThan(10);
  for (const moment of store.moments) {
    const from = new MemoryStore();
    await from.write(moment);
    const other = userOf(anna, { store: from, deviceId: "first" });
    const view = opened(other.conversation(c));
    const end = await shows(view, (it) => isLive(it) && it.messages.every(({ state }) => state === "sent"));
    expect(shown(end)).toEqual(shown(truth));
    await other.stop();
  }
});

test("[LOG8] what was left and is opened again is filled where a little is missing, and loaded anew where much is", async () => {
  const [c, anna] = [fresh("c"), fresh("anna")];
  const { ask, say } = await speaker(c, anna);
  const old = await say("one");
  const client = userOf(anna);
  const stay = client.conversation(c);
  let leave = stay.subscribe(() => {});
  await shows(stay, (it) => isLive(it) && it.messages.length === 1);
  const left = async () => {
    leave();
    await new Promise<void>((resolve) => {
      const unlisten = setInterval(async () => {
        const { topics } = await people.connect("root", { roles: "admin" }).then((it) => it.ask("admin.topics", {}));
        if (topics.some(({ topic }: any) => topic === `typing:${c}`)) return;
        clearInterval(unlisten);
        resolve();
      }, 200);
    });
  };
  await left();
  await ask("message.edit", { message_id: old.message_id, content: "ONE" });
  for (let n = 2; n <= 100; n++) await say(`${n}`);
  leave = stay.subscribe(() => {});
  const filled = await shows(stay, (it) => isLive(it) && it.messages.length === 100);
  expect(textsOf(filled).slice(0, 3)).toEqual(["ONE", "2", "3"]);
  await left();
  for (let n = 101; n <= 900; n++) await say(`${n}`);
  leave = stay.subscribe(() => {});
  const anew = await shows(
    stay,
    (it) => isLive(it) && it.messages.at(-1)?.content === "900" && it.messages.length >= 50,
  );
  const length = anew.messages.length;
  expect(textsOf(anew)).toEqual(Array.from({ length }, (_, at) => `${900 - length + 1 + at}`));
  leave();
});

test("[LOG4] where the log has gone back the conversation is loaded anew, and the application is told", async () => {
  const settings = { WEBSOCKET__CLEANUP_INTERVAL: "1h" };
  let own = await startService({ settings });
  const { folder, port } = own;
  const restart = async (between: () => void) => {
    own.signal("SIGTERM");
    await own.exited;
    between();
    own = await startService({ settings: { ...settings, SERVER__PORT: String(port) }, folder });
  };
  try {
    const { client } = chatter({ url: own.url, userId: "anna" });
    const gaps: (readonly string[])[] = [];
    client.on("gap", ({ topics }) => gaps.push(topics));
    const annas = opened(client.conversation("c1"));
    await annas.send("before");
    await shows(annas, (it) => isLive(it) && it.messages[0]?.state === "sent");
    await restart(() => cpSync(join(folder, "data"), join(folder, "kept"), { recursive: true }));
    await annas.send("lost");
    await shows(annas, (it) => isLive(it) && it.messages.length === 2 && it.messages[1]!.state === "sent");
    await restart(() => {
      rmSync(join(folder, "data"), { recursive: true });
      cpSync(join(folder, "kept"), join(folder, "data"), { recursive: true });
    });
    await shows(annas, (it) => isLive(it) && textsOf(it).join() === "before");
    expect(gaps.flat()).toContain("conversation:c1");
    await annas.send("after");
    await shows(annas, (it) => textsOf(it).join() === "before,after" && it.messages[1]!.state === "sent");
  } finally {
    await own.stop();
  }
});

test("[LOG4] another user, or signing out, wipes what is kept", async () => {
  const [c, anna] = [fresh("c"), fresh("anna")];
  const { say } = await speaker(c, anna);
  await say("private");
  const store = new MemoryStore();
  const first = userOf(anna, { store });
  const seen = opened(first.conversation(c));
  await shows(seen, (it) => isLive(it) && it.messages.length === 1);
  await first.stop();
  expect(await keptIn(store)).toInclude("private");
  const second = userOf(fresh("carl"), { store });
  await shows(opened(second.conversations()), ({ status, items }) => status === "live" && items.length === 0);
  expect(await keptIn(store)).not.toInclude("private");
  await shows(opened(second.conversation(c)), (it) => isLive(it) && it.messages.length === 1);
  await second.signOut();
  expect(second.conversation(c).current).toMatchObject({ messages: [], status: "loading" });
  expect(second.conversations().current.items).toEqual([]);
  expect(await store.read("")).toEqual([]);
});

test("[LOG2] after signing out nothing is taken to be sent, also after a stop and until it is started; after a stop alone it waits", async () => {
  const [c, anna] = [fresh("c"), fresh("anna")];
  const store = new MemoryStore();
  const client = userOf(anna, { store });
  const view = opened(client.conversation(c));
  const sent = await shows(view, isLive).then(() => client.conversation(c).send("one"));
  await shows(view, ({ messages }) => messages[0]?.state === "sent");
  await client.stop();
  expect(await client.conversation(c).send("two")).toMatchObject({ state: "pending" });
  client.start();
  await shows(view, (it) => isLive(it) && it.messages.every(({ state }) => state === "sent"));
  const refused = { name: "ClientError", code: "stopped" };
  await client.signOut();
  for (const step of [() => {}, () => client.stop()]) {
    await step();
    const conversation = client.conversation(c);
    await expect(conversation.send("late")).rejects.toMatchObject(refused);
    await expect(conversation.edit(sent.id, "late")).rejects.toMatchObject(refused);
    await expect(conversation.delete(sent.id)).rejects.toMatchObject(refused);
    await expect(conversation.react(sent.id, "+")).rejects.toMatchObject(refused);
    await expect(conversation.sendEvent("late", {}, { clientEventId: fresh("e") })).rejects.toMatchObject(refused);
    expect(await store.read("")).toEqual([]);
  }
  client.start();
  await shows(view, (it) => isLive(it) && it.messages.length === 2);
  expect(textsOf(view.current)).toEqual(["one", "two"]);
  expect(await client.conversation(c).send("three")).toMatchObject({ content: "three" });
});

test("[LOG4] as much is kept as was asked for: the conversations with the newest messages, and of each the newest", async () => {
  const anna = fresh("anna");
  const ids = [fresh("c"), fresh("c"), fresh("c")] as const;
  const speakers = await Promise.all(ids.map((id) => speaker(id, anna)));
  const store = new MemoryStore();
  const keep = { conversations: 2, messages: 3 };
  const client = userOf(anna, { store, keep });
  const views = ids.map((id) => opened(client.conversation(id)));
  await Promise.all(views.map((it) => shows(it, isLive)));
  for (const { say } of speakers) for (let n = 1; n <= 5; n++) await say(`${n}`);
  for (const it of views) await shows(it, ({ messages }) => messages.length === 5);
  await client.stop();
  const kept = await store.read("conversation/");
  expect(kept.map(([key]) => key)).toEqual(ids.slice(1).map((id) => `conversation/${id}`));
  const line = network();
  line.off();
  const again = userOf(anna, { store, keep, webSocket: line.webSocket });
  const view = opened(again.conversation(ids[2]));
  expect(textsOf(await shows(view, ({ status }) => status === "kept"))).toEqual(["3", "4", "5"]);
  line.on();
  again.stop();
  again.start();
  await shows(view, isLive);
  await view.loadOlder();
  expect(textsOf(view.current)).toEqual(["1", "2", "3", "4", "5"]);
});
