/** Proves what clients of three nodes see while Redis, PostgreSQL, a link or a node is away, and once it is back. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { openStage, type Stage, type StageNode } from "../support/faults/stage.ts";
import { fresh } from "../support/people.ts";
import { eventually, until } from "../support/until.ts";

setDefaultTimeout(60_000);

/** The application's own tables, which the service only sees through views and triggers [PUB3]. */
const application = `
  CREATE SCHEMA app;
  CREATE TABLE app.accounts (name text PRIMARY KEY, banned_at timestamptz);
  CREATE TABLE app.room_members (room text, account text, PRIMARY KEY (room, account));
  CREATE VIEW app.ws_users AS SELECT name AS user_id, banned_at IS NOT NULL AS disabled FROM app.accounts;
  CREATE VIEW app.ws_members AS SELECT room AS conversation_id, account AS user_id FROM app.room_members;
  CREATE TRIGGER ws_membership AFTER INSERT OR UPDATE OR DELETE ON app.room_members
    FOR EACH ROW EXECUTE FUNCTION ws.notify_membership_changed('room', 'account');
  CREATE TRIGGER ws_user AFTER INSERT OR DELETE OR UPDATE OF banned_at ON app.accounts
    FOR EACH ROW EXECUTE FUNCTION ws.notify_user_changed('name')`;

let stage: Stage;
let n1: StageNode;
let n2: StageNode;
let n3: StageNode;
const clients: Client[] = [];
beforeAll(async () => {
  stage = await openStage({
    sql: application,
    settings: { DIRECTORY__MODE: "managed", DIRECTORY__USERS: "app.ws_users", DIRECTORY__MEMBERS: "app.ws_members" },
  });
  [n1, n2, n3] = stage.nodes as [StageNode, StageNode, StageNode];
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
});
afterAll(() => stage?.stop());

async function addUsers(...prefixes: string[]): Promise<string[]> {
  const ids = prefixes.map(fresh);
  await stage.sql(`INSERT INTO app.accounts (name) VALUES ${ids.map((id) => `('${id}')`).join(",")}`);
  return ids;
}

async function addMembers(room: string, ids: string[]): Promise<void> {
  await stage.sql(`INSERT INTO app.room_members VALUES ${ids.map((id) => `('${room}', '${id}')`).join(",")}`);
}

async function connect(node: StageNode, userId: string, query: Record<string, string> = {}): Promise<Client> {
  const client = await Client.connect(node.url, { query: { user_id: userId, ...query }, patienceMs: 30_000 });
  clients.push(client);
  return client;
}

/** Members of a new conversation, live on it and on each other, each on the node given. */
async function gather(...nodes: StageNode[]) {
  const room = fresh("room");
  const ids = await addUsers(...nodes.map((_, at) => `user${at + 1}-`));
  await addMembers(room, ids);
  const members = await Promise.all(nodes.map((node, at) => connect(node, ids[at]!)));
  // Redis may have been empty a moment ago: nothing is known of anybody until every node has put back its own.
  for (const member of members)
    await eventually(
      () => member.request("presence.query", { user_ids: ids }),
      ({ type }) => type !== "error",
    );
  const topics = ["conversation", "typing", "presence"];
  for (const member of members) await member.ask("subscribe", { topics, filters: { conversation_id: room } });
  return { room, ids, members };
}

const message = (room: string, content: string) => ({
  conversation_id: room,
  client_message_id: crypto.randomUUID(),
  content,
});
const isContent = (content: string) => (payload: { content?: unknown }) => payload.content === content;
const isOf = (userId: string) => (payload: { user_id?: unknown }) => payload.user_id === userId;
const offer = (to: string, room: string) => ({
  call_id: crypto.randomUUID(),
  to_user_id: to,
  conversation_id: room,
  media: "audio",
  sdp: "offer",
});
const noneWhole = () => until(async () => !(await Promise.all(stage.nodes.map((it) => it.isWhole()))).some(Boolean));

/** Sends again with the same key for as long as that is what the answer asks for [LOG2]. */
async function sendUntilTaken(from: Client, sent: ReturnType<typeof message>): Promise<any> {
  for (;;) {
    const reply = await from.request("message.send", sent);
    if (reply.type === "ack") return reply.payload;
    expect(reply.payload).toMatchObject({ code: "unavailable", retryable: true });
  }
}

