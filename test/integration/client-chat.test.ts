/** Plays conversations of the client against the real service: what one does the other shows. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { ConversationView } from "../../src/client/conversations/conversation.ts";
import { chatter, opened, shows, stopChatters, textsOf } from "../support/chatters.ts";
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
const userOf = (prefix: string) => chatter({ url: service.url, userId: fresh(prefix) }).client;

test("[MSG1] a message is shown at once, then as sent under the same key, and by the other", async () => {
  const c = fresh("c");
  const [anna, ben] = [userOf("anna"), userOf("ben")];
  const [annas, bens] = [opened(anna.conversation(c)), opened(ben.conversation(c))];
  await Promise.all([annas, bens].map((it) => shows(it, ({ status }) => status === "live")));
  const pending = await annas.send("Hello!");
  expect(pending).toMatchObject({ state: "pending", content: "Hello!", isOwn: true, seq: null, id: pending.key });
  const { messages } = await shows(annas, ({ messages }) => messages[0]?.state === "sent");
  expect(messages).toMatchObject([{ key: pending.key, clientMessageId: pending.key, content: "Hello!", seq: 1 }]);
  const shown = await shows(bens, ({ messages }) => messages.length === 1);
  expect(shown).toMatchObject({ unread: 1, messages: [{ content: "Hello!", isOwn: false, senderId: anna.userId! }] });
  expect(textsOf(annas.current)).toEqual(["Hello!"]);
});

/** A conversation in which some users are, each looking at it. */
async function gather(...prefixes: string[]) {
  const id = fresh("c");
  const clients = prefixes.map(userOf);
  const views = clients.map((client) => opened(client.conversation(id)));
  await Promise.all(views.map((it) => shows(it, ({ status }) => status === "live")));
  return { id, clients, views };
}

test("[MSG2] edits and deletions are shown at once, then by everybody; what is deleted is nowhere any more", async () => {
  const { views } = await gather("anna", "ben");
  const [annas, bens] = views as [(typeof views)[0], (typeof views)[0]];
  const { key } = await annas.send("Helo");
  await annas.send("Second");
  await shows(annas, ({ messages }) => messages.every(({ state }) => state === "sent"));
  const { id } = annas.current.messages[0]!;
  await annas.edit(id, "Hello");
  expect(annas.current.messages[0]).toMatchObject({ key, content: "Hello", state: "pending" });
  const edited = await shows(bens, ({ messages }) => messages[0]?.content === "Hello");
  expect(edited.messages[0]).toMatchObject({ editedAt: expect.any(String), deletedAt: null });
  await shows(annas, ({ messages }) => messages[0]!.state === "sent");
  await annas.delete(id);
  expect(annas.current.messages[0]).toMatchObject({ key, content: null, state: "pending" });
  const deleted = await shows(bens, ({ messages }) => messages[0]?.content === null);
  expect(deleted).toMatchObject({ unread: 1, messages: [{ deletedAt: expect.any(String) }, { content: "Second" }] });
});

test("[MSG2] who edits or deletes by the id from before it was sent means the message", async () => {
  const { views } = await gather("anna", "ben");
  const [annas, bens] = views as [(typeof views)[0], (typeof views)[0]];
  const sending = await annas.send("one");
  await annas.edit(sending.id, "two");
  await annas.react(sending.id, "👍");
  await shows(bens, ({ messages }) => messages[0]?.content === "two" && messages[0].reactions.length === 1);
  await annas.delete(sending.id);
  await shows(bens, ({ messages }) => messages[0]?.deletedAt !== null);
});

test("[MSG3] reactions are shown at once and by all, and are taken back", async () => {
  const { clients, views } = await gather("anna", "ben");
  const [annas, bens] = views as [(typeof views)[0], (typeof views)[0]];
  await annas.send("Lunch?");
  const { messages } = await shows(bens, ({ messages }) => messages.length === 1);
  await bens.react(messages[0]!.id, "👍");
  const mine = [{ reaction: "👍", count: 1, userIds: [clients[1]!.userId!], isMine: true }];
  expect(bens.current.messages[0]!.reactions).toEqual(mine);
  const shown = await shows(annas, ({ messages }) => messages[0]!.reactions.length === 1);
  expect(shown.messages[0]!.reactions).toEqual([{ ...mine[0]!, isMine: false }]);
  await bens.react(messages[0]!.id, "👍", false);
  await shows(annas, ({ messages }) => messages[0]!.reactions.length === 0);
});

