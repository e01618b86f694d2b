/** Proves the feed of the whole log that backends are given, over real sockets [BAK2]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import type { Client, Received } from "../support/client.ts";
import { linesOf } from "../support/lines.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";
import { signToken } from "../support/tokens.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

const numbered = (count: number, prefix = "m") => Array.from({ length: count }, (_, n) => `${prefix}${n + 1}`);
const upTo = (count: number) => Array.from({ length: count }, (_, n) => n + 1);
const fed = ({ received }: Pick<Client, "received">) => received.filter(({ position }) => position !== undefined);
const placeOf = ({ topic, seq }: Received) => `${topic} ${seq}`;
const growing = (numbers: number[]) => numbers.every((it, index) => index === 0 || it > numbers[index - 1]!);
const positionsOf = (events: Received[]) => events.map(({ position }) => position!);
/** The event of the feed that a sender was told the place of. */
const arrived = (client: Client, { topic, seq }: { topic: string; seq: number }) =>
  client.find((it) => it.topic === topic && it.seq === seq);
const log = { topics: ["log"] };

describe("one service", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService();
  });
  afterAll(() => service.stop());
  const { connect, backend } = createPeople(() => service.url);

  /** A backend with the feed; a device that never acknowledged is owed all that there is. */
  async function feedFrom(since: object | string | undefined, query: Record<string, string> = {}): Promise<Client> {
    const client = await backend(query);
    await client.ask("subscribe", { ...log, since });
    return client;
  }

  test("[BAK2] the whole log comes in its order, whoever writes and whatever the topic, across catching up and live", async () => {
    const ids = numbered(3).map(() => fresh("c"));
    const users = numbered(300).map(() => fresh("user"));
    const writers = await Promise.all(ids.map(() => connect(fresh("writer"))));
    const publishers = await Promise.all([backend(), backend()]);
    const write = async (prefix: string) => {
      const acks = await Promise.all([
        ...writers.map((writer, index) => sendAll(writer, ids[index]!, numbered(20, prefix))),
        ...writers.map((writer) => sendAll(writer, ids[0]!, numbered(10, prefix))),
        ...publishers.map((it) => it.ask("publish", { user_ids: users, type: "notification", payload: {} })),
      ]);
      return acks.flatMap((it) => it.published ?? it).toSorted((one, other) => one.position - other.position);
    };
    await write("before");
    const writing = write("while");
    // One from the beginning, one from the head, one in the other format; all while it is being written.
    const whole = await feedFrom("acked");
    const live = await feedFrom(undefined);
    const binary = await connect(fresh("backend"), { roles: "service" }, { protocols: [subprotocols.protobuf] });
    await binary.ask("subscribe", { ...log, since: "acked" });
    await writing;
    const last = (await write("after")).at(-1);
    for (const client of [whole, live, binary]) await arrived(client, last);
    const events = fed(whole);
    expect(growing(positionsOf(events))).toBe(true);
    const counts: [topic: string, events: number][] = [
      ...ids.map((c, index): [string, number] => [`conversation:${c}`, index === 0 ? 3 * (20 + 3 * 10) : 3 * 20]),
      ...users.map((user): [string, number] => [`notifications:${user}`, 3 * 2]),
    ];
    const byTopic = Map.groupBy(events, ({ topic }) => topic!);
    for (const [topic, count] of counts) expect(byTopic.get(topic)!.map(({ seq }) => seq)).toEqual(upTo(count));
    expect(fed(binary)).toEqual(events);
    // From wherever the head was on, nothing is missing.
    const part = fed(live);
    expect(part).toEqual(events.slice(events.findIndex(({ position }) => position === part[0]!.position)));
  });

  test("[BAK2] it is for backends alone: nobody else learns that there is more than they hear", async () => {
    for (const roles of [undefined, "admin"]) {
      const client = await connect(fresh("anna"), roles === undefined ? {} : { roles });
      const { topics, rejected } = await client.ask("subscribe", { topics: ["log", "user"] });
      expect(rejected).toEqual([{ topic: "log", code: "forbidden" }]);
      expect(topics).toHaveLength(1);
    }
    const server = await backend();
    expect((await server.ask("subscribe", { topics: ["log:all"] })).rejected).toEqual([
      { topic: "log:all", code: "forbidden" },
    ]);
    // It has no numbers of its own, and nothing is said to it.
    expect((await server.request("history", { topic: "log" })).payload.code).toBe("forbidden");
    const published = await server.request("publish", { topic: "log", type: "app.note", payload: {} });
    expect(published.payload).toMatchObject({ code: "invalid_payload", field: "payload.topic" });
  });

  test("[BAK2] [LOG3] nothing comes twice: beside the log there is no part of it, but what is not logged", async () => {
    const c = fresh("c");
    const user = fresh("backend");
    const server = await connect(user, { roles: "service" });
    const other = await backend();
    const { rejected, topics } = await server.ask("subscribe", {
      topics: ["log", `conversation:${c}`, `typing:${c}`, "user"],
    });
    expect(rejected).toEqual([
      { topic: `conversation:${c}`, code: "conflict" },
      { topic: `user:${user}`, code: "conflict" },
    ]);
    expect(topics.map(({ topic }: any) => topic)).toEqual(["log", `typing:${c}`]);
    const left = await server.next("unsubscribed");
    expect(left.payload).toEqual({ topics: [`user:${user}`, `notifications:${user}`], reason: "in_log" });
    await other.ask("publish", { user_ids: [user], type: "notification", payload: { n: 1 } });
    const [ack] = await sendAll(other, c, ["hello"]);
    await other.ask("typing.start", { conversation_id: c });
    await arrived(server, ack);
    await server.next("typing.start");
    expect(fed(server).map(placeOf).slice(-2)).toEqual([`notifications:${user} 1`, `conversation:${c} 1`]);
    // A topic that follows by itself would join later.
    for (const asked of ["conversation", `conversation:${c}`, `notifications:${user}`]) {
      const again = await server.ask("subscribe", { topics: [asked] });
      expect(again).toMatchObject({ topics: [], rejected: [{ topic: asked, code: "conflict" }] });
    }
    // And the other way round.
    await other.ask("subscribe", { topics: [`conversation:${c}`] });
    expect(await other.ask("subscribe", log)).toMatchObject({
      topics: [],
      rejected: [{ topic: "log", code: "conflict" }],
    });
    await other.ask("unsubscribe", { topics: [`conversation:${c}`] });
    expect(await other.ask("subscribe", log)).toMatchObject({ topics: [{ topic: "log" }], rejected: [] });
  });

  test("[BAK2] [LOG4] it goes on from a cursor, less what was seen, and pong never says more than was sent", async () => {
    const users = numbered(1_000).map(() => fresh("user"));
    const publisher = await backend();
    const first = await backend();
    const { cursor: start } = await first.ask("subscribe", log);
    const { published } = await publisher.ask("publish", { user_ids: users, type: "notification", payload: {} });
    await arrived(first, published.at(-1));
    const events = fed(first);
    expect(events).toHaveLength(1_000);
    const second = await backend();
    const seen = { [published[0].topic]: 1, [published[999].topic]: 0 };
    const asked = second.send("subscribe", { ...log, since: { cursor: start, seen } });
    const pings = numbered(5).map(() => second.send("ping"));
    const { payload } = await second.find(({ reply_to }) => reply_to === asked);
    expect(payload).toMatchObject({ topics: [{ topic: "log", recovered: true }], cursor: start });
    await arrived(second, published.at(-1));
    expect(fed(second)).toEqual(events.slice(1));
    // Asked at any moment of it: what came before an answer is at least all up to its cursor.
    for (const ping of pings) {
      const pong = await second.find(({ reply_to }) => reply_to === ping);
      const had = new Set(second.received.slice(0, second.received.indexOf(pong)).map(({ id }) => id));
      const missing = events.slice(1).filter(({ id }) => !had.has(id));
      // It may have been asked when all was there.
      if (missing.length === 0) continue;
      const third = await feedFrom({ cursor: pong.payload.cursor });
      await arrived(third, published.at(-1));
      const rest = new Set(fed(third).map(({ id }) => id));
      expect(missing.filter(({ id }) => !rest.has(id))).toEqual([]);
    }
  });

  test("[BAK2] [LOG6] a device goes on from what it acknowledged, and not above what its feed has sent", async () => {
    const c = fresh("c");
    const user = fresh("archive");
    const query = { roles: "service", device_id: "one" };
    const writer = await connect(fresh("writer"));
    await sendAll(writer, c, ["first"]);
    const { cursor: head } = await writer.ask("ping");
    const hasty = await RawSocket.open(service.url, { query: { user_id: user, ...query } });
    await hasty.next("subscribed");
    // In one write, so that it is asked before anything of the log is sent.
    const frame = (id: string, type: string, payload: object) =>
      hasty.encode({ payload: JSON.stringify({ id, type, payload }) });
    hasty.write(
      Buffer.concat([frame("1", "subscribe", { ...log, since: "acked" }), frame("2", "ack", { cursor: head })]),
    );
    const early = await hasty.find(({ reply_to }) => reply_to === "2");
    expect(early.payload).toMatchObject({ code: "invalid_payload", field: "payload.cursor" });
    const { cursor: start } = (await hasty.find(({ reply_to }) => reply_to === "1")).payload;
    expect((await hasty.request("ack", { cursor: start })).payload).toEqual({ cursor: start });
    hasty.destroy();
    const archive = await connect(user, query);
    await archive.ask("subscribe", { ...log, since: "acked" });
    const [ack] = await sendAll(writer, c, ["second"]);
    await arrived(archive, ack);
    const { cursor } = await archive.ask("ping");
    expect(await archive.ask("ack", { cursor })).toEqual({ cursor });
    await archive.close();
    const [missed] = await sendAll(writer, c, ["third"]);
    const back = await connect(user, query);
    await back.ask("subscribe", { ...log, since: "acked" });
    await arrived(back, missed);
    expect(fed(back).map(placeOf)).toEqual([`conversation:${c} 3`]);
  });

  test("[BAK2] [SUB4] asking again changes nothing, unsubscribe ends it, and it can begin again", async () => {
    const c = fresh("c");
    const writer = await connect(fresh("writer"));
    const server = await feedFrom(undefined);
    expect(await server.ask("subscribe", { ...log, since: "acked" })).toMatchObject({ topics: [{ topic: "log" }] });
    const [first] = await sendAll(writer, c, ["one"]);
    await arrived(server, first);
    expect(await server.ask("unsubscribe", log)).toEqual({ topics: ["log"] });
    const { cursor } = await server.ask("ping");
    const [second] = await sendAll(writer, c, ["two"]);
    await arrived(await feedFrom({ cursor }), second);
    await server.settled();
    expect(fed(server).map(placeOf)).toEqual([`conversation:${c} 1`]);
    await server.ask("subscribe", { ...log, since: { cursor } });
    await arrived(server, second);
    expect(fed(server).map(placeOf)).toEqual([`conversation:${c} 1`, `conversation:${c} 2`]);
  });

  test("[BAK2] [ADM1] operators see who has it, and how far it is", async () => {
    const admin = await connect(fresh("admin"), { roles: "admin" });
    const server = await feedFrom("acked");
    const { device_id } = (await server.next("connected")).payload;
    const { connections, head } = await admin.ask("admin.topic", { topic: "log" });
    expect(head).toBeNull();
    expect(connections.map((it: any) => it.device_id)).toContain(device_id);
    const { topics } = await admin.ask("admin.topics", { prefix: "log" });
    expect(topics).toEqual([{ topic: "log", subscribers: connections.length }]);
    const isLevel = ({ subscriptions }: any) => subscriptions.feed_behind === 0 && subscriptions.fed_events > 0;
    const { subscriptions } = await eventually(() => admin.ask("admin.stats"), isLevel);
    expect(subscriptions.feeds).toBe(connections.length);
    await server.close();
    await eventually(
      () => admin.ask("admin.stats"),
      (stats) => stats.subscriptions.feeds === connections.length - 1,
    );
  });
});

