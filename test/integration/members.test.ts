/** Proves that a change of membership, made by another process in the database, reaches live connections. */
import { Database } from "bun:sqlite";
import { afterAll, afterEach, beforeAll, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Client } from "../support/client.ts";
import { contentsOf, createPeople, fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
let database: Database;
beforeAll(async () => {
  service = await startService({ settings: { DIRECTORY__MODE: "managed" } });
});
afterAll(() => service.stop());
beforeEach(() => {
  // The application's own process: it knows nothing of the service but the tables.
  database = new Database(join(service.folder, "data/ws-service.db"));
  database.exec("PRAGMA busy_timeout = 5000");
});
afterEach(() => database.close());
const { connect } = createPeople(() => service.url);

function newUsers(...names: string[]): string[] {
  const ids = names.map(fresh);
  for (const id of ids) database.run("INSERT INTO users (user_id) VALUES (?)", [id]);
  return ids;
}
function add(conversation: string, ...users: string[]): void {
  for (const user of users)
    database.run("INSERT INTO members (conversation_id, user_id) VALUES (?, ?)", [conversation, user]);
}
function remove(conversation: string, user: string): void {
  database.run("DELETE FROM members WHERE conversation_id = ? AND user_id = ?", [conversation, user]);
}
const names = (payload: any): string[] =>
  payload.topics.map((it: any) => (typeof it === "string" ? it : it.topic)).sort();
const isAbout = (topic: string) => (payload: any) => names(payload).includes(topic);
const revoked = (client: Client, topic: string) => client.next("unsubscribed", isAbout(topic));

test("[SUB3] added while following all: subscribed without reply_to, and events flow", async () => {
  const [anna, ben] = newUsers("anna", "ben") as [string, string];
  const c = fresh("c");
  const [sender, follower, other] = await Promise.all([connect(anna), connect(ben), connect(ben)]);
  await sender.ask("subscribe", { topics: ["conversation", "presence"] });
  add(c, anna);
  await sender.next("subscribed", isAbout(`conversation:${c}`));
  await follower.ask("subscribe", { topics: ["conversation", "typing", "presence"] });
  await other.ask("subscribe", { topics: ["user"] });
  await sendAll(sender, c, ["before ben"]);
  add(c, ben);
  const told = await follower.next("subscribed", isAbout(`conversation:${c}`));
  expect(told.reply_to).toBeUndefined();
  expect(names(told.payload)).toEqual([`conversation:${c}`, `presence:${anna}`, `typing:${c}`].sort());
  expect(told.payload).toMatchObject({
    rejected: [],
    cursor: expect.any(String),
    topics: expect.arrayContaining([
      {
        topic: `conversation:${c}`,
        seq: 1,
        snapshot: expect.objectContaining({ read_seq: 1, delivered_seq: 1, unread: 0 }),
      },
      { topic: `presence:${anna}`, snapshot: { presence: { user_id: anna, status: "online" } } },
    ]),
  });
  // A user who follows the presence of all it shares something with gets the new member's, too.
  await sender.next("subscribed", isAbout(`presence:${ben}`));
  await sendAll(sender, c, ["welcome"]);
  await follower.next("message.new", ({ content }) => content === "welcome");
  await other.settled();
  expect(other.all("subscribed")).toHaveLength(2);
  expect(contentsOf(other)).toEqual([]);
});

test("[SUB3] presence of a conversation's members follows its membership", async () => {
  const [anna, ben, carl] = newUsers("anna", "ben", "carl") as [string, string, string];
  const c = fresh("c");
  add(c, anna, ben);
  const watcher = await connect(anna);
  await watcher.ask("subscribe", { topics: ["presence"], filters: { conversation_id: c } });
  add(c, carl);
  await watcher.next("subscribed", isAbout(`presence:${carl}`));
  remove(c, anna);
  const lost = await watcher.next("unsubscribed");
  expect(names(lost.payload)).toEqual([`presence:${ben}`, `presence:${carl}`].sort());
  add(c, anna);
  const back = (payload: any) => isAbout(`presence:${ben}`)(payload) && isAbout(`presence:${carl}`)(payload);
  await watcher.next("subscribed", back);
});

test("[SUB1] [SUB3] whoever is not in a conversation does not learn who comes into it", async () => {
  const [anna, ben, carl] = newUsers("anna", "ben", "carl") as [string, string, string];
  const [shared, foreign] = [fresh("c"), fresh("c")];
  add(shared, anna, carl);
  add(foreign, ben);
  const [outsider, insider] = await Promise.all([connect(anna), connect(ben)]);
  for (const client of [outsider, insider]) {
    await client.ask("subscribe", { topics: ["presence"], filters: { conversation_id: foreign } });
  }
  add(foreign, carl);
  await insider.next("subscribed", isAbout(`presence:${carl}`));
  await outsider.settled();
  expect(outsider.all("subscribed").filter(({ payload }) => isAbout(`presence:${carl}`)(payload))).toEqual([]);
  add(foreign, anna);
  // Together, or one by one where a node still looks at the first change when the second comes.
  for (const other of [ben, carl]) await outsider.next("subscribed", isAbout(`presence:${other}`));
});

test("[SUB3] removed: unsubscribed with access_revoked, and no events any more", async () => {
  const [anna, ben] = newUsers("anna", "ben") as [string, string];
  const [c, kept] = [fresh("c"), fresh("c")];
  add(c, anna, ben);
  add(kept, anna, ben);
  const clients = await Promise.all([connect(anna), connect(ben), connect(ben)]);
  const [sender, one, two] = clients as [Client, Client, Client];
  await one.ask("subscribe", { topics: ["conversation", "typing"] });
  await two.ask("subscribe", { topics: [`conversation:${c}`] });
  await sendAll(sender, c, ["for ben"]);
  remove(c, ben);
  expect(await revoked(one, `conversation:${c}`)).toMatchObject({
    payload: { topics: expect.arrayContaining([`typing:${c}`]), reason: "access_revoked" },
  });
  expect((await revoked(two, `conversation:${c}`)).payload).toEqual({
    topics: [`conversation:${c}`],
    reason: "access_revoked",
  });
  await sendAll(sender, c, ["without ben"]);
  await sendAll(sender, kept, ["still for ben"]);
  await Promise.all([one.settled(), two.settled()]);
  expect(contentsOf(one)).toEqual(["for ben", "still for ben"]);
  expect(contentsOf(two)).toEqual(["for ben"]);
  // Nor can it come in again, or read on, or write.
  const again = await one.ask("subscribe", { topics: [`conversation:${c}`], since: "acked" });
  expect(again).toMatchObject({ topics: [], rejected: [{ topic: `conversation:${c}`, code: "forbidden" }] });
  for (const [type, payload] of Object.entries({
    history: { topic: `conversation:${c}` },
    "message.send": { conversation_id: c, client_message_id: "late", content: "" },
    "typing.start": { conversation_id: c },
    "mark.read": { conversation_id: c, up_to_seq: 1 },
  })) {
    expect((await one.request(type, payload)).payload.code).toBe("forbidden");
  }
  await one.settled();
  expect(contentsOf(one)).toHaveLength(2);
});

test("[SUB3] [TYP2] whoever loses access types no more, subscribed or not", async () => {
  const [anna, ben] = newUsers("anna", "ben") as [string, string];
  for (const topics of [[], ["typing", "conversation"]]) {
    const c = fresh("c");
    add(c, anna, ben);
    const [watcher, typist] = await Promise.all([connect(anna), connect(ben)]);
    await watcher.ask("subscribe", { topics: [`typing:${c}`] });
    if (topics.length > 0) await typist.ask("subscribe", { topics });
    await typist.ask("typing.start", { conversation_id: c });
    await watcher.next("typing.start");
    remove(c, ben);
    expect((await watcher.next("typing.stop")).payload).toMatchObject({ user_id: ben, conversation_id: c });
    // Long before the time that the start had given it.
    const { expires_at } = (await watcher.next("typing.start")).payload;
    expect(Date.now()).toBeLessThan(Date.parse(expires_at));
  }
});

test("[SUB3] [PRE4] presence topics are recomputed: what no other conversation shares is lost, the rest stays", async () => {
  const [anna, ben, carl] = newUsers("anna", "ben", "carl") as [string, string, string];
  const [all, pair] = [fresh("c"), fresh("c")];
  add(all, anna, ben, carl);
  add(pair, anna, ben);
  const clients = await Promise.all([connect(anna), connect(ben), connect(carl)]);
  const [a, b, c] = clients as [Client, Client, Client];
  for (const client of clients) await client.ask("subscribe", { topics: ["presence"] });
  remove(all, anna);
  expect(names((await revoked(a, `presence:${carl}`)).payload)).toEqual([`presence:${carl}`]);
  expect(names((await revoked(c, `presence:${anna}`)).payload)).toEqual([`presence:${anna}`]);
  await a.ask("presence.update", { status: "busy" });
  await b.next("presence.update", ({ user_id }) => user_id === anna);
  await c.settled();
  expect(c.all("presence.update").filter(({ payload }) => payload.user_id === anna)).toEqual([]);
  expect(b.all("unsubscribed")).toEqual([]);
  const [view] = (await c.ask("presence.query", { user_ids: [anna] })).users;
  expect(view).toEqual({ user_id: anna, status: "offline" });
});

test("[SUB3] removed and added again within one moment: a member stays on the conversation", async () => {
  const [anna, ben] = newUsers("anna", "ben") as [string, string];
  const c = fresh("c");
  add(c, anna, ben);
  const [sender, follower] = await Promise.all([connect(anna), connect(ben)]);
  await follower.ask("subscribe", { topics: ["conversation"] });
  database.transaction(() => {
    remove(c, ben);
    add(c, ben);
  })();
  // The second change is heard after these: what is added later is told later.
  const later = fresh("c");
  add(later, ben);
  await follower.next("subscribed", ({ topics }) => JSON.stringify(topics).includes(`conversation:${later}`));
  await sendAll(sender, c, ["hello again"]);
  await follower.next("message.new");
  expect(follower.received.filter(({ type }) => type === "unsubscribed")).toEqual([]);
});
