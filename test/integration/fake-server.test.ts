/** Proves that the fake server, which applications test against, answers and tells what the real one does. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import * as v from "valibot";
import type { Call } from "../../src/client/calls/call.ts";
import { FakeServer } from "../../src/client/testing.ts";
import { serverPayloads } from "../../src/protocol/server.ts";
import { chatter, live, opened, shows, stopChatters } from "../support/chatters.ts";
import { Client, type Received } from "../support/client.ts";
import { type Service, startService } from "../support/service.ts";

let service: Service;
let admin: Client;
beforeAll(async () => {
  const settings = {
    DIRECTORY__MODE: "managed",
    EVENTS: "poll.vote=logged,wave=passing",
    PRESENCE__UPDATE_INTERVAL: "50ms",
  };
  service = await startService({ settings });
  admin = await Client.connect(service.url, { query: { user_id: "root", roles: "admin" } });
});
afterAll(() => service?.stop());

type Step =
  | { who: string; asks: string; with: Record<string, unknown> }
  | { who: string; comes: Record<string, string> }
  | { who: string; goes: number }
  | { change: "add" | "remove" | "mute" | "unmute"; conversation: string; user: string };

/** Puts the same names in the place of what each server makes up: `<message 1>` is the first message's id in both. */
function shapeOf(frames: Received[], names: Map<string, string>): unknown[] {
  const nameOf = (id: string) => {
    if (!names.has(id)) names.set(id, `<id ${names.size + 1}>`);
    return names.get(id);
  };
  const shape = (value: unknown, name: string): unknown => {
    // Nothing promises an order of those that are left together.
    if (name === "topics" && Array.isArray(value) && typeof value[0] === "string") return value.toSorted();
    if (Array.isArray(value)) return value.map((it) => shape(it, name));
    if (typeof value === "object" && value !== null)
      return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, shape(it, key)]));
    if (["position", "message", "sdp", "duration_ms"].includes(name)) return `<${name}>`;
    if (typeof value !== "string") return value;
    if (name === "cursor") return "<cursor>";
    if (/^\d{4}-\d\d-\d\dT/.test(value)) return "<moment>";
    if (["id", "message_id", "message_ids", "connection_id"].includes(name)) return nameOf(value);
    return value;
  };
  return frames.map(({ id: _, ...frame }) => shape(frame, ""));
}

interface Server {
  url: string;
  /** Does what no client of a user may do. */
  change(change: string, conversationId: string, userId: string): unknown;
  webSocket: new (url: string | URL, options: never) => unknown;
}

/** Plays a scene. After each step it waits until as many frames have come as are expected, of each connection. */
async function play(server: Server, steps: Step[], expected?: Record<string, unknown[]>[]) {
  const clients = new Map<string, Client>();
  const told: Record<string, unknown[]>[] = [];
  const names = new Map<string, string>();
  const messages: string[] = [];
  const cursors: string[] = [];
  for (const [at, step] of steps.entries()) {
    const marks = new Map([...clients].map(([who, { received }]) => [who, received.length]));
    if ("comes" in step) {
      const filled = JSON.parse(fill(step.comes)) as Record<string, string>;
      const query = { user_id: step.who.split("/")[0]!, device_id: step.who, ...filled };
      clients.set(step.who, await Client.connect(server.url, { query, webSocket: server.webSocket }));
    } else if ("change" in step) {
      await server.change(step.change, step.conversation, step.user);
    } else if ("goes" in step) {
      await clients.get(step.who)!.close(step.goes);
      clients.delete(step.who);
    } else {
      const reply = await clients.get(step.who)!.request(step.asks, JSON.parse(fill(step.with)) as object);
      if (step.asks === "message.send" && reply.type === "ack") messages.push(reply.payload.message_id);
      if (reply.payload.cursor !== undefined) cursors.push(reply.payload.cursor);
    }
    const frames: Record<string, unknown[]> = {};
    for (const [who, client] of clients) {
      const from = marks.get(who) ?? 0;
      const count = expected?.[at]?.[who]?.length;
      if (count !== undefined) await client.until(() => client.received.length >= from + count || undefined);
      await client.settled();
      const came = client.received.splice(from).filter(({ type }) => type !== "pong");
      for (const { type, payload } of came) {
        const { issues = [] } = v.safeParse(serverPayloads[type as "ack"] ?? v.any(), payload);
        expect(issues.map((issue) => `${type}: ${v.getDotPath(issue)} ${issue.message}`)).toEqual([]);
      }
      frames[who] = shapeOf(came, names);
    }
    told.push(frames);
  }
  for (const client of clients.values()) await client.close();
  return told;

  function fill(payload: object): string {
    return JSON.stringify(payload)
      .replace(/<message (\d+)>/g, (_, n) => messages[Number(n) - 1]!)
      .replace(/<cursor (-?\d+)>/g, (_, n) => cursors.at(Number(n))!);
  }
}

