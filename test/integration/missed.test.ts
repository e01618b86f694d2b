/** Proves what a backend that pushes is told of: what has found no device of somebody's, once, over real sockets [BAK3]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { migrate } from "../../src/storage/postgres/migrate.ts";
import type { Client, Received } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { startPostgres } from "../support/postgres.ts";
import { type Service, startService } from "../support/service.ts";
import { signToken } from "../support/tokens.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

const missed = { topics: ["missed"] };
const uuid = () => crypto.randomUUID();
const numbered = (count: number, prefix = "m") => Array.from({ length: count }, (_, n) => `${prefix}${n + 1}`);
/** Each event that was missed with those who have missed it, as far as it has come. */
function toldTo(client: Pick<Client, "all">): Map<string, string[]> {
  const told = new Map<string, string[]>();
  for (const { payload } of client.all("delivery.missed"))
    told.set(payload.event_id, [...(told.get(payload.event_id) ?? []), ...payload.user_ids]);
  return told;
}

/** Where the log is, and how such a service is started. */
const engines: [name: string, start: () => Promise<{ url: string; stop(): Promise<void> }>][] = [
  ["SQLite", async () => ({ url: "sqlite:data/ws-service.db", stop: async () => {} })],
  [
    "PostgreSQL",
    async () => {
      const server = await startPostgres();
      const url = await server.newDatabase();
      await migrate({ url, lockTimeoutMs: 5_000 });
      return { url, stop: () => server.stop() };
    },
  ],
];

