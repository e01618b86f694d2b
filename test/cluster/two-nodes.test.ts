/** Two nodes as processes of their own, on one log and one Redis: what clients of one see of those of the other. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Redis } from "ioredis";
import { Client, type Received } from "../support/client.ts";
import { laySharedFile, type SharedFile } from "../support/ground.ts";
import { createPeople, fresh } from "../support/people.ts";
import type { Service } from "../support/service.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(60_000);

let ground: SharedFile;
let one: Service;
let other: Service;

const startNode = () =>
  ground.startNode({
    CLUSTER__HEARTBEAT: "200ms",
    CLUSTER__DEAD_AFTER: "1500ms",
    PRESENCE__OFFLINE_GRACE: "300ms",
    PRESENCE__MAX_DEVICES: "3",
  });

beforeAll(async () => {
  ground = await laySharedFile();
  one = await startNode();
  other = await startNode();
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop()]);
  await ground?.stop();
});

const here = createPeople(() => one.url);
const there = createPeople(() => other.url);

const isWhole = async (service: Service) =>
  ((await (await fetch(`${service.http}/health`)).json()) as { status: string }).status === "up";

/** Two members of a conversation, each on a node of its own. */
async function pair(query: { anna?: Record<string, string>; ben?: Record<string, string> } = {}) {
  const c = fresh("c");
  const ids = { anna: fresh("anna"), ben: fresh("ben") };
  const anna = await here.connect(ids.anna, query.anna);
  const ben = await there.connect(ids.ben, query.ben);
  const topics = [`conversation:${c}`, `typing:${c}`];
  for (const client of [anna, ben]) await client.ask("subscribe", { topics });
  return { c, ids, anna, ben };
}

const say = (from: Client, conversation_id: string, content: string) =>
  from.ask("message.send", { conversation_id, client_message_id: crypto.randomUUID(), content });
const isContent = (content: string) => (payload: { content?: unknown }) => payload.content === content;