/** Plays it on both, each scene with users of its own. */
async function isAlike(steps: Step[], conversations: Record<string, string[]>): Promise<void> {
  const fake = new FakeServer({ conversations, events: { "poll.vote": { logged: true }, wave: { logged: false } } });
  const change = (what: string, id: string, userId: string) => {
    if (what === "add") fake.addMembers(id, [userId]);
    else if (what === "remove") fake.removeMember(id, userId);
    else fake.setMayWrite(id, userId, what === "unmute");
  };
  const asFaked = await play({ url: "ws://fake/ws", webSocket: fake.webSocket, change }, steps);
  await admin.ask("admin.users.upsert", { user_ids: [...new Set(Object.values(conversations).flat())] });
  for (const [conversation_id, user_ids] of Object.entries(conversations))
    await admin.ask("admin.members.add", { conversation_id, user_ids });
  const asReal = await play({ url: service.url, webSocket: WebSocket, change: changeReally }, steps, asFaked);
  for (const [at, step] of steps.entries()) expect({ step, ...asFaked[at] }).toEqual({ step, ...asReal[at] });
}

function changeReally(change: string, conversation_id: string, user_id: string): Promise<unknown> {
  if (change === "add") return admin.ask("admin.members.add", { conversation_id, user_ids: [user_id] });
  if (change === "remove") return admin.ask("admin.members.remove", { conversation_id, user_ids: [user_id] });
  return admin.ask("admin.members.update", { conversation_id, user_id, may_write: change === "unmute" });
}

const changes = (change: "add" | "remove" | "mute" | "unmute", conversation: string, user: string): Step => ({
  ...{ change, conversation, user },
});
const comes = (who: string, query: Record<string, string> = {}): Step => ({ who, comes: query });
const goes = (who: string, code = 1000): Step => ({ who, goes: code });
const asks = (who: string, type: string, payload: Record<string, unknown> = {}): Step => ({
  who,
  asks: type,
  with: payload,
});

test("[MSG1] [LOG2] [ENV3] [SUB6] a message is answered and told alike, also the second time, and so is what is refused", async () => {
  const send = (client_message_id: string, content: unknown, conversation_id = "a1") => ({
    conversation_id,
    client_message_id,
    content,
  });
  await isAlike(
    [
      comes("anna/laptop"),
      asks("anna/laptop", "subscribe", { topics: ["conversation"] }),
      comes("ben/phone"),
      asks("ben/phone", "subscribe", { topics: ["conversation:a1", "conversation:a9", "typing:a1"] }),
      comes("anna/phone"),
      asks("anna/phone", "subscribe", { topics: ["conversation", "typing"], filters: { conversation_id: "a1" } }),
      asks("anna/laptop", "message.send", send("m1", "Hello!")),
      asks("anna/laptop", "message.send", send("m1", "Hello!")),
      asks("anna/laptop", "message.send", send("m1", "Hello?")),
      asks("ben/phone", "message.send", send("m1", { text: "Hi", tags: [1, null] })),
      asks("ben/phone", "message.send", send("m2", "Nobody", "a9")),
      asks("ben/phone", "no.such.type"),
      asks("ben/phone", "publish", { topic: "conversation:a1", type: "x", payload: {} }),
      asks("ben/phone", "members", { conversation_id: "a1" }),
      asks("ben/phone", "history", { topic: "conversation:a1", limit: 1 }),
      asks("ben/phone", "history", { topic: "conversation:a1", after_seq: 0 }),
      asks("ben/phone", "history", { topic: "conversation:a9" }),
      asks("anna/phone", "unsubscribe", { topics: ["typing"], filters: { conversation_id: "a1" } }),
    ],
    { a1: ["anna", "ben"] },
  );
});