describe.each(engines)("%s", (_, start) => {
  let engine: { url: string; stop(): Promise<void> };
  let service: Service;
  beforeAll(async () => {
    engine = await start();
    service = await startService({ settings: { STORAGE__URL: engine.url, PUSH__AFTER: "400ms" } });
  });
  afterAll(async () => {
    await service?.stop();
    await engine?.stop();
  });
  const { connect, gather, backend } = createPeople(() => service.url);

  async function addMembers(conversationId: string, userIds: string[]): Promise<void> {
    const admin = await connect(fresh("root"), { roles: "admin" });
    await admin.ask("admin.users.upsert", { user_ids: userIds });
    await admin.ask("admin.members.add", { conversation_id: conversationId, user_ids: userIds });
  }

  /** A backend that is told of all that is missed from now on, and how to know that it has been told of all so far. */
  async function pusher(query: Record<string, string> = {}) {
    const client = await backend(query);
    await client.ask("subscribe", missed);
    /** Everything is decided in the order of the log: once this one is told of, so is what was before it. */
    async function settled(): Promise<Map<string, string[]>> {
      const nobody = fresh("nobody");
      const { published } = await client.ask("publish", { user_ids: [nobody], type: "notification", payload: {} });
      await client.next("delivery.missed", ({ topic }) => topic === published[0].topic);
      return toldTo(client);
    }
    return { client, settled };
  }

  const send = async (from: Client, c: string, content = "hello"): Promise<{ message_id: string; seq: number }> =>
    from.ask("message.send", { conversation_id: c, client_message_id: uuid(), content });

  test("[BAK3] a message is told of once for all who have no device; who is there, and the sender, miss nothing", async () => {
    const { client, settled } = await pusher();
    const c = fresh("c");
    const [ann, ben, cleo, dan] = ["ann", "ben", "cleo", "dan"].map(fresh) as [string, string, string, string];
    await addMembers(c, [ann, ben, cleo, dan]);
    const [from] = await gather(c, [ann, ben]);
    const { message_id, seq } = await send(from!, c);
    // The sender has gone by then.
    await from!.close();
    const event = await client.next("delivery.missed", ({ event_id }) => event_id === message_id);
    expect(event).toMatchObject({ topic: "missed" });
    expect(event.payload).toEqual({
      event_id: message_id,
      topic: `conversation:${c}`,
      seq,
      type: "message.new",
      user_ids: [cleo, dan].toSorted(),
      sender_id: ann,
    });
    expect((await settled()).get(message_id)).toEqual([cleo, dan].toSorted());
    // The event leads to what was said.
    const query = { topic: event.payload.topic, after_seq: event.payload.seq - 1, limit: 1 };
    expect((await client.ask("history", query)).events).toMatchObject([{ id: message_id }]);
  });

  test("[BAK3] whoever has read, received or acknowledged it by then, or joined after it, has not missed it", async () => {
    const { settled } = await pusher();
    const c = fresh("c");
    const ids = ["ann", "reader", "quiet", "receiver", "acker", "away"].map(fresh);
    const [ann, reader, quiet, receiver, acker, away] = ids as [string, string, string, string, string, string];
    await addMembers(c, ids);
    const from = await connect(ann);
    const devices = await Promise.all([reader, quiet, receiver, acker].map((id) => connect(id)));
    const [byReader, byQuiet, byReceiver, byAcker] = devices as [Client, Client, Client, Client];
    for (const device of devices) await device.ask("subscribe", { topics: [`conversation:${c}`] });
    const { message_id, seq } = await send(from, c);
    await Promise.all(devices.map((device) => device.next("message.new")));
    await byReader.ask("mark.read", { conversation_id: c, up_to_seq: seq });
    await byQuiet.ask("mark.read", { conversation_id: c, message_ids: [message_id], private: true });
    await byReceiver.ask("mark.delivered", { conversation_id: c, up_to_seq: seq });
    const { position } = (await byAcker.next("message.new")) as Required<Received>;
    await eventually(
      () => byAcker.ask("ping"),
      ({ cursor }) => Number.parseInt(cursor.split(".")[1], 36) >= position,
    );
    await byAcker.ask("ack", { cursor: (await byAcker.ask("ping")).cursor });
    const { message_id: next } = await send(from, c, "and this");
    await Promise.all(devices.map((device) => device.close()));
    const late = fresh("late");
    await addMembers(c, [late]);
    const told = await settled();
    expect(told.get(message_id)).toEqual([away]);
    expect(told.get(next)?.toSorted()).toEqual([reader, quiet, receiver, acker, away].toSorted());
  });

  test("[BAK3] a device in its grace is none, and one of several is enough", async () => {
    const { settled } = await pusher();
    const c = fresh("c");
    const [ann, ben, cleo] = ["ann", "ben", "cleo"].map(fresh) as [string, string, string];
    await addMembers(c, [ann, ben, cleo]);
    const from = await connect(ann);
    const [one, , broken] = await Promise.all([connect(ben), connect(ben), connect(cleo)]);
    await one.close();
    await broken.close(4000);
    const { message_id } = await send(from, c);
    expect((await settled()).get(message_id)).toEqual([cleo]);
  });

  test("[BAK3] [MSG2] a message that is deleted by then is told of to nobody, one that is edited or reacted to once", async () => {
    const { client, settled } = await pusher();
    const c = fresh("c");
    const [ann, ben, cleo] = ["ann", "ben", "cleo"].map(fresh) as [string, string, string];
    await addMembers(c, [ann, ben, cleo]);
    const [from, other] = (await gather(c, [ann, cleo])) as [Client, Client];
    const [{ message_id: deleted }, { message_id: kept }] = await Promise.all([send(from, c), send(from, c, "first")]);
    // At once: it must be gone before it is told of.
    await from.ask("message.delete", { conversation_id: c, message_id: deleted });
    await from.ask("message.edit", { conversation_id: c, message_id: kept, content: "second" });
    await other.ask("reaction.add", { conversation_id: c, message_id: kept, reaction: "👍" });
    const told = await settled();
    expect([told.get(deleted), told.get(kept)]).toEqual([undefined, [ben]]);
    // Deleted later, it was told of before.
    await from.ask("message.delete", { conversation_id: c, message_id: kept });
    await settled();
    const ofTopic = client.all("delivery.missed").filter(({ payload }) => payload.topic === `conversation:${c}`);
    expect(ofTopic.map(({ payload }) => payload.event_id)).toEqual([kept]);
  });

  test("[BAK3] notifications and missed calls are told of, what is the application's own is not", async () => {
    const { client, settled } = await pusher();
    const c = fresh("c");
    const [ann, ben] = ["ann", "ben"].map(fresh) as [string, string];
    await addMembers(c, [ann, ben]);
    const from = await connect(ann);
    const publish = (type: string) => client.ask("publish", { user_ids: [ben], type, payload: { title: "x" } });
    await publish("order.shipped");
    await publish("notification");
    const callId = uuid();
    await from.ask("call.offer", { call_id: callId, to_user_id: ben, conversation_id: c, media: "audio", sdp: "v=0" });
    await from.ask("call.hangup", { call_id: callId });
    await client.next("delivery.missed", ({ type, topic }) => type === "call.ended" && topic === `user:${ben}`);
    await settled();
    const ofBen = client.all("delivery.missed").filter(({ payload }) => payload.user_ids.includes(ben));
    expect(ofBen.map(({ payload }) => [payload.topic, payload.type, payload.sender_id])).toEqual([
      [`notifications:${ben}`, "notification", undefined],
      [`user:${ben}`, "call.ended", ann],
    ]);
  });

  test("[BAK3] [LOG6] a worker that comes back is sent what it has not acknowledged, in both formats", async () => {
    const { settled } = await pusher();
    const [worker, device_id] = [fresh("worker"), fresh("device")];
    const first = await connect(worker, { roles: "service", device_id });
    await first.ask("subscribe", missed);
    await first.ask("ack", { cursor: (await first.ask("ping")).cursor });
    await first.close();
    const c = fresh("c");
    const [ann, ben] = ["ann", "ben"].map(fresh) as [string, string];
    await addMembers(c, [ann, ben]);
    const from = await connect(ann);
    const ids = (await sendAll(from, c, numbered(20))).map(({ message_id }) => message_id);
    await settled();
    for (const protocol of Object.values(subprotocols)) {
      const query = { roles: "service", device_id };
      const back = await connect(worker, query, { protocols: [protocol] });
      const { topics } = await back.ask("subscribe", { ...missed, since: "acked" });
      expect(topics).toMatchObject([{ topic: "missed", recovered: true }]);
      const told = back.all("delivery.missed").filter(({ payload }) => payload.topic === `conversation:${c}`);
      expect(told.map(({ payload }) => payload.event_id)).toEqual(ids);
      await back.close();
    }
  });

  test("[BAK3] it is for backends alone, nobody else writes it, and it does not stand beside the log", async () => {
    const person = await connect(fresh("ann"));
    expect((await person.ask("subscribe", missed)).rejected).toEqual([{ topic: "missed", code: "forbidden" }]);
    expect((await person.request("history", { topic: "missed" })).payload.code).toBe("forbidden");
    const admin = await connect(fresh("root"), { roles: "admin" });
    expect((await admin.ask("subscribe", missed)).rejected).toEqual([{ topic: "missed", code: "forbidden" }]);
    const server = await backend();
    expect((await server.ask("subscribe", { topics: ["missed:ann", "missed"] })).rejected).toEqual([
      { topic: "missed:ann", code: "forbidden" },
    ]);
    expect(await server.ask("subscribe", missed)).toMatchObject({ topics: [{ topic: "missed" }] });
    const published = await server.request("publish", { topic: "missed", type: "app.note", payload: {} });
    expect(published.payload).toMatchObject({ code: "invalid_payload", field: "payload.topic" });
    // Under the names of its events others may be published elsewhere, and look alike.
    const call = { user_ids: ["ann"], type: "call.unreached", payload: { call_id: "c" } };
    const refused = await server.request("publish", call);
    expect(refused.payload).toMatchObject({ code: "invalid_payload", field: "payload.payload.from_user_id" });
    expect((await server.ask("subscribe", { topics: ["log"] })).rejected).toEqual([{ topic: "log", code: "conflict" }]);
    const reader = await backend();
    await reader.ask("subscribe", { topics: ["log"] });
    expect((await reader.ask("subscribe", missed)).rejected).toEqual([{ topic: "missed", code: "conflict" }]);
    const { subscribers, head } = await admin.ask("admin.topic", { topic: "missed" });
    expect([subscribers >= 1, head.seq >= 0]).toEqual([true, true]);
    // An administrator lets in those alone who may hear it.
    const user = fresh("ben");
    await connect(user);
    const { connections } = await admin.ask("admin.subscribe", { user_id: user, topics: ["missed"] });
    expect(connections).toMatchObject([{ topics: [], rejected: [{ topic: "missed", code: "forbidden" }] }]);
    for (const since of [{ cursor: "~" }, { cursor: "" }, { cursor: "x".repeat(65) }, 7, null])
      expect(["subscribed", "error"]).toContain((await server.request("subscribe", { ...missed, since })).type);
    expect(await server.ask("unsubscribe", missed)).toEqual({ topics: ["missed"] });
  });

  test("[BAK3] [ADM1] the figures say how far it is behind", async () => {
    const { settled } = await pusher();
    await settled();
    const admin = await connect(fresh("root"), { roles: "admin" });
    const { push } = await eventually(
      () => admin.ask("admin.stats"),
      (stats) => stats.push.behind === 0,
    );
    expect(push).toMatchObject({ on: 1, turn: 1, oldest_ms: 0 });
    expect(push.told).toBeGreaterThan(0);
    expect(push.users).toBeGreaterThanOrEqual(push.told);
  });

  test("[BAK3] a conversation of 2,500 is told of in parts, and thousands of messages come once each, in their order", async () => {
    const { client, settled } = await pusher();
    const [c, large] = [fresh("c"), fresh("c")];
    const [ann, ben] = ["ann", "ben"].map(fresh) as [string, string];
    await addMembers(c, [ann, ben]);
    const crowd = numbered(2_500, fresh("member-"));
    for (let at = 0; at < crowd.length; at += 500) await addMembers(large, [...crowd.slice(at, at + 500), ann]);
    const from = await connect(ann);
    const ids: string[] = [];
    for (let round = 0; round < 6; round++)
      ids.push(...(await sendAll(from, c, numbered(500))).map(({ message_id }) => message_id));
    const { message_id } = await send(from, large);
    const told = await settled();
    expect(told.get(message_id)?.toSorted()).toEqual(crowd.toSorted());
    const parts = client.all("delivery.missed").filter(({ payload }) => payload.event_id === message_id);
    expect(parts.map(({ payload }) => payload.user_ids.length)).toEqual([1_000, 1_000, 500]);
    const ofBen = client.all("delivery.missed").filter(({ payload }) => payload.topic === `conversation:${c}`);
    expect(ofBen.map(({ payload }) => payload.event_id)).toEqual(ids);
    expect(ofBen.every(({ payload }) => payload.user_ids.join() === ben)).toBe(true);
  });
});