test("[BAK2] [AUTH3] it ends with the role: a refresh without it leaves the log, a grant of that name gives nobody any", async () => {
  const secret = "a secret of at least thirty-two bytes";
  const service = await startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
  const people = createPeople(() => service.url);
  const token = (claims: object) => signToken({ sub: "robot", exp: Math.floor(Date.now() / 1_000) + 600, ...claims });
  const robot = await people.connect("robot", { token: await token({ roles: ["service"] }) });
  await robot.ask("subscribe", log);
  await robot.ask("authenticate", { token: await token({ topics: ["log"] }) });
  expect((await robot.next("unsubscribed", ({ reason }) => reason === "access_revoked")).payload.topics).toEqual([
    "log",
  ]);
  expect((await robot.ask("subscribe", log)).rejected).toEqual([{ topic: "log", code: "forbidden" }]);
  await sendAll(robot, "c1", ["hello"]);
  await robot.settled();
  expect(fed(robot)).toEqual([]);
  await robot.close();
  await service.stop();
});

test("[BAK2] a crash loses nothing of it: it goes on from the cursor, in order", async () => {
  let service = await startService();
  const people = createPeople(() => service.url);
  const writer = await people.connect("writer");
  const first = await people.backend();
  const { cursor } = await first.ask("subscribe", log);
  const acks = await sendAll(writer, "c1", numbered(200));
  // In the middle of it, as likely as not.
  await arrived(first, acks[49]);
  const { folder } = service;
  await service.kill();
  service = await startService({ folder });
  const back = await people.backend();
  expect((await back.ask("subscribe", { ...log, since: { cursor } })).topics).toEqual([
    { topic: "log", recovered: true },
  ]);
  await arrived(back, acks.at(-1));
  expect(fed(back).map(({ seq }) => seq)).toEqual(upTo(200));
  await back.close();
  await service.stop();
});