test("[MSG2] [MSG3] edits, deletions and reactions are answered, told and read afterwards alike", async () => {
  const of = (message: string, more: object = {}) => ({ conversation_id: "b1", message_id: message, ...more });
  const reads = asks("bob/phone", "history", { topic: "conversation:b1" });
  await isAlike(
    [
      comes("ada/laptop"),
      comes("bob/phone"),
      asks("bob/phone", "subscribe", { topics: ["conversation"] }),
      asks("ada/laptop", "message.send", { conversation_id: "b1", client_message_id: "m1", content: "one" }),
      asks("ada/laptop", "message.send", { conversation_id: "b1", client_message_id: "m2", content: "two" }),
      asks("ada/laptop", "message.edit", of("<message 1>", { content: "one!" })),
      asks("ada/laptop", "message.edit", of("<message 1>", { content: "one!" })),
      asks("ada/laptop", "message.edit", of("<message 1>", { content: "one?" })),
      asks("bob/phone", "message.edit", of("<message 1>", { content: "no" })),
      asks("bob/phone", "reaction.add", of("<message 1>", { reaction: "👍" })),
      asks("bob/phone", "reaction.add", of("<message 1>", { reaction: "👍" })),
      asks("ada/laptop", "reaction.add", of("<message 1>", { reaction: "👍" })),
      asks("ada/laptop", "reaction.add", of("<message 2>", { reaction: "🎉" })),
      asks("bob/phone", "reaction.remove", of("<message 1>", { reaction: "👍" })),
      reads,
      asks("bob/phone", "message.delete", of("<message 2>")),
      asks("ada/laptop", "message.delete", of("<message 2>")),
      asks("ada/laptop", "message.delete", of("<message 2>")),
      asks("ada/laptop", "message.edit", of("<message 2>", { content: "back" })),
      asks("bob/phone", "reaction.add", of("<message 2>", { reaction: "👍" })),
      reads,
      asks("bob/phone", "subscribe", { topics: ["conversation"] }),
    ],
    { b1: ["ada", "bob"] },
  );
});

test("[LOG4] [LOG5] [LOG6] coming back with a cursor, with what was seen, or with what was acknowledged is alike", async () => {
  const say = (content: string, id = "c1") =>
    asks("cid/laptop", "message.send", { conversation_id: id, client_message_id: content, content });
  await isAlike(
    [
      comes("cid/laptop"),
      comes("cleo/phone"),
      asks("cleo/phone", "subscribe", { topics: ["conversation"] }),
      asks("cleo/phone", "ack", { cursor: "<cursor -1>" }),
      say("one"),
      goes("cleo/phone", 4000),
      say("two"),
      say("three", "c2"),
      comes("cleo/phone", { since: "<cursor -1>" }),
      asks("cleo/phone", "subscribe", {
        topics: ["conversation"],
        since: { cursor: "<cursor -1>", seen: { "conversation:c1": 1 } },
      }),
      asks("cleo/phone", "subscribe", { topics: ["conversation:c1"], since: { cursor: "<cursor 0>" } }),
      asks("cleo/phone", "unsubscribe", { topics: ["conversation"] }),
      asks("cleo/phone", "subscribe", { topics: ["conversation"], since: "acked" }),
      asks("cleo/phone", "unsubscribe", { topics: ["conversation"] }),
      asks("cleo/phone", "subscribe", { topics: ["conversation"], since: { cursor: "elsewhere.1" } }),
      asks("cleo/phone", "unsubscribe", { topics: ["conversation"] }),
      asks("cleo/phone", "subscribe", {
        topics: ["conversation:c1"],
        since: { cursor: "<cursor 0>", seen: { "conversation:c1": 99 } },
      }),
    ],
    { c1: ["cid", "cleo"], c2: ["cid", "cleo"] },
  );
});

