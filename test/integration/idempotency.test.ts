/** Proves that what is appended once under a key never stands for what somebody else says under theirs [LOG2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { Client } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());
const { connect, gather, backend } = createPeople(() => service.url);

test("[LOG2] [MSG1] users whose names go on where another's ends send messages of their own", async () => {
  const [c, name] = [fresh("c"), fresh("anna")];
  const [anna, other] = await gather(c, [name, `${name}:phone`]);
  const send = (client: typeof anna, client_message_id: string) =>
    client!.ask("message.send", { conversation_id: c, client_message_id, content: "hello" });
  const first = await send(anna, "phone:1");
  expect(await send(other, "1")).toMatchObject({ duplicate: false });
  expect(await send(anna, "phone:1")).toEqual({ ...first, duplicate: true });
});

test("[LOG2] [PUB1] so do events of topics", async () => {
  const [name, publisher] = [fresh("ben"), fresh("shop")];
  const ben = await connect(name);
  const phone = await connect(`${name}:phone`);
  const shop = await backend({ user_id: publisher });
  const send = (user: string, event_key: string) =>
    shop.ask("publish", { user_ids: [user], type: "order.paid", payload: {}, event_key });
  for (const [user, key] of [
    [name, "phone:1"],
    [`${name}:phone`, "1"],
  ] as const) {
    expect((await send(user, key)).published).toMatchObject([{ duplicate: false }]);
    expect((await send(user, key)).published).toMatchObject([{ duplicate: true }]);
  }
  for (const client of [ben, phone]) expect(await client.next("order.paid")).toMatchObject({ seq: 1 });
});

test("[LOG2] [REC2] so do receipts", async () => {
  const [c, user] = [fresh("c"), fresh("carl")];
  for (const [conversation, reader] of [
    [c, `x:${user}`],
    [`${c}:x`, user],
  ] as const) {
    const [anna, carl] = await gather(conversation, [fresh("anna"), reader]);
    await anna!.ask("message.send", { conversation_id: conversation, client_message_id: fresh("m"), content: "hello" });
    await carl!.ask("mark.read", { conversation_id: conversation, up_to_seq: 1 });
    expect(await anna!.next("message.read")).toMatchObject({ payload: { user_id: reader, up_to_seq: 1 } });
  }
});

test("[LOG2] [MSG1] a client_message_id is its user's and its conversation's", async () => {
  const [c, elsewhere] = [fresh("c"), fresh("c")];
  const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
  const send = (client: typeof anna, conversation_id: string) =>
    client!.ask("message.send", { conversation_id, client_message_id: "1", content: "forwarded" });
  const answers = [await send(anna, c), await send(anna, elsewhere), await send(ben, c)];
  expect(answers).toMatchObject([
    { topic: `conversation:${c}`, seq: 1, duplicate: false },
    { topic: `conversation:${elsewhere}`, seq: 1, duplicate: false },
    { topic: `conversation:${c}`, seq: 2, duplicate: false },
  ]);
});

test("[LOG2] [MSG1] something else under a client_message_id is a conflict, and nobody hears of it", async () => {
  const c = fresh("c");
  const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
  const client_message_id = fresh("m");
  const send = (content: unknown) => anna!.request("message.send", { conversation_id: c, client_message_id, content });
  const content = { text: "hello", parts: [{ kind: "text", at: 1 }] };
  // Pipelined: both may be in one batch.
  const [first, other] = await Promise.all([send(content), send("quite another text")]);
  expect(first.type).toBe("ack");
  expect(other.payload).toMatchObject({
    code: "conflict",
    retryable: false,
    field: "payload.client_message_id",
  });
  const said = { parts: [{ at: 1, kind: "text" }], text: "hello" };
  expect((await send(said)).payload).toEqual({ ...first.payload, duplicate: true });
  for (const change of [{ ...content, text: "Hello" }, { ...content, more: null }, {}, ""])
    expect((await send(change)).payload).toMatchObject({ code: "conflict" });
  await ben!.settled();
  const heard = ben!.received.filter(({ type }) => type === "message.new");
  expect(heard.map(({ payload }) => payload.content)).toEqual([content]);
});

test("[LOG2] [CON4] the same in the other format is the same", async () => {
  const [c, name] = [fresh("c"), fresh("anna")];
  const [anna] = await gather(c, [name]);
  const binary = await connect(name, {}, { protocols: [subprotocols.protobuf] });
  const content = { text: "naïve 🙂", list: [1, 2.5, -0.1, null, true, { b: "", a: [] }] };
  const message = { conversation_id: c, client_message_id: "1", content };
  const first = await anna!.ask("message.send", message);
  expect(await binary.ask("message.send", message)).toEqual({ ...first, duplicate: true });
  expect((await binary.request("message.send", { ...message, content: "else" })).payload.code).toBe("conflict");
});

test("[LOG2] [CALL6] a missed call is kept for each whom it was for, also under a call_id of before", async () => {
  const [c, carl] = [fresh("c"), fresh("carl")];
  const first = await startService();
  const people = [fresh("anna"), fresh("ben"), carl];
  const call_id = crypto.randomUUID();
  /** The caller hangs up while it rings. */
  const miss = async (on: Service, to_user_id: string) => {
    const devices = await Promise.all(people.map((user_id) => Client.connect(on.url, { query: { user_id } })));
    for (const device of devices) await device.ask("subscribe", { topics: [`conversation:${c}`] });
    await devices[0]!.ask("call.offer", { call_id, to_user_id, media: "audio", sdp: "offer" });
    await devices[0]!.ask("call.hangup", { call_id });
    const missed = await devices[people.indexOf(to_user_id)]!.find(({ topic }) => topic === `user:${to_user_id}`);
    expect(missed).toMatchObject({ type: "call.ended", payload: { call_id, reason: "cancelled" } });
    await Promise.all(devices.map((device) => device.close()));
  };
  await miss(first, people[1]!);
  // The calls of a node that is alone are forgotten with it, the keys of its log are not.
  await first.kill();
  const second = await startService({ folder: first.folder });
  await miss(second, carl);
  await second.stop();
});

test("[LOG2] [MSG1] [MSG4] what was taken before the configuration allowed no more of it is answered as the first time", async () => {
  const c = fresh("c");
  const sentUnder = (key: string): [type: string, payload: object][] => [
    ["message.send", { conversation_id: c, client_message_id: key, content: "hello" }],
    ["event.send", { conversation_id: c, type: "poll.vote", client_event_id: key, payload: {} }],
  ];
  const first = await startService({ settings: { EVENTS: "poll.vote=logged" } });
  const before = await Client.connect(first.url, { query: { user_id: "anna" } });
  const acks: object[] = [];
  for (const [type, payload] of sentUnder("1")) acks.push(await before.ask(type, payload));
  await first.kill();
  const second = await startService({ folder: first.folder, settings: { MESSAGES__ACCEPT: "false" } });
  const [anna, ben] = await Promise.all(
    ["anna", "ben"].map((user_id) => Client.connect(second.url, { query: { user_id } })),
  );
  for (const [index, [type, payload]] of sentUnder("1").entries()) {
    expect(await anna!.ask(type, payload)).toEqual({ ...acks[index], duplicate: true });
    expect((await ben!.request(type, payload)).payload.code).toBe("forbidden");
  }
  for (const [type, payload] of sentUnder("2"))
    expect((await anna!.request(type, payload)).payload.code).toBe("forbidden");
  await Promise.all([anna, ben].map((client) => client!.close()));
  await second.stop();
});