test("[MSG3] of a reaction that more have than are named the count is exact again after a moment", async () => {
  const { id: c, clients, views } = await gather("anna", "ben");
  const [annas, bens] = views as [(typeof views)[0], (typeof views)[0]];
  await annas.send("Who comes?");
  const { messages } = await shows(bens, ({ messages }) => messages.length === 1);
  const message_id = messages[0]!.id;
  const crowd = await people.gather(
    c,
    Array.from({ length: 24 }, () => fresh("guest")),
  );
  const react = (it: (typeof crowd)[0], type = "reaction.add") =>
    it.ask(type, { conversation_id: c, message_id, reaction: "+" });
  for (const guest of crowd.slice(0, 22)) await react(guest);
  await shows(annas, ({ messages }) => messages[0]!.reactions[0]?.count === 22);
  // One who comes later is told of 20 names, and of some of the others again.
  const late = opened(
    chatter({ url: service.url, userId: clients[1]!.userId!, deviceId: "late" }).client.conversation(c),
  );
  await shows(late, ({ messages }) => messages[0]?.reactions[0]?.count === 22);
  await late.react(message_id, "+");
  await Promise.all(crowd.slice(22).map((guest) => react(guest)));
  await Promise.all(crowd.slice(0, 5).map((guest) => react(guest, "reaction.remove")));
  for (const view of [annas, bens, late])
    await shows(view, ({ messages }) => {
      const [it] = messages[0]!.reactions;
      return it?.count === 20 && it.isMine === (view !== annas);
    });
});

test("[MSG1] [ENV4] what is refused is shown as failed, holds nothing up, and is tried again or given up", async () => {
  const c = fresh("c");
  const { client: anna } = chatter({ url: service.url, userId: fresh("anna") });
  const other = await startService({ settings: { MESSAGES__ACCEPT: "false" } });
  try {
    const { client: ben } = chatter({ url: other.url, userId: fresh("ben") });
    const bens = opened(ben.conversation(c));
    await bens.send("no");
    await bens.send("neither");
    const { messages } = await shows(bens, ({ messages }) => messages.every(({ state }) => state === "failed"));
    expect(messages.map(({ content, error }) => [content, error?.code])).toEqual([
      ["no", "forbidden"],
      ["neither", "forbidden"],
    ]);
    await bens.retry(messages[0]!.id);
    expect(bens.current.messages[0]!.state).toBe("pending");
    await shows(bens, ({ messages }) => messages[0]!.state === "failed");
    await bens.discard(messages[0]!.id);
    await bens.delete(messages[1]!.id);
    expect(bens.current.messages).toEqual([]);
  } finally {
    await other.stop();
  }
  const annas = opened(anna.conversation(c));
  await shows(annas, ({ status }) => status === "live");
  const { id } = await annas.send("mine");
  await shows(annas, ({ messages }) => messages[0]?.state === "sent");
  const stranger = opened(userOf("ben").conversation(c));
  await shows(stranger, ({ messages }) => messages.length === 1);
  const annasId = stranger.current.messages[0]!.id;
  const refused = { name: "ClientError", code: "forbidden" };
  await expect(stranger.edit(annasId, "not mine")).rejects.toMatchObject(refused);
  expect(stranger.current.messages[0]).toMatchObject({ content: "mine", state: "sent" });
  await stranger.delete(annasId);
  const failed = await shows(stranger, ({ messages }) => messages[0]!.state === "failed");
  expect(failed.messages[0]).toMatchObject({ error: { code: "forbidden" } });
  await stranger.discard(failed.messages[0]!.id);
  expect(stranger.current.messages[0]).toMatchObject({ content: "mine", state: "sent" });
  expect(annas.current.messages[0]).toMatchObject({ key: id, content: "mine" });
});

test("[MSG1] another device of the user shows the same, each message once", async () => {
  const c = fresh("c");
  const userId = fresh("anna");
  const [phone, laptop] = ["phone", "laptop"].map((deviceId) =>
    opened(chatter({ url: service.url, userId, deviceId }).client.conversation(c)),
  ) as [ReturnType<typeof opened<any>>, ReturnType<typeof opened<any>>];
  await Promise.all([phone, laptop].map((it) => shows<ConversationView>(it, ({ status }) => status === "live")));
  await Promise.all([phone.send("from the phone"), laptop.send("from the laptop"), phone.send("again")]);
  for (const it of [phone, laptop])
    await shows<ConversationView>(
      it,
      ({ messages }) => messages.length === 3 && messages.every(({ state }) => state === "sent"),
    );
  expect(textsOf(phone.current)).toEqual(textsOf(laptop.current));
  expect(phone.current.messages.every(({ isOwn }: { isOwn: boolean }) => isOwn)).toBeTrue();
  expect([phone.current.unread, laptop.current.unread]).toEqual([0, 0]);
});

