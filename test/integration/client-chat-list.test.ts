/** Plays the client's list of conversations against the real service: what is unread, who types, who is here, who is a member. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "../../src/client/client.ts";
import { chatter, live, opened, shows, stopChatters } from "../support/chatters.ts";
import type { Client as RawClient } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService({ settings: { DIRECTORY__MODE: "managed" } });
});
afterEach(() => stopChatters());
afterAll(() => service.stop());

const people = createPeople(() => service.url);
let admin: RawClient;

const userOf = (userId: string, deviceId?: string) => chatter({ url: service.url, userId, deviceId }).client;

/** Users who share a conversation. */
async function gather(...prefixes: string[]): Promise<{ id: string; userIds: string[]; clients: Client[] }> {
  admin = await people.connect("root", { roles: "admin,service" });
  const id = fresh("c");
  const userIds = prefixes.map(fresh);
  await admin.ask("admin.users.upsert", { user_ids: userIds });
  await admin.ask("admin.members.add", { conversation_id: id, user_ids: userIds });
  return { id, userIds, clients: userIds.map((userId) => userOf(userId)) };
}

const add = (conversation_id: string, ...user_ids: string[]) =>
  admin.ask("admin.members.add", { conversation_id, user_ids });

test("[REC3] the list has the newest first, with its last message and how many are unread, and follows what happens", async () => {
  const { id, userIds, clients } = await gather("anna", "ben");
  const [anna, ben] = clients as [Client, Client];
  const other = fresh("c");
  await add(other, ...userIds);
  const list = opened(anna.conversations());
  await shows(list, ({ status, items }) => status === "live" && items.length === 2);
  await ben.conversation(id).send("one");
  await ben.conversation(id).send("two");
  const two = await shows(list, ({ items }) => items[0]?.unread === 2);
  expect(two.items[0]).toMatchObject({ id, lastMessage: { content: "two" }, mayWrite: true });
  await ben.conversation(other).send("three");
  const three = await shows(list, ({ items }) => items[0]?.id === other && items[0].unread === 1);
  expect(three.items[1]).toBe(two.items[0]!);
  // Of a message that waits to be sent the list says so as well.
  await anna.conversation(id).send("mine");
  expect(list.current.items[0]).toMatchObject({ id, lastMessage: { content: "mine", state: "pending" } });
  await shows(list, ({ items }) => items[0]!.lastMessage!.state === "sent");
  const late = opened(userOf(userIds[0]!, "late").conversations());
  const shown = await shows(late, ({ status, items }) => status === "live" && items[0]?.unread === 2);
  expect(shown.items.map(({ id, unread }) => [id, unread])).toEqual([
    [id, 2],
    [other, 1],
  ]);
});

test("[REC3] a last message that the snapshot leaves out for its size is asked for, also where nobody looks at the conversation", async () => {
  const { id, userIds, clients } = await gather("anna", "ben");
  const [, ben] = clients as [Client, Client];
  const long = "x".repeat(70_000);
  await ben.start();
  await ben.request("message.send", { conversation_id: id, client_message_id: "1", content: "before" });
  await ben.request("message.send", { conversation_id: id, client_message_id: "2", content: long });
  const list = opened(userOf(userIds[0]!, "late").conversations());
  const shown = await shows(list, ({ status, items }) => status === "live" && items[0]?.lastMessage != null);
  expect(shown.items[0]).toMatchObject({ id, unread: 2, lastMessage: { content: long } });
});