test("[BAK2] [LOG5] retention: what is gone is told, and it goes on with what is still there", async () => {
  const service = await startService({
    settings: { LOG__EVENTS_PER_TOPIC: "5", WEBSOCKET__CLEANUP_INTERVAL: "30ms" },
  });
  const people = createPeople(() => service.url);
  const writer = await people.connect("writer");
  const { cursor } = await writer.ask("ping");
  await sendAll(writer, "c1", numbered(50));
  await sendAll(writer, "c2", numbered(3));
  await eventually(
    () => writer.ask("history", { topic: "conversation:c1", limit: 200 }),
    ({ events }) => events.length === 5,
  );
  const late = await people.backend();
  expect((await late.ask("subscribe", { ...log, since: { cursor } })).topics).toEqual([
    { topic: "log", recovered: false },
  ]);
  await late.find(({ topic, seq }) => topic === "conversation:c2" && seq === 3);
  expect(fed(late).map(({ seq }) => seq)).toEqual([46, 47, 48, 49, 50, 1, 2, 3]);
  await service.stop();
});

test("[BAK2] [CON7] who reads slowly is read for at its own pace, holds up nobody, and is not closed for it", async () => {
  const service = await startService({
    settings: {
      WEBSOCKET__WRITE_WAIT: "200ms",
      WEBSOCKET__PING_PERIOD: "150ms",
      WEBSOCKET__PONG_WAIT: "400ms",
      WEBSOCKET__CLEANUP_INTERVAL: "200ms",
      WEBSOCKET__STALE_CONNECTION_TIMEOUT: "500ms",
    },
  });
  const people = createPeople(() => service.url);
  const bystander = await connectElsewhere(service.url, "bystander");
  const writer = await people.connect("writer");
  // More than the kernel takes by itself; in messages so small that one of them is whole, and heard, within pong_wait.
  const text = "x".repeat(50 * 1024);
  const count = 300;
  await sendAll(writer, "c1", Array(count).fill(text));
  const open = () => RawSocket.open(service.url, { query: { user_id: fresh("slow"), roles: "service" }, pongs: true });
  const [slow, stuck] = await Promise.all([open(), open()]);
  for (const raw of [slow, stuck]) await raw.next("subscribed");
  for (const raw of [slow, stuck]) {
    raw.stopReading();
    raw.send("subscribe", { ...log, since: "acked" });
  }
  // One that is fast has all of it meanwhile.
  const fast = await people.backend();
  await fast.ask("subscribe", { ...log, since: "acked" });
  await fast.find(({ seq }) => seq === count);
  const seqs = () => slow.messages.filter(({ type }) => type === "message.new").map(({ seq }) => seq!);
  // It takes some and rests, behind for longer than write_wait and silent for longer than pong_wait: time is what is tested.
  for (let taken = 0; taken < count; taken += 60) {
    await Bun.sleep(500);
    slow.startReading();
    await slow.until(() => seqs().length >= Math.min(count, taken + 60) || undefined);
    slow.stopReading();
  }
  expect(seqs()).toEqual(upTo(count));
  // A client that takes nothing for ten times as long as anybody may be silent is gone.
  const admin = await people.connect("admin", { roles: "admin" });
  const isHere = async () => (await admin.ask("admin.connections", {})).connections.map((it: any) => it.user_id);
  const names = await eventually(isHere, (users) => users.filter((it: string) => it.startsWith("slow")).length < 2);
  // Everybody in this process, which reads and parses so much, may have been silent for as long as nobody may be.
  expect(names).toContain("bystander");
  stuck.startReading();
  expect((await stuck.ended).code).not.toBe(4101);
  slow.destroy();
  bystander.kill();
  await service.stop();
});

/** Connects from a process of its own, which answers pings and has nothing else to do. Resolves once it is greeted. */
async function connectElsewhere(url: string, userId: string) {
  const program = `
    const socket = new WebSocket(process.argv[1]);
    socket.onmessage = ({ data }) => console.log(JSON.parse(data).type);
    socket.onclose = () => process.exit();`;
  const target = new URL(url);
  target.searchParams.set("user_id", userId);
  const child = Bun.spawn([process.execPath, "-e", program, target.href], { stdout: "pipe", stderr: "inherit" });
  const { value } = await linesOf(child.stdout).next();
  expect(value).toBe("connected");
  return child;
}
