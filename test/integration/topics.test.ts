/** Proves what a connection can subscribe to and how it leaves, over real sockets. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Client } from "../support/client.ts";
import { contentsOf, createPeople, fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

setDefaultTimeout(60_000);

const topicsIn = (payload: any): string[] => payload.topics.map(({ topic }: any) => topic).sort();

describe("open directory", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService();
  });
  afterAll(() => service.stop());
  const { connect, gather, backend } = createPeople(() => service.url);

  test("[SUB1] short names with a filter and whole names mean the same; answers are whole", async () => {
    const [c1, c2, c3] = [fresh("c"), fresh("c"), fresh("c")];
    const anna = await connect(fresh("anna"));
    const one = await anna.ask("subscribe", { topics: ["conversation", "typing"], filters: { conversation_id: c1 } });
    expect(topicsIn(one)).toEqual([`conversation:${c1}`, `typing:${c1}`]);
    expect(one).toMatchObject({ rejected: [], cursor: expect.any(String) });
    const many = await anna.ask("subscribe", { topics: ["conversation"], filters: { conversation_ids: [c2, c3, c2] } });
    expect(topicsIn(many)).toEqual([`conversation:${c2}`, `conversation:${c3}`]);
    const mixed = await anna.ask("subscribe", {
      topics: [`conversation:${c1}`, `typing:${c2}`, "conversation", "user"],
      filters: { conversation_id: c1 },
    });
    expect(topicsIn(mixed)).toEqual([`conversation:${c1}`, `typing:${c2}`, expect.stringMatching(/^user:anna/)]);
  });

  test("[SUB1] without a filter: all of mine; presence: everyone I share a conversation with", async () => {
    const [c1, c2] = [fresh("c"), fresh("c")];
    const [anna, ben, carl] = [fresh("anna"), fresh("ben"), fresh("carl")];
    await gather(c1, [anna, ben]);
    await gather(c2, [anna, carl]);
    const device = await connect(anna);
    expect(topicsIn(await device.ask("subscribe", { topics: ["conversation", "typing", "presence"] }))).toEqual(
      [
        ...[c1, c2].flatMap((id) => [`conversation:${id}`, `typing:${id}`]),
        ...[ben, carl].map((id) => `presence:${id}`),
      ].sort(),
    );
  });

  test("[SUB1] presence by users and by conversations", async () => {
    const [c1, c2] = [fresh("c"), fresh("c")];
    const [anna, ben, carl, dora] = [fresh("anna"), fresh("ben"), fresh("carl"), fresh("dora")];
    const [device] = await gather(c1, [anna, ben]);
    await gather(c2, [anna, carl, dora]);
    const byUser = await device!.ask("subscribe", { topics: ["presence"], filters: { user_id: ben } });
    expect(topicsIn(byUser)).toEqual([`presence:${ben}`]);
    const byUsers = await device!.ask("subscribe", { topics: ["presence"], filters: { user_ids: [ben, anna] } });
    expect(topicsIn(byUsers)).toEqual([`presence:${anna}`, `presence:${ben}`]);
    const filters = { conversation_ids: [c1, c2] };
    const byConversation = await device!.ask("subscribe", { topics: ["presence"], filters });
    expect(topicsIn(byConversation)).toEqual([ben, carl, dora].map((id) => `presence:${id}`));
  });

  test("[SUB1] what is another user's is forbidden, and what is of no kind is unknown_topic", async () => {
    const [anna, ben] = await Promise.all([connect(fresh("anna")), connect(fresh("ben"))]);
    void ben;
    const unknown = ["nonsense", "nonsense:x", "everyone", "p|user:x", ":", "constructor:x"];
    const others = ["conversation:", "user:ben1", "calls:ben1", "notifications:ben1", "presence:ben1"];
    const { topics, rejected, rejected_count } = await anna.ask("subscribe", { topics: [...unknown, ...others] });
    expect([topics, rejected_count]).toEqual([[], unknown.length + others.length]);
    expect(rejected).toEqual([
      ...unknown.map((topic) => ({ topic, code: "unknown_topic" })),
      ...others.map((topic) => ({ topic, code: "forbidden" })),
    ]);
    await expect(anna.ask("subscribe", { topics: [] })).rejects.toThrow("invalid_payload");
  });

  test("[SUB2] own topics are subscribed by themselves and announced without reply_to", async () => {
    const anna = await connect(fresh("anna"));
    const { payload, reply_to } = await anna.next("subscribed");
    expect(reply_to).toBeUndefined();
    expect(payload).toMatchObject({ rejected: [], cursor: expect.any(String) });
    expect(topicsIn(payload).map((topic) => topic.split(":")[0])).toEqual(["calls", "notifications", "user"]);
  });

  test("[SUB2] [LOG4] ?since lets them catch up first: from a cursor, or from what the device acknowledged", async () => {
    const anna = fresh("anna");
    const server = await backend();
    const publish = (n: number) => server.ask("publish", { user_ids: [anna], type: "notification", payload: { n } });
    const device = await connect(anna, { device_id: "phone" });
    await publish(1);
    const { cursor } = await device.ask("ping");
    await device.ask("ack", { cursor });
    await device.close();
    await publish(2);
    await publish(3);
    for (const since of [cursor, "acked"]) {
      const back = await connect(anna, { device_id: "phone", since });
      expect(back.received.map(({ type, payload }) => [type, payload.n])).toEqual([
        ["connected", undefined],
        ["notification", 2],
        ["notification", 3],
        ["subscribed", undefined],
      ]);
      expect((await back.next("subscribed")).payload.topics).toContainEqual({
        topic: `notifications:${anna}`,
        seq: 3,
        recovered: true,
        replayed: 2,
      });
      await back.close();
    }
    await expect(Client.open(service.url, { query: { user_id: anna, since: "" } })).rejects.toThrow();
  });

  test("[SUB3] unsubscribe by whole name, by filter and altogether; nothing comes any more", async () => {
    const ids = [fresh("c"), fresh("c"), fresh("c"), fresh("c")] as const;
    const [anna, ben] = [fresh("anna"), fresh("ben")];
    const sender = await connect(anna);
    for (const id of ids) await sendAll(sender, id, ["join"]);
    const reader = await connect(ben);
    await reader.ask("subscribe", { topics: ids.flatMap((id) => [`conversation:${id}`, `typing:${id}`]) });
    expect(await reader.ask("unsubscribe", { topics: [`conversation:${ids[0]}`] })).toEqual({
      topics: [`conversation:${ids[0]}`],
    });
    const filters = { conversation_ids: [ids[1]] };
    expect(await reader.ask("unsubscribe", { topics: ["conversation", "typing"], filters })).toEqual({
      topics: [`conversation:${ids[1]}`, `typing:${ids[1]}`],
    });
    for (const id of ids) await sendAll(sender, id, [id]);
    await reader.settled();
    expect(contentsOf(reader)).toEqual([ids[2], ids[3]]);
    const { topics } = await reader.ask("unsubscribe", { topics: ["conversation"] });
    expect(topics).toEqual(expect.arrayContaining([`conversation:${ids[2]}`, `conversation:${ids[3]}`]));
    for (const id of ids) await sendAll(sender, id, ["late"]);
    await reader.settled();
    expect(contentsOf(reader)).toHaveLength(2);
  });

  test("[SUB3] who follows all of its own conversations gets a new one without asking", async () => {
    const [before, after] = [fresh("c"), fresh("c")];
    const [anna, ben] = [fresh("anna"), fresh("ben")];
    const [sender] = await gather(before, [anna, ben]);
    const reader = await connect(ben);
    await reader.ask("subscribe", { topics: ["conversation", "typing"] });
    const other = await connect(ben);
    await sendAll(other, after, ["ben is in it from now on"]);
    const told = await reader.next("subscribed", ({ topics }) =>
      topics.some(({ topic }: any) => topic === `conversation:${after}`),
    );
    expect(told.reply_to).toBeUndefined();
    expect(topicsIn(told.payload)).toEqual([`conversation:${after}`, `typing:${after}`]);
    await sendAll(sender!, after, ["welcome"]);
    await reader.next("message.new", ({ content }) => content === "welcome");
    await reader.ask("unsubscribe", { topics: ["conversation", "typing"] });
    const follower = await connect(ben);
    await follower.ask("subscribe", { topics: ["conversation"] });
    const never = `conversation:${fresh("c")}`;
    await sendAll(other, never.slice("conversation:".length), ["not followed any more"]);
    await follower.next("subscribed", (payload) => topicsIn(payload).includes(never));
    await reader.settled();
    expect(reader.all("subscribed").flatMap(({ payload }) => topicsIn(payload))).not.toContain(never);
  });

  test("[SUB4] subscribing and unsubscribing twice is a no-op", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    const again = await ben!.ask("subscribe", { topics: [`conversation:${c}`, `conversation:${c}`] });
    expect(topicsIn(again)).toEqual([`conversation:${c}`]);
    expect(again.topics[0]).toMatchObject({ seq: 0 });
    await sendAll(anna!, c, ["once"]);
    await ben!.settled();
    expect(contentsOf(ben!)).toEqual(["once"]);
    for (let n = 0; n < 2; n++) {
      expect(await ben!.ask("unsubscribe", { topics: [`conversation:${c}`] })).toEqual({
        topics: [`conversation:${c}`],
      });
    }
    await sendAll(anna!, c, ["unheard"]);
    await ben!.settled();
    expect(contentsOf(ben!)).toEqual(["once"]);
  });

  test("[SUB4] [LOG5] a topic that one is on is not replayed again, and its place is said", async () => {
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    await sendAll(anna!, c, ["one", "two"]);
    const names = [`conversation:${c}`, `user:${ben!.received[0]!.payload.user_id}`];
    const { topics } = await ben!.ask("subscribe", { topics: names, since: "acked" });
    const places = topics.map(({ snapshot: _, ...place }: { snapshot?: unknown }) => place);
    expect(places).toEqual([
      { topic: names[0], seq: 2, replayed: 0 },
      { topic: names[1], seq: 0, replayed: 0 },
    ]);
    await ben!.settled();
    expect(contentsOf(ben!)).toEqual(["one", "two"]);
    // Events that were replayed to it before are not said to be missing, and once it has left they are replayed.
    await ben!.ask("unsubscribe", { topics: names.slice(0, 1) });
    const back = await ben!.ask("subscribe", { topics: names, since: "acked" });
    expect(back.topics).toMatchObject([
      { seq: 2, recovered: true, replayed: 2 },
      { seq: 0, replayed: 0 },
    ]);
  });

  test("[SUB4] at most 1,000 names a request", async () => {
    const anna = await connect(fresh("anna"));
    const topics = Array.from({ length: 1_001 }, (_, n) => `conversation:many${n}`);
    const refused = await anna.request("subscribe", { topics });
    expect(refused.payload).toMatchObject({ code: "invalid_payload", field: "payload.topics" });
    expect((await anna.ask("subscribe", { topics: topics.slice(1) })).topics).toHaveLength(1_000);
    expect((await anna.request("unsubscribe", { topics })).payload.code).toBe("invalid_payload");
    expect((await anna.ask("unsubscribe", { topics: topics.slice(1) })).topics).toHaveLength(1_000);
  });

  test("[SUB6] the sender's own connection is left out, the same user's other devices are not", async () => {
    const c = fresh("c");
    const anna = fresh("anna");
    const [phone, laptop, ben] = await gather(c, [anna, anna, fresh("ben")]);
    for (const client of [phone!, laptop!, ben!]) await client.ask("subscribe", { topics: [`typing:${c}`] });
    await phone!.ask("typing.start", { conversation_id: c });
    await sendAll(phone!, c, ["hello"]);
    for (const other of [laptop!, ben!]) {
      await other.settled();
      expect(other.received.filter(({ type }) => /^(typing|message)/.test(type)).map(({ type }) => type)).toEqual([
        "typing.start",
        "message.new",
        "typing.stop",
      ]);
    }
    await ben!.ask("mark.read", { conversation_id: c, up_to_seq: 1 });
    await Promise.all([phone!.next("message.read"), laptop!.next("message.read")]);
    await Promise.all([phone!.settled(), ben!.settled()]);
    expect(phone!.all("message.new")).toEqual([]);
    expect(phone!.received.filter(({ type }) => type.startsWith("typing"))).toEqual([]);
    expect(ben!.all("message.read")).toEqual([]);
  });
});

describe("managed directory", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: { DIRECTORY__MODE: "managed", WEBSOCKET__MAX_TOPICS_PER_CONNECTION: "8" },
    });
    using database = new Database(join(service.folder, "data/ws-service.db"));
    database.exec("INSERT INTO users (user_id) VALUES ('anna'), ('ben'), ('stranger')");
    database.exec(`INSERT INTO members (conversation_id, user_id)
      VALUES ('shared', 'anna'), ('shared', 'ben'), ('foreign', 'stranger'), ('foreign', 'ben')`);
    for (let n = 0; n < 10; n++)
      database.exec("INSERT INTO members (conversation_id, user_id) VALUES (?, 'ben')", [`c${n}`]);
  });
  afterAll(() => service.stop());
  const { connect } = createPeople(() => service.url);

  test("[SUB1] a topic that does not exist and one that is forbidden look the same", async () => {
    const anna = await connect("anna");
    const kinds = ["conversation", "typing", "presence", "user", "calls", "notifications"];
    for (const kind of kinds) {
      const keys = kind === "conversation" || kind === "typing" ? ["foreign", "missing"] : ["stranger", "nobody"];
      const answers = await Promise.all(
        keys.map(async (key) => {
          const answer = await anna.ask("subscribe", { topics: [`${kind}:${key}`] });
          return JSON.stringify(answer).replaceAll(key, "?");
        }),
      );
      expect(answers[0]).toBe(answers[1]!);
      expect(JSON.parse(answers[0]!)).toMatchObject({ topics: [], rejected: [{ code: "forbidden" }] });
    }
    for (const conversation_id of ["foreign", "missing"]) {
      const asked = await anna.ask("subscribe", { topics: ["presence"], filters: { conversation_id } });
      expect(asked).toMatchObject({ topics: [], rejected: [] });
    }
    const allowed = await anna.ask("subscribe", { topics: ["conversation:shared", "presence:ben", "presence:anna"] });
    expect(allowed.rejected).toEqual([]);
  });

  test("[SUB4] topics per connection have a limit; what is within it is subscribed", async () => {
    const ben = await connect("ben");
    const topics = Array.from({ length: 10 }, (_, n) => `conversation:c${n}`);
    const answer = await ben.ask("subscribe", { topics });
    // Its own three topics count.
    expect(topicsIn(answer)).toEqual(topics.slice(0, 5));
    expect(answer.rejected).toEqual(topics.slice(5).map((topic) => ({ topic, code: "limit_exceeded" })));
    await ben.ask("unsubscribe", { topics: topics.slice(0, 1) });
    expect(topicsIn(await ben.ask("subscribe", { topics: topics.slice(9) }))).toEqual(topics.slice(9));
  });
});

describe("tokens", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: { AUTH__MODE: "token", AUTH__SECRET: secret, WEBSOCKET__AUTO_SUBSCRIBE: "notifications" },
    });
  });
  afterAll(() => service.stop());
  const tokenOf = (sub: string, claims: object = {}) =>
    signToken({ sub, exp: Math.floor(Date.now() / 1_000) + 600, ...claims });

  async function authenticated(userId: string, payload: object = {}, claims: object = {}): Promise<Client> {
    const client = await Client.open(service.url);
    await client.ask("authenticate", { token: await tokenOf(userId, claims), ...payload });
    await client.next("subscribed");
    return client;
  }

  test("[SUB2] since in authenticate lets them catch up first; which topics is configured", async () => {
    const server = await authenticated("backend", {}, { roles: ["service"] });
    const publish = (n: number) => server.ask("publish", { user_ids: ["anna"], type: "notification", payload: { n } });
    const first = await authenticated("anna", { device_id: "phone" });
    expect(topicsIn((await first.next("subscribed")).payload)).toEqual(["notifications:anna"]);
    await publish(1);
    const { cursor } = await first.ask("ping");
    await first.ask("ack", { cursor });
    await first.close();
    await publish(2);
    for (const since of [{ cursor }, "acked"]) {
      const back = await authenticated("anna", { device_id: "phone", since });
      expect(back.received.map(({ type }) => type)).toEqual([
        "connected",
        "auth.success",
        "notification",
        "subscribed",
      ]);
      expect((await back.next("auth.success")).payload.acked_cursor).toBe(cursor);
      await back.close();
    }
    const seen = await authenticated("anna", { since: { cursor, seen: { "notifications:anna": 2 } } });
    expect(seen.all("notification")).toEqual([]);
    await Promise.all([seen.close(), server.close()]);
  });
});