test("[LOG3] [LOG4] [CALL] [PRE4] without Redis the log delivers, calls are unavailable, presence is what a node knows", async () => {
  const { room, ids, members } = await gather(n1, n2, n3);
  const [anna, ben, eve] = members as [Client, Client, Client];
  await stage.redis[0]!.kill();
  await noneWhole();
  for (const node of stage.nodes) expect((await fetch(`${node.service().http}/ready`)).status).toBe(200);
  for (let at = 0; at < 10; at++) await (at % 2 ? ben : anna).ask("message.send", message(room, `m${at}`));
  await eve.next("message.new", isContent("m9"));
  expect(eve.all("message.new").map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  const refused = await anna.request("call.offer", offer(ids[1]!, room));
  expect(refused).toMatchObject({ type: "error", payload: { code: "unavailable", retryable: true } });
  const { users } = await anna.ask("presence.query", { user_ids: [ids[0]] });
  expect(users).toMatchObject([{ user_id: ids[0], status: "online" }]);
  const { cursor } = await eve.ask("ping");

  await stage.redis[0]!.restart();
  await stage.whole();
  await ben.ask("typing.start", { conversation_id: room });
  await Promise.all([anna, eve].map((it) => it.next("typing.start")));
  await anna.ask("message.send", message(room, "after"));
  await eve.next("message.new", isContent("after"));
  // The cursor that was given meanwhile holds on every node: after it there is this one message.
  const back = await connect(n1, ids[2]!);
  await back.ask("subscribe", { topics: [`conversation:${room}`], since: { cursor } });
  expect(back.all("message.new").map(({ payload }) => payload.content)).toEqual(["after"]);
  expect(eve.all("message.new").map(({ seq }) => seq)).toEqual(Array.from({ length: 11 }, (_, at) => at + 1));
});

test("[PRE4] [PRE5] without Redis nobody on another node is said to be offline since some time, and the truth is told after", async () => {
  const { ids, members } = await gather(n1, n2);
  const [anna, ben] = members as [Client, Client];
  const [annaId, benId] = ids as [string, string];
  // Once seen, so that there is a moment of it to be told.
  await ben.close();
  await anna.next("presence.offline", isOf(benId));
  await connect(n2, benId);
  await anna.next("presence.online", isOf(benId));
  await stage.redis[0]!.kill();
  await noneWhole();

  const refused = await anna.request("presence.query", { user_ids: [annaId, benId] });
  expect(refused).toMatchObject({ type: "error", payload: { code: "unavailable", retryable: true } });
  const { users } = await anna.ask("presence.query", { user_ids: [annaId] });
  expect(users).toEqual([{ user_id: annaId, status: "online" }]);
  // A user who is shown here is shown so to everybody here; of one of whom nothing is known there is nothing to be said.
  const topic = `presence:${benId}`;
  const [beside, late] = [await connect(n1, annaId), await connect(n3, annaId)];
  const snapshotFor = async (client: Client) => (await client.ask("subscribe", { topics: [topic] })).topics;
  const snapshot = (status: string) => [{ topic, snapshot: { presence: { user_id: benId, status } } }];
  expect([await snapshotFor(beside), await snapshotFor(late)]).toEqual([snapshot("online"), snapshot("offline")]);

  await stage.redis[0]!.restart();
  await late.next("presence.online", isOf(benId));
  const known = await eventually(
    () => late.request("presence.query", { user_ids: [benId] }),
    ({ type }) => type !== "error",
  );
  expect(known.payload.users).toEqual([{ user_id: benId, status: "online" }]);
  await stage.whole();
});

test.skipIf(process.env.TEST_DATABASE_URL !== undefined)(
  "[LOG1] [LOG2] [TYP1] [CALL3] [PRE2] [END2] without PostgreSQL what is logged waits for its sender, what is not goes on",
  async () => {
    const { room, ids, members } = await gather(n1, n2);
    const [anna, ben] = members as [Client, Client];
    const call = offer(ids[1]!, room);
    // Redis was empty a moment ago: calls are refused until every node has put back its own.
    await eventually(
      () => anna.request("call.offer", call),
      ({ payload }) => payload.code !== "unavailable",
    );
    await ben.next("call.incoming");
    const before = message(room, "before");
    await anna.ask("message.send", before);
    await stage.postgres.halt();
    const sent = message(room, "meanwhile");
    const refused = await anna.request("message.send", sent);
    expect(refused.payload).toMatchObject({ code: "unavailable", retryable: true });

    await anna.ask("typing.start", { conversation_id: room });
    await ben.next("typing.start", isOf(ids[0]!));
    await ben.ask("call.answer", { call_id: call.call_id, sdp: "answer" });
    await anna.next("call.answer");
    await anna.ask("call.ice", { call_id: call.call_id, candidates: ["a"] });
    await ben.next("call.ice");
    await anna.ask("call.hangup", { call_id: call.call_id });
    await ben.next("call.ended");
    await noneWhole();
    for (const node of stage.nodes) {
      expect((await fetch(`${node.service().http}/ready`)).status).toBe(503);
      expect((await fetch(`${node.service().http}/live`)).status).toBe(200);
    }

    const taken = sendUntilTaken(anna, sent);
    await stage.postgres.resume();
    expect(await taken).toMatchObject({ seq: 2, duplicate: false });
    expect(await sendUntilTaken(anna, before)).toMatchObject({ seq: 1, duplicate: true });
    await ben.next("message.new", isContent("meanwhile"));
    expect(ben.all("message.new").map(({ seq }) => seq)).toEqual([1, 2]);
    await stage.whole();
  },
);

test("[END2] [LOG3] a node whose link to Redis is frozen half-open is degraded, serves by the log, and recovers", async () => {
  const { room, members } = await gather(n1, n2);
  const [anna, ben] = members as [Client, Client];
  n2.toRedis[0]!.link.freeze();
  await until(async () => !(await n2.isWhole()));
  expect(await n1.isWhole()).toBe(true);
  await anna.ask("message.send", message(room, "through the log"));
  await ben.next("message.new", isContent("through the log"));
  n2.toRedis[0]!.link.heal();
  await stage.whole();
  await ben.ask("typing.start", { conversation_id: room });
  await anna.next("typing.start");
});

test("[CON3] late word of a device that was replaced does not close the connection that came after", async () => {
  const [user] = await addUsers("user");
  const query = { device_id: "phone" };
  const first = await connect(n2, user!, query);
  n1.toRedis[0]!.link.delay(150);
  const second = await connect(n1, user!, query);
  // While the node of the second still tells of the first.
  const third = await connect(n2, user!, query);
  expect([(await first.closed).code, (await second.closed).code]).toEqual([4010, 4010]);
  n1.toRedis[0]!.link.heal();
  await third.settled();
  expect((await third.ask("presence.query", { user_ids: [user] })).users).toMatchObject([{ devices: 1 }]);
});

test("[CON3] a device that moved while its old node heard nothing is connected once only", async () => {
  const [user] = await addUsers("user");
  const query = { device_id: "phone" };
  const old = await connect(n1, user!, query);
  await connect(n1, user!, { device_id: "laptop" });
  n1.toRedis[0]!.link.cut();
  await until(async () => !(await n1.isWhole()));
  const back = await connect(n2, user!, query);
  n1.toRedis[0]!.link.heal();
  expect((await old.closed).code).toBe(4010);
  await stage.whole();
  expect((await back.ask("presence.query", { user_ids: [user] })).users).toMatchObject([{ devices: 2 }]);
});

test("[PRE1] who comes while its node's link to Redis is cut is seen by everybody once it is healed", async () => {
  const { room, members } = await gather(n1, n3);
  const [late] = await addUsers("late");
  await addMembers(room, [late!]);
  const watchers = members as [Client, Client];
  for (const watcher of watchers)
    await watcher.ask("subscribe", { topics: ["presence"], filters: { user_ids: [late] } });
  n2.toRedis[0]!.link.cut();
  await until(async () => !(await n2.isWhole()));
  await connect(n2, late!);
  n2.toRedis[0]!.link.heal();
  const seen = ({ user_id, status }: { user_id: string; status: string }) => user_id === late && status === "online";
  const isSeen = ({ type, payload }: { type: string; payload: any }) => type.startsWith("presence.") && seen(payload);
  await Promise.all(watchers.map((watcher) => watcher.find(isSeen)));
  await stage.whole();
});

test("[PRE1] the users of a node that was taken for dead, and was not, are seen online again", async () => {
  const { ids, members } = await gather(n1, n3);
  const [watcher] = members as [Client, Client];
  n3.service().signal("SIGSTOP");
  try {
    await watcher.next("presence.offline", isOf(ids[1]!));
  } finally {
    n3.service().signal("SIGCONT");
  }
  await watcher.next("presence.online", isOf(ids[1]!));
  await stage.whole();
});

test("[CALL2] the first answer wins between two nodes", async () => {
  const { room, ids, members } = await gather(n1, n2);
  const [caller, first] = members as [Client, Client];
  const second = await connect(n3, ids[1]!);
  const call = offer(ids[1]!, room);
  await caller.ask("call.offer", call);
  await Promise.all([first, second].map((device) => device.next("call.incoming")));
  const answer = { call_id: call.call_id, sdp: "answer" };
  const replies = await Promise.all([first, second].map((device) => device.request("call.answer", answer)));
  const outcomes = replies.map(({ type, payload }) => (type === "error" ? payload.code : type));
  expect(outcomes.toSorted()).toEqual(["ack", "call_already_answered"]);
  const [winner, loser] = outcomes[0] === "ack" ? [first, second] : [second, first];
  await caller.next("call.answer");
  await loser.next("call.ended", ({ reason }) => reason === "answered_elsewhere");
  await caller.ask("call.hangup", { call_id: call.call_id });
  await winner.next("call.ended", ({ reason }) => reason === "hangup");
  await caller.settled();
  expect(caller.all("call.answer")).toHaveLength(1);
});

test("[PRE1] the users of a node that is killed go offline once, whoever notices", async () => {
  const { room, ids, members } = await gather(n1, n2, n3, n3);
  const watchers = members.slice(0, 2);
  await n3.kill();
  for (const watcher of watchers)
    for (const userId of ids.slice(2)) await watcher.next("presence.offline", isOf(userId));
  await n3.restart();
  const back = await connect(n3, ids[2]!);
  await back.ask("subscribe", { topics: [`conversation:${room}`] });
  for (const watcher of watchers) await watcher.next("presence.online", isOf(ids[2]!));
  // Comes after whatever another node may still have had to say of it.
  for (const watcher of watchers) await watcher.ask("message.send", message(room, "all is told"));
  await Promise.all(watchers.map((watcher) => watcher.next("message.new", isContent("all is told"))));
  for (const watcher of watchers) {
    const offline = watcher.all("presence.offline").map(({ payload }) => payload.user_id as string);
    expect(offline.toSorted()).toEqual(ids.slice(2).toSorted());
  }
  await stage.whole();
});

test("[PRE1] who left a node that died before it could tell is shown as gone all the same", async () => {
  const { ids, members } = await gather(n1, n2);
  const [watcher, leaver] = members as [Client, Client];
  // It asks PostgreSQL whether others saw the user before it tells.
  n2.toPostgres.freeze();
  await leaver.close();
  await eventually(
    () => watcher.ask("presence.query", { user_ids: [ids[1]] }),
    ({ users }) => users[0].status === "offline",
  );
  await n2.kill();
  n2.toPostgres.heal();
  await watcher.next("presence.offline", isOf(ids[1]!));
  await n2.restart();
  await stage.whole();
});

test("[AUTH4] [PUB3] who is disabled in the application's table is disconnected on every node", async () => {
  const [user] = await addUsers("user");
  const devices = await Promise.all(stage.nodes.map((node) => connect(node, user!)));
  await stage.sql(`UPDATE app.accounts SET banned_at = now() WHERE name = '${user}'`);
  const closes = await Promise.all(devices.map((device) => device.closed));
  expect(closes.map(({ code }) => code)).toEqual([4011, 4011, 4011]);
  await expect(connect(n1, user!)).rejects.toThrow("closed before it opened");
});

test("[SUB3] [PUB3] who is added or removed in the application's table hears of it on every node", async () => {
  const room = fresh("room");
  const [user, other] = await addUsers("user", "other");
  await addMembers(room, [other!]);
  const devices = await Promise.all(stage.nodes.map((node) => connect(node, user!)));
  for (const device of devices) await device.ask("subscribe", { topics: ["conversation"] });
  const hasRoom = ({ topics }: { topics: { topic: string }[] }) =>
    topics.some(({ topic }) => topic === `conversation:${room}`);
  await addMembers(room, [user!]);
  await Promise.all(devices.map((device) => device.next("subscribed", hasRoom)));
  const sender = await connect(n1, other!);
  await sender.ask("message.send", message(room, "welcome"));
  await Promise.all(devices.map((device) => device.next("message.new", isContent("welcome"))));
  await stage.sql(`DELETE FROM app.room_members WHERE account = '${user}'`);
  const isRevoked = ({ reason, topics }: { reason?: string; topics: string[] }) =>
    reason === "access_revoked" && topics.includes(`conversation:${room}`);
  await Promise.all(devices.map((device) => device.next("unsubscribed", isRevoked)));
  const refused = await devices[1]!.request("message.send", message(room, "too late"));
  expect(refused.payload.code).toBe("forbidden");
});