test("[REC1] [REC2] what arrives is delivered, what is read is read: ticks, and unread on all devices, also offline at once", async () => {
  const { id, userIds, clients } = await gather("anna", "ben");
  const [anna, ben] = clients as [Client, Client];
  const annas = opened(anna.conversation(id));
  await shows(annas, ({ status }) => status === "live");
  await annas.send("one");
  await annas.send("two");
  const bens = opened(ben.conversation(id));
  const tablet = opened(userOf(userIds[1]!, "tablet").conversations());
  await shows(bens, ({ unread }) => unread === 2);
  await shows(tablet, ({ items }) => items[0]?.unread === 2);
  const [, two] = annas.current.messages;
  await shows(annas, () => annas.receiptsOf(two!).delivered.length === 1);
  expect(annas.receiptsOf(two!)).toEqual({ delivered: [userIds[1]!], read: [] });
  bens.markRead(1);
  expect(bens.current.unread).toBe(1);
  bens.markRead();
  expect(bens.current).toMatchObject({ unread: 0, readSeq: 2 });
  await shows(annas, () => annas.receiptsOf(two!).read.length === 1);
  await shows(tablet, ({ items }) => items[0]?.unread === 0);
  // One message comes after that was read.
  await annas.send("three");
  await shows(bens, ({ unread }) => unread === 1);
  bens.markRead(undefined, { private: true });
  await shows(tablet, ({ items }) => items[0]?.unread === 0 && items[0].lastMessage?.content === "three");
  await annas.send("four");
  await shows(tablet, ({ items }) => items[0]?.unread === 1);
  expect(annas.receiptsOf(annas.current.messages[2]!).read).toEqual([]);
});

test("[REC3] how many are unread is asked where a message is deleted that is not here", async () => {
  const { id, clients, userIds } = await gather("anna", "ben");
  const [anna, ben] = clients as [Client, Client];
  const annas = opened(anna.conversation(id));
  for (const text of ["one", "two", "three"]) await annas.send(text);
  await shows(annas, ({ messages }) => messages.length === 3 && messages.every(({ state }) => state === "sent"));
  // Only the last one is here.
  const list = opened(ben.conversations());
  await shows(list, ({ items }) => items[0]?.unread === 3);
  await annas.delete(annas.current.messages[1]!.id);
  await shows(list, ({ items }) => items[0]?.unread === 2);
  // Another device reads a part of what was counted.
  const phone = await people.connect(userIds[1]!, { device_id: "phone" });
  await phone.ask("mark.read", { conversation_id: id, up_to_seq: 1 });
  await shows(list, ({ items }) => items[0]?.unread === 1);
});

test("[TYP1] [TYP2] who types is shown, in the list as well, until a message, a stop or the end", async () => {
  const { id, userIds, clients } = await gather("anna", "ben");
  const [anna, ben] = clients as [Client, Client];
  const [annas, list] = [opened(anna.conversation(id)), opened(anna.conversations())];
  await shows(annas, ({ status }) => status === "live");
  await shows(list, ({ status }) => status === "live");
  await live(ben);
  const bens = ben.conversation(id);
  bens.typing.keystroke();
  await shows(annas, ({ typing }) => typing[0] === userIds[1]);
  await shows(list, ({ items }) => items[0]?.typing[0] === userIds[1]);
  bens.typing.stop();
  await shows(annas, ({ typing }) => typing.length === 0);
  bens.typing.keystroke();
  await shows(annas, ({ typing }) => typing.length === 1);
  // One who comes now is told of it.
  const late = opened(userOf(userIds[0]!, "late").conversation(id));
  await shows(late, ({ typing }) => typing[0] === userIds[1]);
  await bens.send("done");
  for (const it of [annas, late])
    await shows(it, ({ typing, messages }) => typing.length === 0 && messages.length === 1);
  bens.typing.keystroke();
  await shows(annas, ({ typing }) => typing.length === 1);
  ben.stop();
  await shows(annas, ({ typing }) => typing.length === 0);
});