describe("one service by itself", () => {
  const { connect } = createPeople(() => service.url);
  let service: Service;
  const settings = { PUSH__AFTER: "200ms" };

  async function conversationOf(members: string[]): Promise<string> {
    const c = fresh("c");
    const admin = await connect(fresh("root"), { roles: "admin" });
    await admin.ask("admin.users.upsert", { user_ids: members });
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: members });
    return c;
  }
  const worker = (since?: string) => async () => {
    const client = await connect("worker", { roles: "service", device_id: "worker" });
    await client.ask("subscribe", { ...missed, since });
    return client;
  };
  const ofTopic = (client: Client, c: string) =>
    client.all("delivery.missed").filter(({ payload }) => payload.topic === `conversation:${c}`);

  test("[BAK3] nothing is kept before somebody has asked for it; from then on all is, over a stop, a kill and a start", async () => {
    service = await startService({ settings });
    const c = await conversationOf(["ann", "ben"]);
    const before = await connect("ann");
    await sendAll(before, c, numbered(3, "before"));
    const first = await worker()();
    const admin = await connect("root", { roles: "admin" });
    const ids = (await sendAll(before, c, numbered(3))).map(({ message_id }) => message_id);
    await first.until(() => (ofTopic(first, c).length >= 3 ? true : undefined));
    expect((await admin.ask("admin.stats")).push.on).toBe(1);
    // Logged, and acknowledged to their sender, a moment before the end.
    ids.push(...(await sendAll(before, c, numbered(200))).map(({ message_id }) => message_id));
    const { folder } = service;
    await service.kill();
    service = await startService({ settings, folder });
    const ann = await connect("ann");
    ids.push(...(await sendAll(ann, c, numbered(50))).map(({ message_id }) => message_id));
    service.signal("SIGTERM");
    await service.exited;
    service = await startService({ settings, folder });
    const last = await worker("acked")();
    const told = await last.until(() => (ofTopic(last, c).length >= ids.length ? ofTopic(last, c) : undefined));
    expect(told.map(({ payload }) => payload.event_id)).toEqual(ids);
    await service.stop();
  });

  test("[BAK3] what was logged while no service ran to look at it is told of, however old it is", async () => {
    service = await startService({ settings: { PUSH__AFTER: "1h" } });
    const c = await conversationOf(["ann", "ben", "cleo"]);
    await worker()();
    const ann = await connect("ann");
    const [{ message_id }] = await sendAll(ann, c, ["hello"]);
    const { folder } = service;
    await service.kill();
    service = await startService({ settings: { PUSH__AFTER: "2s" }, folder });
    // Back before it is looked at.
    await connect("cleo");
    const back = await worker("acked")();
    const { payload } = await back.next("delivery.missed");
    expect(payload).toMatchObject({ event_id: message_id, user_ids: ["ben"] });
    await service.stop();
  });

  test("[BAK3] push.enabled: true begins with the start; false is silent, and what is missed meanwhile is nobody's", async () => {
    service = await startService({ settings: { ...settings, PUSH__ENABLED: "true" } });
    const { folder } = service;
    const c = await conversationOf(["ann", "ben"]);
    const [early] = await sendAll(await connect("ann"), c, ["early"]);
    const first = await worker("acked")();
    await first.next("delivery.missed", ({ event_id }) => event_id === early.message_id);
    await first.close();
    service.signal("SIGTERM");
    await service.exited;
    service = await startService({ settings: { ...settings, PUSH__ENABLED: "false" }, folder });
    const muted = await worker()();
    await sendAll(await connect("ann"), c, ["muted"]);
    const admin = await connect("root", { roles: "admin" });
    expect((await admin.ask("admin.stats")).push.on).toBe(0);
    expect(muted.all("delivery.missed")).toEqual([]);
    service.signal("SIGTERM");
    await service.exited;
    service = await startService({ settings: { ...settings, PUSH__ENABLED: "true" }, folder });
    const [late] = await sendAll(await connect("ann"), c, ["late"]);
    const last = await worker("acked")();
    await last.next("delivery.missed", ({ event_id }) => event_id === late.message_id);
    expect(ofTopic(last, c).map(({ payload }) => payload.event_id)).toEqual([early.message_id, late.message_id]);
    await service.stop();
  });

  test("[BAK3] [AUTH3] it ends with the role: a refresh without it leaves the topic, a grant of that name gives nobody any", async () => {
    const secret = "a secret of at least thirty-two bytes";
    service = await startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
    const token = (claims: object) => signToken({ sub: "robot", exp: Math.floor(Date.now() / 1_000) + 600, ...claims });
    const robot = await connect("robot", { token: await token({ roles: ["service"] }) });
    await robot.ask("subscribe", missed);
    await robot.ask("authenticate", { token: await token({ topics: ["missed"] }) });
    const { payload } = await robot.next("unsubscribed", ({ reason }) => reason === "access_revoked");
    expect(payload.topics).toEqual(["missed"]);
    expect((await robot.ask("subscribe", missed)).rejected).toEqual([{ topic: "missed", code: "forbidden" }]);
    await service.stop();
  });
});
