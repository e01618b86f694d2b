/** Proves what backends may publish, to whom it goes and what is kept of it, over real sockets. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());
const { connect, gather, backend } = createPeople(() => service.url);

const eventsOf = (client: Client, type: string) => client.all(type).map(({ payload }) => payload);

test("[PUB1] to a conversation: its subscribers get it, and it is logged", async () => {
  const c = fresh("c");
  const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
  const server = await backend();
  const payload = { poll: { options: ["a", "b"] }, closed: false };
  for (const target of [{ conversation_id: c }, { topic: `conversation:${c}` }]) {
    const { published } = await server.ask("publish", { ...target, type: "poll.opened", payload });
    expect(published).toEqual([{ topic: `conversation:${c}`, seq: expect.any(Number), position: expect.any(Number) }]);
    for (const member of [anna!, ben!]) {
      const { seq, position } = published[0];
      expect(await member.find((it) => it.position === position)).toEqual({
        id: expect.any(String),
        type: "poll.opened",
        topic: `conversation:${c}`,
        seq,
        position,
        timestamp: expect.any(String),
        payload,
      });
    }
  }
  const { events } = await anna!.ask("history", { topic: `conversation:${c}` });
  expect(events).toEqual(anna!.all("poll.opened"));
});

test("[PUB1] to users: each has it in its own topic, notifications among the notifications", async () => {
  const users = [fresh("anna"), fresh("ben")];
  const clients = await Promise.all(users.map((user) => connect(user)));
  const stranger = await connect(fresh("carl"));
  const server = await backend();
  const to = async (type: string, payload: object) =>
    (await server.ask("publish", { user_ids: [...users, users[0]!], type, payload })).published;
  expect((await to("order.paid", { order: 7 })).map(({ topic, seq }: any) => [topic, seq])).toEqual(
    users.map((user) => [`user:${user}`, 1]),
  );
  expect((await to("notification", { title: "hello" })).map(({ topic }: any) => topic)).toEqual(
    users.map((user) => `notifications:${user}`),
  );
  for (const [index, client] of clients.entries()) {
    expect(await client.next("order.paid")).toMatchObject({ topic: `user:${users[index]}`, payload: { order: 7 } });
    expect(await client.next("notification")).toMatchObject({ seq: 1, payload: { title: "hello" } });
  }
  await stranger.settled();
  expect(stranger.all("order.paid")).toEqual([]);
});

test("[PUB1] to 1,000 users at once, and not to more", async () => {
  const users = Array.from({ length: 1_000 }, (_, n) => `crowd${n}`);
  const [first, last] = await Promise.all([connect(users[0]!), connect(users[999]!)]);
  const server = await backend();
  const event = { type: "sale.started", payload: { percent: 20 } };
  const { published } = await server.ask("publish", { user_ids: users, ...event });
  expect(published.map(({ topic }: any) => topic)).toEqual(users.map((user) => `user:${user}`));
  expect(new Set(published.map(({ position }: any) => position)).size).toBe(1_000);
  await Promise.all([first.next("sale.started"), last.next("sale.started")]);
  const refused = await server.request("publish", { user_ids: [...users, "one more"], ...event });
  expect(refused.payload).toMatchObject({ code: "invalid_payload" });
});

test("[PUB1] to everyone: every connection but the publisher's, nothing is logged", async () => {
  const [anna, ben] = await Promise.all([connect(fresh("anna")), connect(fresh("ben"))]);
  const server = await backend();
  const payload = { text: "maintenance tonight" };
  const { published } = await server.ask("publish", { all: true, type: "system.notice", payload });
  expect(published).toEqual([{ topic: "all" }]);
  for (const client of [anna, ben]) {
    const event = await client.next("system.notice");
    expect(event.payload).toEqual(payload);
    expect(event.seq).toBeUndefined();
  }
  await server.settled();
  expect(server.all("system.notice")).toEqual([]);
  const refused = await server.request("publish", { all: true, logged: true, type: "system.notice", payload });
  expect(refused.payload).toMatchObject({ code: "invalid_payload", field: "payload.logged" });
});

test("[PUB1] to topics that are not logged: typing, presence, calls", async () => {
  const c = fresh("c");
  const [anna] = await gather(c, [fresh("anna")]);
  const { user_id } = (await anna!.next("connected")).payload;
  const server = await backend();
  const topics = [`typing:${c}`, `presence:${user_id}`, `calls:${user_id}`];
  await anna!.ask("subscribe", { topics });
  for (const topic of topics) {
    expect((await server.ask("publish", { topic, type: "app.hint", payload: { topic } })).published).toEqual([
      { topic },
    ]);
    const refused = await server.request("publish", { topic, type: "app.hint", payload: {}, logged: true });
    expect(refused.payload).toMatchObject({ code: "invalid_payload", field: "payload.logged" });
  }
  await anna!.settled();
  expect(eventsOf(anna!, "app.hint")).toEqual(topics.map((topic) => ({ topic })));
});

test("[PUB1] [LOG2] an event_key appends once per topic, whoever publishes", async () => {
  const c = fresh("c");
  const [anna] = await gather(c, [fresh("anna")]);
  const [server, other] = await Promise.all([backend(), backend()]);
  const event = { conversation_id: c, type: "order.paid", payload: { order: 7 }, event_key: "order-7" };
  const [first] = (await server.ask("publish", event)).published;
  expect(first).toMatchObject({ seq: 1, duplicate: false });
  for (const publisher of [server, other])
    expect((await publisher.ask("publish", event)).published).toEqual([{ ...first, duplicate: true }]);
  for (const change of [{ payload: { order: "changed" } }, { type: "order.sent" }]) {
    const { payload } = await other.request("publish", { ...event, ...change });
    expect(payload).toMatchObject({ code: "conflict", retryable: false, field: "payload.event_key" });
  }
  // With many targets the key counts for each of them.
  const users = [fresh("ben"), fresh("carl")];
  const many = { user_ids: users.slice(0, 1), type: "order.paid", payload: {}, event_key: "order-8" };
  await server.ask("publish", many);
  const { published } = await server.ask("publish", { ...many, user_ids: users });
  expect(published.map(({ duplicate }: any) => duplicate)).toEqual([true, false]);
  const [dora] = [fresh("dora")];
  const changed = { ...many, user_ids: [...users, dora], payload: { order: 8 } };
  const { payload } = await server.request("publish", changed);
  expect(payload).toMatchObject({ code: "conflict", message: expect.stringContaining(`user:${users[0]} and 1 more`) });
  // Users who had nothing under the key have it.
  expect((await server.ask("publish", { ...changed, user_ids: [dora] })).published[0].duplicate).toBe(true);
  await anna!.settled();
  expect(eventsOf(anna!, "order.paid")).toEqual([{ order: 7 }]);
});

test("[PUB1] except_device leaves one device out, live only", async () => {
  const c = fresh("c");
  const user = fresh("anna");
  const phoneId = fresh("phone");
  const phone = await connect(user, { device_id: phoneId });
  const laptop = await connect(user);
  for (const device of [phone, laptop]) await device.ask("subscribe", { topics: [`conversation:${c}`] });
  const server = await backend();
  for (const target of [{ conversation_id: c }, { user_ids: [user] }, { all: true }]) {
    await server.ask("publish", { ...target, type: "draft.saved", payload: {}, except_device: phoneId });
  }
  await Promise.all([phone.settled(), laptop.settled()]);
  expect(laptop.all("draft.saved")).toHaveLength(3);
  expect(phone.all("draft.saved")).toEqual([]);
  expect((await phone.ask("history", { topic: `conversation:${c}` })).events).toHaveLength(1);
});

test("[PUB1] logged: false is for whoever is there; seq does not move", async () => {
  const c = fresh("c");
  const [anna] = await gather(c, [fresh("anna")]);
  const server = await backend();
  const publish = async (logged?: boolean) =>
    (await server.ask("publish", { conversation_id: c, type: "cursor.moved", payload: { logged }, logged })).published;
  expect(await publish(false)).toEqual([{ topic: `conversation:${c}` }]);
  expect(await publish(true)).toMatchObject([{ seq: 1 }]);
  expect(await publish()).toMatchObject([{ seq: 2 }]);
  await anna!.settled();
  expect(anna!.all("cursor.moved").map(({ seq }) => seq)).toEqual([undefined, 1, 2]);
  expect((await anna!.ask("history", { topic: `conversation:${c}` })).events).toHaveLength(2);
});

test("[PUB1] only connections with the role service publish", async () => {
  const event = { all: true, type: "system.notice", payload: { text: "forged" } };
  const witness = await connect(fresh("witness"));
  for (const query of [undefined, { roles: "admin" }]) {
    const client = await connect(fresh("anna"), query);
    expect((await client.request("publish", event)).payload).toMatchObject({ code: "forbidden", retryable: false });
  }
  await witness.settled();
  expect(witness.all("system.notice")).toEqual([]);
  await (await connect(fresh("both"), { roles: "admin,service" })).ask("publish", event);
});

test("[PUB1] a publish names one target, a type of its own or one of ours, and an object", async () => {
  const good = { conversation_id: fresh("c"), type: "app.event", payload: {} };
  const wrong: [field: string, change: object][] = [
    ["topic", { topic: "user:u1" }],
    ["topic", { conversation_id: undefined }],
    ["topic", { conversation_id: undefined, topic: "everyone" }],
    ["topic", { conversation_id: undefined, topic: "conversation" }],
    ["all", { conversation_id: undefined, all: false }],
    ["type", { type: "Upper" }],
    ["type", { type: "1st" }],
    ["type", { type: `a${"b".repeat(64)}` }],
    ["type", { type: "subscribed" }],
    ["type", { type: "connected" }],
    ["payload", { payload: ["list"] }],
    ["payload", { payload: undefined }],
    ["event_key", { event_key: "" }],
  ];
  for (const [field, change] of wrong) {
    const server = await backend();
    const { payload } = await server.request("publish", { ...good, ...change });
    expect(payload).toMatchObject({ code: "invalid_payload", field: `payload.${field}` });
  }
  const server = await backend();
  for (const type of ["a", `a${"b".repeat(63)}`, "typing.start"]) {
    const payload = type === "typing.start" ? { user_id: "bot", expires_at: "2026-01-02T03:04:05.678Z" } : {};
    await server.ask("publish", { ...good, type, payload });
  }
});

test("[PUB1] the conversation need not stand in the payload, and another one is refused", async () => {
  const c = fresh("c");
  const [anna] = await gather(c, [fresh("anna")]);
  const server = await backend();
  const message = { message_id: fresh("m"), sender_id: "shop", content: "hello" };
  const said = { conversation_id: c, type: "message.new", payload: message };
  await server.ask("publish", said);
  expect(await anna!.next("message.new")).toMatchObject({ payload: { ...message, conversation_id: c } });
  // Said or not, it is the same.
  const again = { ...said, payload: { ...message, conversation_id: c } };
  expect((await server.ask("publish", again)).published[0]).toMatchObject({ duplicate: true });
  for (const type of ["message.new", "app.event"]) {
    for (const target of [{ conversation_id: c }, { topic: `conversation:${c}` }, { topic: `typing:${c}` }]) {
      const elsewhere = { ...target, type, payload: { ...message, conversation_id: "elsewhere" } };
      const { payload } = await server.request("publish", elsewhere);
      expect(payload).toMatchObject({ code: "invalid_payload", field: "payload.payload.conversation_id" });
    }
  }
});

test("[LOG2] [PUB1] the id of a message that a user has sent is not another one's in that conversation", async () => {
  const c = fresh("c");
  const [anna] = await gather(c, [fresh("anna")]);
  const [{ message_id }] = await sendAll(anna!, c, ["hello"]);
  const server = await backend();
  const payload = { message_id, sender_id: "shop", content: "hello" };
  const taken = await server.request("publish", { conversation_id: c, type: "message.new", payload });
  expect(taken.payload).toMatchObject({ code: "conflict", field: "payload.payload.message_id" });
  const elsewhere = await server.ask("publish", { conversation_id: fresh("c"), type: "message.new", payload });
  expect(elsewhere.published).toMatchObject([{ seq: 1, duplicate: false }]);
});

test("[PUB1] [REC1] a message's own id is one that receipts can name", async () => {
  const server = await backend();
  const message = { conversation_id: fresh("c"), sender_id: "robot", content: "hello" };
  for (const message_id of ["", "two words", "\0", "x".repeat(129)]) {
    const request = {
      conversation_id: message.conversation_id,
      type: "message.new",
      payload: { ...message, message_id },
    };
    expect((await server.request("publish", request)).payload).toMatchObject({
      code: "invalid_payload",
      field: "payload.payload.message_id",
    });
  }
});

test("[PUB1] receivers are the connections that heard it: not the sender's, not the device that is left out", async () => {
  const c = fresh("c");
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  const clients = await Promise.all([
    connect(anna, { device_id: "phone" }),
    connect(anna, { device_id: "laptop" }, { protocols: [subprotocols.protobuf] }),
    connect(ben),
  ]);
  const binary = { protocols: [subprotocols.protobuf] };
  const server = await connect(fresh("backend"), { roles: "service" }, binary);
  const publish = async (change: object): Promise<number> =>
    (await server.ask("publish", { conversation_id: c, type: "app.event", payload: {}, ...change })).receivers;
  expect(await publish({})).toBe(0);
  for (const client of [...clients, server])
    await client.ask("subscribe", { topics: [`conversation:${c}`, `typing:${c}`] });
  expect(await publish({})).toBe(3);
  expect(await publish({ logged: false })).toBe(3);
  expect(await publish({ except_device: "phone" })).toBe(2);
  expect(await publish({ except_device: "phone", logged: false })).toBe(2);
  expect(await publish({ except_device: "nobodys" })).toBe(3);
  const [sender] = await Promise.all([server.next("connected")]);
  expect(await publish({ except_device: sender.payload.device_id })).toBe(3);
  const typing = { conversation_id: undefined, topic: `typing:${c}` };
  expect(await publish(typing)).toBe(3);
  // Each of many users, on all of their devices; somebody who is not here is nobody.
  const users = { conversation_id: undefined, user_ids: [anna, ben, fresh("nobody")] };
  expect(await publish(users)).toBe(3);
  expect(await publish({ ...users, type: "notification", except_device: "laptop" })).toBe(2);
  expect(await publish({ ...users, user_ids: [sender.payload.user_id] })).toBe(0);
  // A duplicate is heard by nobody.
  const once = { event_key: fresh("key") };
  expect(await publish(once)).toBe(3);
  expect(await publish(once)).toBe(0);
  const everyone = { conversation_id: undefined, all: true };
  const all = await publish(everyone);
  expect(await publish({ ...everyone, except_device: "phone" })).toBe(all - 1);
  for (const client of clients) await client.settled();
  expect(clients.map((client) => client.all("app.event").length)).toEqual([8, 11, 11]);
  expect(server.all("app.event")).toEqual([]);
});

test("[PUB1] [TYP2] a published message ends its author's typing, logged or not", async () => {
  const c = fresh("c");
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  const [typist, other] = (await gather(c, [anna, ben])) as [Client, Client];
  for (const client of [typist, other]) await client.ask("subscribe", { topics: [`typing:${c}`] });
  const server = await backend();
  for (const [n, logged] of [false, true].entries()) {
    await typist.ask("typing.start", { conversation_id: c });
    await other.until(() => (other.all("typing.start").length > n ? true : undefined));
    await server.ask("publish", {
      conversation_id: c,
      type: "message.new",
      payload: { sender_id: anna, content: "x" },
      logged,
    });
    await other.until(() => (other.all("typing.stop").length > n ? true : undefined));
  }
});