test("[PRE1] [PRE2] [PRE5] who is here, and how", async () => {
  const { userIds, clients } = await gather("anna", "ben");
  const [anna, ben] = clients as [Client, Client];
  const [, benId] = userIds as [string, string];
  const presence = opened(anna.presence([benId, "stranger"]));
  await live(ben);
  await shows(
    presence,
    (shown) => shown.get(benId)?.status === "online" && shown.get("stranger")?.status === "offline",
  );
  await ben.setPresence({ status: "busy", statusText: "In a meeting" });
  const busy = await shows(presence, (shown) => shown.get(benId)?.status === "busy");
  expect(busy.get(benId)).toEqual({ status: "busy", statusText: "In a meeting", statusEmoji: null, lastSeen: null });
  ben.stop();
  const gone = await shows(presence, (shown) => shown.get(benId)?.status === "offline");
  expect(gone.get(benId)!.lastSeen).toBeString();
});

test("[MEM1] [SUB3] members come and go, and who joins later has the conversation in the list by itself", async () => {
  const { id, userIds, clients } = await gather("anna", "ben");
  const [anna, ben] = clients as [Client, Client];
  const annas = opened(anna.conversation(id));
  await annas.send("before");
  expect([...(await annas.loadMembers())].sort()).toEqual([...userIds].sort());
  const carl = fresh("carl");
  await admin.ask("admin.users.upsert", { user_ids: [carl] });
  const carls = opened(userOf(carl).conversations());
  await shows(carls, ({ status, items }) => status === "live" && items.length === 0);
  await add(id, carl);
  await shows(annas, ({ members }) => members?.length === 3);
  const [item] = (await shows(carls, ({ items }) => items.length === 1)).items;
  expect(item).toMatchObject({ id, unread: 0, lastMessage: { content: "before" } });
  await admin.ask("admin.members.remove", { conversation_id: id, user_ids: [userIds[1]!] });
  await shows(annas, ({ members }) => members?.length === 2);
  expect(ben.state.status).toBe("live");
});

test("[SUB3] who is removed has it no more in the list, and its page says so, also when the removal came while away", async () => {
  const { id, userIds, clients } = await gather("anna", "ben");
  const [anna, ben] = clients as [Client, Client];
  await anna.conversation(id).send("for members");
  const [list, bens] = [opened(ben.conversations()), opened(ben.conversation(id))];
  await shows(list, ({ items }) => items[0]?.lastMessage?.content === "for members");
  await shows(bens, ({ messages }) => messages.length === 1);
  await admin.ask("admin.members.remove", { conversation_id: id, user_ids: [userIds[1]!] });
  await shows(list, ({ items }) => items.length === 0);
  const removed = await shows(bens, ({ status }) => status === "removed");
  expect(removed).toMatchObject({ messages: [], mayWrite: false, hasOlder: false });
  await add(id, userIds[1]!);
  await shows(list, ({ items }) => items.length === 1);
  await shows(bens, ({ status }) => status === "live");
  ben.stop();
  await admin.ask("admin.members.remove", { conversation_id: id, user_ids: [userIds[1]!] });
  ben.start();
  await shows(bens, ({ status }) => status === "removed");
  await shows(list, ({ items }) => items.length === 0);
  // One that is not the user's looks as one that is not there.
  const nobodys = opened(ben.conversation(fresh("c")));
  await shows(nobodys, ({ status }) => status === "removed");
});

test("[MSG5] who is kept from writing sees that, and when that ends", async () => {
  const { id, userIds, clients } = await gather("anna");
  const annas = opened(clients[0]!.conversation(id));
  await shows(annas, ({ status, mayWrite }) => status === "live" && mayWrite);
  const mute = (may_write: boolean) =>
    admin.ask("admin.members.update", { conversation_id: id, user_id: userIds[0]!, may_write });
  await mute(false);
  await shows(annas, ({ mayWrite }) => !mayWrite);
  await annas.send("muted");
  await shows(annas, ({ messages }) => messages[0]?.error?.code === "forbidden");
  const late = opened(userOf(userIds[0]!, "late").conversation(id));
  await shows(late, ({ status, mayWrite }) => status === "live" && !mayWrite);
  await mute(true);
  await shows(annas, ({ mayWrite }) => mayWrite);
  await annas.retry(annas.current.messages[0]!.id);
  await shows(late, ({ messages }) => messages[0]?.content === "muted");
});