test("[LOG3] [MSG1] messages cross between the nodes in order, once each", async () => {
  const { c, anna, ben } = await pair();
  for (let at = 0; at < 20; at++) await say(at % 2 ? anna : ben, c, `m${at}`);
  await Promise.all([anna.next("message.new", isContent("m18")), ben.next("message.new", isContent("m19"))]);
  const seqs = (client: Client) => client.all("message.new").map(({ seq }) => seq);
  // Each has the other's ten; its own are known to it by their acks [SUB6].
  expect(seqs(anna)).toEqual([1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
  expect(seqs(ben)).toEqual([2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
});

test("[TYP1] typing is seen on the other node", async () => {
  const { c, ids, anna, ben } = await pair();
  await anna.ask("typing.start", { conversation_id: c });
  expect((await ben.next("typing.start")).payload).toMatchObject({ user_id: ids.anna, conversation_id: c });
  await anna.ask("typing.stop", { conversation_id: c });
  await ben.next("typing.stop");
});

test("[TYP2] [PUB1] a message that a backend publishes on one node ends its author's typing on the other", async () => {
  const { c, ids, anna, ben } = await pair();
  const backend = await there.backend();
  await anna.ask("typing.start", { conversation_id: c });
  await ben.next("typing.start");
  const publish = (sender_id: string) =>
    backend.ask("publish", {
      conversation_id: c,
      type: "message.new",
      payload: { sender_id, content: "sent by REST" },
    });
  await publish(ids.ben);
  await publish(ids.anna);
  expect((await ben.next("typing.stop")).payload).toEqual({ user_id: ids.anna, conversation_id: c });
  for (const people of [here, there]) {
    const late = await people.connect(fresh("late"));
    const { topics } = await late.ask("subscribe", { topics: [`typing:${c}`] });
    expect(topics[0].snapshot).toEqual({ typing: [] });
  }
  expect(ben.all("typing.stop")).toHaveLength(1);
});

test("[TYP2] [PUB1] what a backend says on a typing topic makes nobody a typist on the other node", async () => {
  const { c, ids, anna, ben } = await pair();
  const backend = await here.backend();
  const topic = `typing:${c}`;
  await backend.ask("publish", { topic, type: "dictation", payload: { user_id: ids.ben, conversation_id: c } });
  await ben.next("dictation");
  const far = "2999-01-01T00:00:00.000Z";
  const elsewhere = { user_id: ids.ben, conversation_id: fresh("c"), expires_at: far };
  const refused = await backend.request("publish", { topic, type: "typing.start", payload: elsewhere });
  expect(refused.payload).toMatchObject({ code: "invalid_payload", field: "payload.payload.conversation_id" });
  await anna.ask("typing.start", { conversation_id: c });
  await ben.next("typing.start", ({ conversation_id }) => conversation_id === c);
  const typing = [{ user_id: ids.anna, conversation_id: c, expires_at: expect.any(String) }];
  const eve = await there.connect(fresh("eve"));
  expect((await eve.ask("subscribe", { topics: [topic] })).topics).toEqual([{ topic, snapshot: { typing } }]);
  expect(Date.parse(eve.all("subscribed").at(-1)!.payload.topics[0].snapshot.typing[0].expires_at)).toBeLessThan(
    Date.now() + 60_000,
  );
});

test("[PRE1] [PRE2] one is online on all nodes until the last device has gone", async () => {
  const { ids, anna, ben } = await pair();
  await anna.ask("subscribe", { topics: ["presence"], filters: { user_ids: [ids.ben] } });
  await ben.ask("presence.update", { status: "busy" });
  expect((await anna.next("presence.update")).payload).toMatchObject({ user_id: ids.ben, status: "busy" });
  const second = await here.connect(ids.ben);
  await ben.close();
  expect((await anna.ask("presence.query", { user_ids: [ids.ben] })).users[0].status).toBe("busy");
  expect(anna.all("presence.offline")).toEqual([]);
  await second.close();
  expect((await anna.next("presence.offline")).payload).toMatchObject({ user_id: ids.ben });
  await there.connect(ids.ben);
  await anna.next("presence.online", ({ user_id }) => user_id === ids.ben);
});

test("[CALL1] [CALL2] [CALL3] [CALL4] a call between the nodes; the callee's device elsewhere stops ringing", async () => {
  const { ids, anna, ben } = await pair();
  const elsewhere = await here.connect(ids.ben);
  const call_id = crypto.randomUUID();
  await anna.ask("call.offer", { call_id, to_user_id: ids.ben, media: "audio", sdp: "offer" });
  await Promise.all([ben.next("call.incoming"), elsewhere.next("call.incoming")]);
  const answers = await Promise.all(
    [ben, elsewhere].map((device) => device.request("call.answer", { call_id, sdp: "answer" })),
  );
  const codes = answers.map(({ type, payload }) => (type === "error" ? payload.code : type)).sort();
  expect(codes).toEqual(["ack", "call_already_answered"]);
  const [winner, loser] = answers[0]!.type === "ack" ? [ben, elsewhere] : [elsewhere, ben];
  await anna.next("call.answer");
  expect((await loser!.next("call.ended")).payload.reason).toBe("answered_elsewhere");
  await anna.ask("call.ice", { call_id, candidates: ["a"] });
  await winner!.next("call.ice");
  await winner!.ask("call.hangup", { call_id });
  expect((await anna.next("call.ended")).payload.reason).toBe("hangup");
});

test("[CALL4] what a node says of a call late, or twice, is not told again: neither its end nor that it rings", async () => {
  const recorder = new Redis(ground.redis.url);
  const operator = new Redis(ground.redis.url);
  const said: [channel: string, text: string][] = [];
  recorder.on("pmessage", (_, channel, text) => said.push([channel, text]));
  await recorder.psubscribe("ws:*:topic:calls:*");
  const { c, ids, anna, ben } = await pair({ anna: { device_id: "phone" } });
  const call_id = crypto.randomUUID();
  const ofCall = (device: Client) => [...device.all("call.incoming"), ...device.all("call.ended")].map(summary);
  const summary = ({ type, payload }: Received) => (payload.call_id === call_id ? type : "another call's");
  try {
    await anna.ask("call.offer", { call_id, to_user_id: ids.ben, media: "audio", sdp: "offer" });
    await ben.next("call.incoming");
    await ben.ask("call.answer", { call_id, sdp: "answer" });
    await anna.next("call.answer");
    await anna.ask("call.hangup", { call_id });
    await Promise.all([anna.next("call.ended"), ben.next("call.ended")]);
    await anna.close(1001);
    const moved = await there.connect(ids.anna, { device_id: "phone" });
    await moved.settled();
    const caller = await here.connect(fresh("caller"));
    await caller.ask("subscribe", { topics: [`conversation:${c}`] });
    for (const [channel, text] of said.splice(0)) await operator.publish(channel, text);
    // Waits until both have what is said after it on the same channels.
    for (const [at, device] of [moved, ben].entries()) {
      const offer = { call_id: crypto.randomUUID(), to_user_id: [ids.anna, ids.ben][at], media: "audio", sdp: "offer" };
      await caller.ask("call.offer", offer);
      await device.next("call.incoming", (payload) => payload.call_id === offer.call_id);
    }
    expect(ofCall(moved)).toEqual(["another call's"]);
    expect(ofCall(ben).sort()).toEqual(["another call's", "call.ended", "call.incoming"]);
  } finally {
    recorder.disconnect();
    operator.disconnect();
  }
});

test("[CALL5] [CALL7] a page that comes back on the other node finds its call; closing it there hangs up here", async () => {
  const { ids, anna, ben } = await pair({ ben: { device_id: "tab" } });
  const call_id = crypto.randomUUID();
  await anna.ask("call.offer", { call_id, to_user_id: ids.ben, media: "audio", sdp: "offer" });
  await ben.next("call.incoming");
  await ben.ask("call.answer", { call_id, sdp: "answer" });
  await anna.next("call.answer");
  await ben.close(1001);
  const back = await here.connect(ids.ben, { device_id: "tab" });
  const { topics } = (await back.next("subscribed")).payload;
  const { calls } = topics.find(({ topic }: { topic: string }) => topic === `calls:${ids.ben}`).snapshot;
  expect(calls).toMatchObject([{ call_id, state: "connecting", peer_user_id: ids.anna, media: "audio" }]);
  await back.settled();
  await back.ask("call.offer", { call_id, sdp: "anew" });
  await anna.next("call.offer");
  expect((await anna.request("call.offer", { call_id, sdp: "at once" })).payload.code).toBe("call_conflict");
  await back.close(1000);
  expect((await anna.next("call.ended")).payload).toMatchObject({ reason: "hangup", ended_by: ids.ben });
});

test("[CON3] the same device on the other node replaces the first", async () => {
  const { ids, anna } = await pair({ anna: { device_id: "phone" } });
  const again = await there.connect(ids.anna, { device_id: "phone" });
  expect((await anna.closed).code).toBe(4010);
  await again.settled();
});

test("[CON3] of a device's connections to both nodes at once, one lives", async () => {
  for (let round = 0; round < 30; round++) {
    const user = fresh("user");
    await Promise.all([here.connect(user), there.connect(user)]);
    const query = { user_id: user, device_id: "phone" };
    const both = await Promise.all([one, other].map(({ url }) => Client.open(url, { query })));
    const closed = await Promise.race(both.map(async (client) => ({ client, code: (await client.closed).code })));
    expect(closed.code).toBe(4010);
    await both.find((client) => client !== closed.client)!.settled();
    await Promise.all(both.map((client) => client.close()));
  }
});

test("[CON3] [ENV5] devices are counted over both nodes, and the longest silent one goes, wherever it is", async () => {
  const user = fresh("user");
  const devices = [await here.connect(user), await there.connect(user), await here.connect(user)];
  for (const client of [devices[0]!, devices[2]!]) await client.settled();
  const fourth = await here.connect(user);
  expect((await devices[1]!.closed).code).toBe(4012);
  // Several at once, on both nodes: as many go as are too many, and those who have just come stay.
  const late = await Promise.all([here.connect(user), there.connect(user), there.connect(user)]);
  for (const client of [devices[0]!, devices[2]!, fourth]) expect((await client.closed).code).toBe(4012);
  for (const client of late) await client.settled();
  const own = await late[0]!.ask("presence.query", { user_ids: [user] });
  expect(own.users[0].devices).toBe(3);
});

test("[PUB1] what is published to everyone reaches every node", async () => {
  const listener = await there.connect(fresh("user"));
  const backend = await here.backend();
  await backend.ask("publish", { all: true, type: "app.notice", payload: { text: "hello" } });
  expect((await listener.next("app.notice")).payload).toEqual({ text: "hello" });
});

test("[BAK2] the whole log comes on either node, whoever writes where, and goes on from a cursor of the other", async () => {
  const [feed, anna, ben] = [
    await here.backend(),
    await here.connect(fresh("anna")),
    await there.connect(fresh("ben")),
  ];
  const { cursor } = await feed.ask("subscribe", { topics: ["log"] });
  const conversations = [fresh("c"), fresh("c"), fresh("c")];
  const write = async (from: Client) => {
    const acks: { topic: string; seq: number; position: number }[] = [];
    for (let at = 0; at < 30; at++) acks.push(await say(from, conversations[at % 3]!, `m${at}`));
    return acks;
  };
  const acks = (await Promise.all([write(anna), write(ben)]))
    .flat()
    .sort((one, other) => one.position - other.position);
  // No client on this node hears the other's topics.
  const other = await there.backend();
  await other.ask("subscribe", { topics: ["log"], since: { cursor } });
  for (const client of [feed, other]) {
    const { topic, seq } = acks.at(-1)!;
    await client.find((it) => it.topic === topic && it.seq === seq);
    const places = client.all("message.new").map(({ topic, seq, position }) => ({ topic, seq, position }));
    expect(places).toEqual(acks.map(({ topic, seq, position }) => ({ topic, seq, position })));
  }
});

test("[LOG3] [BAK2] a feed begins in the middle of what comes on its backend's own topic from the other node, and all of it comes once", async () => {
  const user = fresh("robot");
  const shop = await there.backend();
  const { cursor } = await shop.ask("ping");
  const readers: Client[] = [];
  for (let at = 0; at < 40; at++) {
    const noted = shop.send("publish", { user_ids: [user], type: "app.note", payload: {} });
    // Every other one begins at the head, where its own topic may not have come as far on this node.
    if (at % 5 === 0) readers.push(await here.connect(user, { roles: "service", since: cursor }));
    const begun = readers[readers.length - 1]!;
    if (at % 5 === 2) begun.send("subscribe", { topics: ["log"], ...(at % 2 === 0 ? {} : { since: { cursor } }) });
    await shop.find(({ reply_to }) => reply_to === noted);
  }
  for (const reader of readers) {
    await reader.find(({ topic, seq }) => topic === `user:${user}` && seq === 40);
    const seqs = reader.received.filter(({ topic }) => topic === `user:${user}`).map(({ seq }) => seq);
    expect(seqs).toEqual(Array.from({ length: 40 }, (_, n) => n + 1));
  }
});

test("[PRE1] the users of a node that is killed go offline once; the others go on", async () => {
  const { c, ids, anna } = await pair();
  const watcher = await here.connect(fresh("watcher"));
  await watcher.ask("subscribe", { topics: [`conversation:${c}`] });
  await watcher.ask("subscribe", { topics: ["presence"], filters: { user_ids: [ids.anna, ids.ben] } });
  await other.kill();
  await watcher.next("presence.offline", ({ user_id }) => user_id === ids.ben);
  other = await startNode();
  await there.connect(ids.ben);
  await watcher.next("presence.online", ({ user_id }) => user_id === ids.ben);
  await say(anna, c, "still here");
  await watcher.next("message.new", isContent("still here"));
  const offline = watcher.all("presence.offline").map(({ payload }) => payload.user_id);
  expect(offline).toEqual([ids.ben]);
});

test("[LOG3] [END2] without Redis messages still cross, new people come and go, and afterwards all is as it was", async () => {
  const { c, ids, anna, ben } = await pair();
  await anna.ask("subscribe", { topics: ["presence"], filters: { user_ids: [ids.ben] } });
  await ground.redis.kill();
  await until(async () => !(await isWhole(one)));
  await say(anna, c, "through the log");
  await ben.next("message.new", isContent("through the log"));
  const late = await there.connect(fresh("late"));
  await late.ask("subscribe", { topics: [`conversation:${c}`] });
  await say(late, c, "from a newcomer");
  await anna.next("message.new", isContent("from a newcomer"));
  const leaving = await there.connect(fresh("leaving"));
  const leavingId = (await leaving.next("connected")).payload.user_id;
  await leaving.ask("subscribe", { topics: [`conversation:${c}`] });
  await leaving.close();

  await ground.redis.restart();
  await until(async () => (await isWhole(one)) && (await isWhole(other)));
  // Unavailable for as long as this node puts back what Redis has lost.
  const statusOf = async (userId: string) =>
    (await anna.request("presence.query", { user_ids: [userId] })).payload.users?.[0].status as string | undefined;
  await until(async () => (await statusOf(ids.ben)) === "online");
  await until(async () => (await statusOf(leavingId)) === "offline");
  await ben.ask("typing.start", { conversation_id: c });
  await anna.next("typing.start");
  await say(ben, c, "over the bus");
  await anna.next("message.new", isContent("over the bus"));
});