test("[REC1] [REC3] [TYP1] marks, what is unread, receipts and typing are alike", async () => {
  const of = (more: object = {}) => ({ conversation_id: "d1", ...more });
  await isAlike(
    [
      comes("dan/laptop"),
      comes("dora/phone"),
      comes("dora/laptop"),
      asks("dan/laptop", "subscribe", { topics: ["conversation", "typing"] }),
      asks("dora/phone", "subscribe", { topics: ["conversation", "typing"] }),
      asks("dan/laptop", "typing.start", of()),
      asks("dora/laptop", "subscribe", { topics: ["typing"] }),
      asks("dan/laptop", "message.send", of({ client_message_id: "m1", content: "one" })),
      asks("dan/laptop", "message.send", of({ client_message_id: "m2", content: "two" })),
      asks("dora/phone", "mark.delivered", of({ up_to_seq: 1 })),
      asks("dora/phone", "mark.delivered", of({ up_to_seq: 0 })),
      asks("dora/phone", "mark.read", of({ message_ids: ["<message 1>"] })),
      asks("dora/phone", "mark.read", of({ up_to_seq: 99, private: true })),
      asks("dan/laptop", "mark.read", of({ up_to_seq: 2 })),
      asks("dan/laptop", "subscribe", { topics: ["conversation"] }),
      asks("dora/laptop", "subscribe", { topics: ["conversation"] }),
      asks("dora/phone", "typing.start", of()),
      asks("dora/phone", "typing.stop", of()),
      asks("dora/phone", "typing.stop", of()),
      asks("dan/laptop", "typing.start", { conversation_id: "nowhere" }),
    ],
    { d1: ["dan", "dora"] },
  );
});

test("[PRE2] [PRE3] [PRE4] who is there, by connections and by hand, is alike", async () => {
  await isAlike(
    [
      comes("eva/laptop"),
      asks("eva/laptop", "subscribe", { topics: ["presence"] }),
      asks("eva/laptop", "subscribe", { topics: ["presence:stranger", "presence:emil"] }),
      comes("emil/phone"),
      asks("emil/phone", "presence.update", { status: "busy", status_text: "in a meeting" }),
      asks("eva/laptop", "presence.query", { user_ids: ["emil", "stranger"] }),
      asks("emil/phone", "presence.update", { status: "away", status_emoji: "🍜" }),
      asks("emil/phone", "presence.update", { status: "invisible", status_text: null, status_emoji: null }),
      asks("eva/laptop", "subscribe", { topics: ["presence"], filters: { conversation_id: "e1" } }),
      asks("emil/phone", "presence.update", { status: "online" }),
      goes("emil/phone"),
    ],
    { e1: ["eva", "emil"], e2: ["stranger"] },
  );
});

test("[MSG4] [CALL1] [CALL2] [CALL3] [CALL4] own events and calls are alike", async () => {
  const call = { call_id: "5a0d3b54-7d0e-4f0e-9c33-0d2f6a1c9e10" };
  const other = { call_id: "5a0d3b54-7d0e-4f0e-9c33-0d2f6a1c9e11" };
  const sdp = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\n";
  const vote = { conversation_id: "f1", type: "poll.vote", payload: { option: 2 }, client_event_id: "v1" };
  await isAlike(
    [
      comes("fay/laptop"),
      comes("finn/phone"),
      comes("finn/tablet"),
      asks("finn/phone", "subscribe", { topics: ["conversation"] }),
      asks("fay/laptop", "event.send", vote),
      asks("fay/laptop", "event.send", vote),
      asks("fay/laptop", "event.send", { ...vote, payload: { option: 3 } }),
      asks("fay/laptop", "event.send", { conversation_id: "f1", type: "wave", payload: {} }),
      asks("fay/laptop", "event.send", { conversation_id: "f1", type: "unknown", payload: {} }),
      asks("fay/laptop", "call.offer", { ...call, to_user_id: "finn", media: "audio", sdp, conversation_id: "f1" }),
      asks("fay/laptop", "call.ice", { ...call, candidates: ["one"] }),
      asks("finn/phone", "call.answer", { ...call, sdp }),
      asks("finn/tablet", "call.answer", { ...call, sdp }),
      asks("finn/phone", "call.ice", { ...call, candidates: null }),
      asks("fay/laptop", "call.offer", { ...call, sdp, media: "video" }),
      asks("finn/phone", "call.answer", { ...call, sdp }),
      asks("finn/phone", "call.hangup", call),
      asks("finn/phone", "call.hangup", call),
      asks("fay/laptop", "call.hangup", other),
      asks("finn/phone", "call.offer", { ...other, to_user_id: "fay", media: "video", sdp }),
      asks("fay/laptop", "subscribe", { topics: ["calls"] }),
      asks("fay/laptop", "call.hangup", { ...other, reason: "busy" }),
      asks("fay/laptop", "call.offer", { ...call, to_user_id: "nobody", media: "audio", sdp }),
    ],
    { f1: ["fay", "finn"] },
  );
});