test("[LOG8] one who comes later scrolls back to the beginning, without a gap", async () => {
  const { id: c, views } = await gather("anna");
  const count = 130;
  for (let n = 1; n <= count; n++) await views[0]!.send(`${n}`);
  await shows(
    views[0]!,
    ({ messages }) => messages.length === count && messages.every(({ state }) => state === "sent"),
  );
  const late = opened(userOf("ben").conversation(c));
  const first = await shows(late, ({ status, isLoadingOlder }) => status === "live" && !isLoadingOlder);
  const all = Array.from({ length: count }, (_, at) => `${at + 1}`);
  expect(textsOf(first)).toEqual(all.slice(-first.messages.length));
  expect(first.messages.length).toBeGreaterThanOrEqual(50);
  expect(first.hasOlder).toBeTrue();
  while (late.current.hasOlder) {
    // Asked twice at once it is one page.
    await Promise.all([late.loadOlder(), late.loadOlder()]);
    expect(textsOf(late.current)).toEqual(all.slice(-late.current.messages.length));
  }
  expect(late.current.messages).toHaveLength(count);
  await late.loadOlder();
  expect(late.current.messages).toHaveLength(count);
});

test("[MSG4] an event of the application's own is told by its type, with its data", async () => {
  const other = await startService({ settings: { EVENTS: "poll.vote=logged,recording=passing" } });
  try {
    interface Own {
      "poll.vote": { option: number };
      recording: { on: boolean };
    }
    const c = fresh("c");
    const { client: anna } = chatter<Own>({ url: other.url, userId: "anna" });
    const { client: ben } = chatter<Own>({ url: other.url, userId: "ben" });
    const views = [opened(anna.conversation(c)), opened(ben.conversation(c))];
    await Promise.all(views.map((it) => shows(it, ({ status }) => status === "live")));
    const told = new Promise<number>((resolve) => ben.on("poll.vote", ({ data }) => resolve(data.option)));
    const passing = new Promise<boolean>((resolve) => ben.on("recording", ({ data }) => resolve(data.on)));
    await anna.conversation(c).sendEvent("poll.vote", { option: 2 }, { clientEventId: "v1" });
    await anna.conversation(c).sendEvent("recording", { on: true });
    expect([await told, await passing]).toEqual([2, true]);
    const isUnknown = anna.conversation(c).sendEvent("unknown", {});
    await expect(isUnknown).rejects.toMatchObject({ code: "forbidden" });
  } finally {
    await other.stop();
  }
});

test("[SUB4] a conversation that was let go shows what is so when it is looked at again", async () => {
  const c = fresh("c");
  const [anna, ben] = [userOf("anna"), userOf("ben")];
  const annas = anna.conversation(c);
  for (let times = 0; times < 2; times++) annas.subscribe(() => {})();
  await Promise.all([annas, ben.conversation(c)].map((it) => shows(opened(it), ({ status }) => status === "live")));
  await ben.conversation(c).send("Hello!");
  await shows(annas, ({ messages }) => messages.length === 1);
  expect(anna.conversation(c)).toBe(annas);
});

test("[MSG1] what is shown is so also where nobody is told of it", async () => {
  const c = fresh("c");
  const { client: anna } = chatter({ url: service.url, userId: fresh("anna") });
  const view = anna.conversation(c);
  expect(view.current).toBe(view.current);
  expect(view.current.messages).toEqual([]);
  await view.send("pending");
  expect(view.current.messages).toMatchObject([{ content: "pending", state: "pending" }]);
  expect(view.current).toBe(view.current);
});

test("[MSG3] [ENV4] a reaction that is refused is not shown any more, and the application is told", async () => {
  const { views, clients } = await gather("anna");
  const [annas] = views as [(typeof views)[0]];
  const told = new Promise<unknown>((resolve) => clients[0]!.on("error", resolve));
  await annas.send("Lunch?");
  const { messages } = await shows(annas, ({ messages }) => messages[0]?.state === "sent");
  await annas.react(messages[0]!.id, "x".repeat(65));
  expect(annas.current.messages[0]!.reactions).toHaveLength(1);
  expect(await told).toMatchObject({ name: "ServerError", code: "invalid_payload", field: "payload.reaction" });
  await shows(annas, ({ messages }) => messages[0]!.reactions.length === 0);
});