test("[MEM1] [SUB3] [MSG5] who is added, removed and kept from writing is told alike, and what follows it as well", async () => {
  const send = (key: string) => ({ conversation_id: "g1", client_message_id: key, content: key });
  await isAlike(
    [
      comes("gus/laptop"),
      asks("gus/laptop", "subscribe", { topics: ["conversation", "typing"] }),
      comes("gwen/phone"),
      asks("gwen/phone", "subscribe", { topics: ["conversation", "typing"] }),
      asks("gus/laptop", "message.send", send("before")),
      changes("add", "g1", "gwen"),
      asks("gwen/phone", "members", { conversation_id: "g1", limit: 1 }),
      asks("gwen/phone", "message.send", send("hello")),
      changes("mute", "g1", "gwen"),
      asks("gwen/phone", "message.send", send("muted")),
      asks("gwen/phone", "typing.start", { conversation_id: "g1" }),
      asks("gwen/phone", "message.send", send("hello")),
      asks("gus/laptop", "members", { conversation_id: "g1" }),
      asks("gwen/phone", "subscribe", { topics: ["conversation:g1"] }),
      changes("unmute", "g1", "gwen"),
      changes("remove", "g1", "gwen"),
      asks("gwen/phone", "message.send", send("gone")),
      asks("gwen/phone", "history", { topic: "conversation:g1" }),
      asks("gwen/phone", "members", { conversation_id: "g1" }),
    ],
    { g1: ["gus"], g2: ["gwen"] },
  );
});

test("[CALL1] [CALL4] [ENV4] a test says who calls, lets answers wait, refuses, and sees what was asked", async () => {
  const server = new FakeServer({ conversations: { c1: ["anna", "ben"] } });
  const { client } = chatter({ url: "ws://fake/ws", userId: "anna", webSocket: server.webSocket });
  await live(client);
  const rings = new Promise<Call>((resolve) => client.on("call", resolve));
  const callId = server.call("ben", "anna", { media: "video" });
  const call = await rings;
  expect(call.current).toMatchObject({ id: callId, peerUserId: "ben", media: "video", state: "ringing" });
  call.decline();
  expect((await server.received("call.hangup")).payload).toMatchObject({ call_id: callId });
  await shows(call, ({ state }) => state === "ended");
  const next = new Promise<Call>((resolve) => client.on("call", resolve));
  server.endCall(server.call("ben", "anna"), "timeout");
  await shows(await next, ({ state, endReason }) => state === "ended" && endReason === "timeout");

  const view = opened(client.conversation("c1"));
  const release = server.hold("message.send");
  server.refuse("message.send", "rate_limited", { retryAfterMs: 1 });
  await view.send("slowly");
  await server.received("message.send");
  expect(view.current.messages.at(-1)!.state).toBe("pending");
  release();
  await shows(view, ({ messages }) => messages.at(-1)!.state === "sent");
  expect(server.requestsOf("message.send").map(({ payload }) => payload.content)).toEqual(["slowly", "slowly"]);

  server.say("c1", "ben", "before");
  await shows(view, ({ messages }) => messages.length === 2);
  const gap = new Promise<readonly string[]>((resolve) => client.on("gap", ({ topics }) => resolve(topics)));
  server.loseLog();
  expect(await gap).toContain("conversation:c1");
  await shows(view, ({ status, messages }) => status === "live" && messages.length === 2);
  expect(server.connected).toEqual(["anna"]);
  server.stop();
  await shows(view, ({ status }) => status === "kept");
  server.start();
  await shows(view, ({ status }) => status === "live");
  await stopChatters();
});
