/** Proves who is told who is in a conversation and who may write there, on every node and whoever has changed it [MEM1] [MSG5]. */
import { Database } from "bun:sqlite";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import { Client } from "../support/client.ts";
import { grounds, standFor } from "../support/grounds.ts";
import { fresh, sendAll } from "../support/people.ts";
import { runSql, startPostgres } from "../support/postgres.ts";
import { startRedis } from "../support/redis.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const events = { EVENTS: "poll.vote=logged,recording=passing" };
const newsOf = (client: Client) => client.received.filter(({ type }) => /^members?\./.test(type) && type !== "members");
const isAbout =
  (userId: string, rest: object = {}) =>
  (payload: Record<string, unknown>) =>
    payload.user_id === userId && Object.entries(rest).every(([name, value]) => payload[name] === value);

describe.each(grounds)("%s", (_, stand) => {
  const { connect, sql } = standFor(stand, { DIRECTORY__MODE: "managed", ...events });
  const protobuf = { protocols: [subprotocols.protobuf] };

  async function operator() {
    const admin = await connect("root", { roles: "admin" });
    return {
      admin,
      newUsers: async (...names: string[]) => {
        const ids = names.map(fresh);
        await admin.ask("admin.users.upsert", { user_ids: ids });
        return ids;
      },
      add: (conversation_id: string, ...user_ids: string[]) =>
        admin.ask("admin.members.add", { conversation_id, user_ids }),
      remove: (conversation_id: string, ...user_ids: string[]) =>
        admin.ask("admin.members.remove", { conversation_id, user_ids }),
      update: (conversation_id: string, user_id: string, may_write: boolean) =>
        admin.ask("admin.members.update", { conversation_id, user_id, may_write }),
    };
  }

  /** Anna on two nodes and in both formats, and Ben; all live on a conversation of theirs. */
  async function scene() {
    const c = fresh("c");
    const op = await operator();
    const [anna, ben, carl] = (await op.newUsers("anna", "ben", "carl")) as [string, string, string];
    await op.add(c, anna, ben);
    const clients = [await connect(anna), await connect(anna, {}, protobuf), await connect(ben)];
    for (const client of clients) await client.ask("subscribe", { topics: [`conversation:${c}`] });
    const [phone, laptop, other] = clients as [Client, Client, Client];
    return { ...op, c, anna, ben, carl, clients, phone, laptop, other };
  }

  test("[MEM1] members are told page by page to who may hear the conversation, and to nobody else", async () => {
    const { c, add, update, newUsers, phone, laptop, other } = await scene();
    const many = await newUsers(...Array.from({ length: 120 }, () => "many"));
    await add(c, ...many);
    await update(c, many[3]!, false);
    const seen: string[] = [];
    const muted: string[] = [];
    let after: string | null = null;
    do {
      const page: any = await phone.ask("members", {
        conversation_id: c,
        limit: 50,
        ...(after === null ? {} : { after }),
      });
      expect(page.conversation_id).toBe(c);
      seen.push(...page.user_ids);
      muted.push(...page.may_not_write);
      after = page.next;
    } while (after !== null);
    expect(seen).toHaveLength(122);
    expect(new Set(seen)).toContain(many[119]!);
    expect(muted).toEqual([many[3]!]);
    const whole = await laptop.ask("members", { conversation_id: c, limit: 500 });
    expect([whole.user_ids.toSorted(), whole.may_not_write, whole.next]).toEqual([seen.toSorted(), muted, null]);
    expect((await other.ask("members", { conversation_id: c })).user_ids).toHaveLength(100);
    // A page that is full and the last says so.
    expect(await other.ask("members", { conversation_id: c, limit: 122 })).toMatchObject({ next: null });
    const stranger = await connect((await newUsers("eve"))[0]!);
    for (const conversation_id of [c, "none", "*"])
      expect((await stranger.request("members", { conversation_id })).payload).toMatchObject({
        code: "forbidden",
        field: "payload.conversation_id",
      });
    for (const [field, value] of [
      ["after", ""],
      ["after", "x".repeat(129)],
      ["after", "x".repeat(60_000)],
      ["limit", 501],
      ["limit", 0],
      ["conversation_id", ["c"]],
    ] as const)
      expect((await stranger.request("members", { conversation_id: c, [field]: value })).payload).toMatchObject({
        code: "invalid_payload",
        field: `payload.${field}`,
      });
    // A page may begin where nobody ever was.
    expect((await phone.ask("members", { conversation_id: c, after: "~" })).user_ids).toEqual([]);
  });

  test.each(["an administrator", "SQL"])("[MEM1] who comes and goes by %s is told on every node", async (by) => {
    const { c, add, remove, carl, ben, clients, phone, other } = await scene();
    const began = Date.now();
    const newcomer = await connect(carl);
    await newcomer.ask("subscribe", { topics: ["conversation"] });
    if (by === "SQL") await sql(`INSERT INTO {members} (conversation_id, user_id) VALUES ('${c}', '${carl}')`);
    else await add(c, carl);
    for (const client of clients) {
      const { payload, topic, seq, reply_to } = await client.next("member.added");
      expect(payload).toEqual({ conversation_id: c, user_id: carl, at: expect.any(String) });
      expect(Date.parse(payload.at)).toBeGreaterThanOrEqual(began - 1);
      expect(Date.parse(payload.at)).toBeLessThanOrEqual(Date.now() + 1);
      expect([topic, seq, reply_to]).toEqual([undefined, undefined, undefined]);
    }
    await newcomer.next("subscribed", ({ topics }) => topics.some((it: any) => it.topic === `conversation:${c}`));
    if (by === "SQL") await sql(`DELETE FROM {members} WHERE conversation_id = '${c}' AND user_id = '${ben}'`);
    else await remove(c, ben);
    for (const client of [phone, newcomer])
      expect((await client.next("member.removed")).payload).toEqual({
        conversation_id: c,
        user_id: ben,
        at: expect.any(String),
      });
    expect((await other.next("unsubscribed")).payload).toMatchObject({ reason: "access_revoked" });
    await Promise.all([newcomer.settled(), other.settled()]);
    // Neither the newcomer is told of itself, nor the one who has gone.
    expect(newsOf(newcomer).map(({ type }) => type)).toEqual(["member.removed"]);
    expect(newsOf(other).map(({ type }) => type)).toEqual(["member.added"]);
  });

  test("[MEM1] nothing of it is logged", async () => {
    const { c, add, carl, phone } = await scene();
    await add(c, carl);
    await phone.next("member.added");
    expect(await phone.ask("history", { topic: `conversation:${c}` })).toMatchObject({ events: [], has_more: false });
  });

  test("[MEM1] members that are written anew stay, and others are told nothing that is not so", async () => {
    const { c, anna, ben, carl, clients, phone, other } = await scene();
    await sql(`BEGIN;
      DELETE FROM {members} WHERE conversation_id = '${c}';
      INSERT INTO {members} (conversation_id, user_id, may_write) VALUES ('${c}', '${anna}', true), ('${c}', '${ben}', false), ('${c}', '${carl}', true);
      COMMIT`);
    for (const client of clients) await client.next("member.added", isAbout(carl));
    expect((await phone.next("member.added", isAbout(ben))).payload.may_write).toBe(false);
    await Promise.all(clients.map((client) => client.settled()));
    expect(clients.flatMap((client) => client.all("member.removed"))).toEqual([]);
    expect(clients.flatMap((client) => client.all("unsubscribed"))).toEqual([]);
    const { payload } = await other.request("message.send", {
      conversation_id: c,
      client_message_id: "m",
      content: "",
    });
    expect(payload).toMatchObject({ code: "forbidden" });
  });

  test.each(["an administrator", "SQL"])(
    "[MSG5] who is kept from writing by %s reads on, and may write again",
    async (by) => {
      const { c, update, ben, clients, phone, laptop, other } = await scene();
      let changes = 0;
      const may = async (mayWrite: boolean) => {
        if (by === "SQL")
          await sql(
            `UPDATE {members} SET may_write = ${mayWrite} WHERE conversation_id = '${c}' AND user_id = '${ben}'`,
          );
        else await update(c, ben, mayWrite);
        for (const client of clients)
          expect(await client.until(() => client.all("member.updated")[changes]?.payload)).toEqual({
            conversation_id: c,
            user_id: ben,
            may_write: mayWrite,
            at: expect.any(String),
          });
        changes++;
      };
      const [{ message_id }] = (await sendAll(other, c, ["mine"])) as [{ message_id: string }];
      const writes: [type: string, payload: object][] = [
        ["message.send", { client_message_id: fresh("m"), content: "hello" }],
        ["typing.start", {}],
        ["event.send", { type: "poll.vote", payload: {}, client_event_id: fresh("v") }],
        ["event.send", { type: "recording", payload: {} }],
        ["message.edit", { message_id, content: "changed" }],
        ["reaction.add", { message_id, reaction: "👍" }],
        ["reaction.remove", { message_id, reaction: "👍" }],
      ];
      await may(false);
      for (const [type, payload] of writes)
        expect((await other.request(type, { conversation_id: c, ...payload })).payload).toMatchObject({
          code: "forbidden",
          field: "payload.conversation_id",
          message: "You may read this conversation, and not write in it.",
        });
      await sendAll(phone, c, ["to read"]);
      const { payload } = await other.next("message.new");
      expect(payload.content).toBe("to read");
      expect(await other.ask("mark.read", { conversation_id: c, message_ids: [payload.message_id] })).toMatchObject({
        unread: 0,
      });
      await laptop.next("message.read", isAbout(ben));
      expect((await other.ask("history", { topic: `conversation:${c}` })).events).not.toEqual([]);
      expect((await other.ask("members", { conversation_id: c })).may_not_write).toEqual([ben]);
      expect(await other.ask("typing.stop", { conversation_id: c })).toEqual({});
      const again = async () => (await other.ask("subscribe", { topics: [`conversation:${c}`] })).topics[0].snapshot;
      expect(await again()).toMatchObject({ may_write: false });
      await may(true);
      expect(await again()).not.toHaveProperty("may_write");
      for (const [type, payload] of writes) await other.ask(type, { conversation_id: c, ...payload });
      await phone.next("message.new", ({ content }) => content === "hello");
      // One's own is taken back all the same.
      await may(false);
      await other.ask("message.delete", { conversation_id: c, message_id });
      await phone.next("message.deleted");
    },
  );

  test("[MSG5] [TYP2] who is kept from writing does not type any more", async () => {
    const { c, update, ben, phone, other } = await scene();
    await phone.ask("subscribe", { topics: [`typing:${c}`] });
    await other.ask("typing.start", { conversation_id: c });
    await phone.next("typing.start", isAbout(ben));
    await update(c, ben, false);
    await phone.next("typing.stop", isAbout(ben));
  });

  test("[MSG5] one and the same twice changes nothing, who is no member is not found, and only operators may", async () => {
    const { c, admin, update, ben, carl, phone, other } = await scene();
    for (let times = 0; times < 2; times++) await update(c, ben, false);
    await phone.next("member.updated");
    await update(c, ben, true);
    await phone.next("member.updated", isAbout(ben, { may_write: true }));
    await phone.settled();
    expect(phone.all("member.updated")).toHaveLength(2);
    const change = { conversation_id: c, user_id: ben, may_write: false };
    for (const wrong of [{ user_id: carl }, { user_id: "nobody" }, { conversation_id: "none" }])
      expect((await admin.request("admin.members.update", { ...change, ...wrong })).payload).toMatchObject({
        code: "not_found",
        field: "payload.user_id",
      });
    expect((await other.request("admin.members.update", change)).payload).toMatchObject({ code: "forbidden" });
    for (const may_write of ["false", 0, null, undefined, {}, "x".repeat(50_000)])
      expect(
        (await (await connect("root", { roles: "admin" })).request("admin.members.update", { ...change, may_write }))
          .payload,
      ).toMatchObject({
        code: "invalid_payload",
        field: "payload.may_write",
      });
    await other.ask("typing.start", { conversation_id: c });
  });

  test("[MSG5] a member who is removed and comes again may write", async () => {
    const { c, add, remove, update, carl, phone } = await scene();
    await add(c, carl);
    await update(c, carl, false);
    await phone.next("member.updated", isAbout(carl));
    await remove(c, carl);
    await phone.next("member.removed", isAbout(carl));
    await add(c, carl);
    const back = await connect(carl);
    await sendAll(back, c, ["I am back"]);
  });
});

describe.each(grounds)("an open directory, %s", (_, stand) => {
  const { connect, gather } = standFor(stand, events);

  test("[MEM1] who joins by using a conversation is told to its subscribers, once", async () => {
    const c = fresh("c");
    const [anna, ben, carl] = [fresh("anna"), fresh("ben"), fresh("carl")];
    const [phone] = (await gather(c, [anna])) as [Client];
    const [laptop] = (await gather(c, [anna])) as [Client];
    const other = await connect(ben);
    await sendAll(other, c, ["one", "two"]);
    await gather(c, [carl]);
    for (const client of [phone, laptop])
      for (const userId of [ben, carl]) await client.next("member.added", isAbout(userId));
    await Promise.all([phone.settled(), laptop.settled()]);
    expect(newsOf(phone).map(({ payload }) => payload.user_id)).toEqual([ben, carl]);
    // Neither marking nor asking about others joins, nor does being kept from writing.
    expect(
      (await (await connect(fresh("eve"))).request("mark.read", { conversation_id: c, up_to_seq: 1 })).payload.code,
    ).toBe("forbidden");
  });

  test("[MSG5] [MSG4] in an open directory a member may be kept from writing as well", async () => {
    const c = fresh("c");
    const [anna, ben] = [fresh("anna"), fresh("ben")];
    const [phone, other] = (await gather(c, [anna, ben])) as [Client, Client];
    const admin = await connect("root", { roles: "admin" });
    await admin.ask("admin.members.update", { conversation_id: c, user_id: ben, may_write: false });
    await Promise.all([phone, other].map((client) => client.next("member.updated", isAbout(ben))));
    for (const type of ["poll.vote", "recording"])
      expect((await other.request("event.send", { conversation_id: c, type, payload: {} })).payload.code).toBe(
        "forbidden",
      );
    expect((await other.ask("members", { conversation_id: c })).may_not_write).toEqual([ben]);
  });
});

test("[MEM1] [MSG5] nodes tell of members while Redis is away as well", async () => {
  const [database, redis] = await Promise.all([startPostgres(), startRedis()]);
  const url = await database.newDatabase();
  await migrateStorage({ url, lockTimeoutMs: 10_000 });
  await runSql(url, "INSERT INTO ws.users VALUES ('anna'); INSERT INTO ws.members VALUES ('c1', 'anna')");
  const settings = { DIRECTORY__MODE: "managed", STORAGE__URL: url, STORAGE__POOL_SIZE: "4", CLUSTER__URL: redis.url };
  const services = [await startService({ settings }), await startService({ settings })];
  const clients = await Promise.all(
    services.map((service) => Client.connect(service.url, { query: { user_id: "anna" } })),
  );
  for (const client of clients) await client.ask("subscribe", { topics: ["conversation:c1"] });
  await redis.stop();
  await runSql(
    url,
    "INSERT INTO ws.members VALUES ('c1', 'ben'); UPDATE ws.members SET may_write = false WHERE user_id = 'anna'",
  );
  for (const client of clients) {
    await client.next("member.added", isAbout("ben"));
    await client.next("member.updated", isAbout("anna", { may_write: false }));
    const message = { conversation_id: "c1", client_message_id: "m1", content: "" };
    expect((await client.request("message.send", message)).payload.code).toBe("forbidden");
  }
  await Promise.all(clients.map((client) => client.close()));
  // To say goodbye they would wait for Redis.
  await Promise.all(services.map((service) => service.kill()));
  await database.stop();
});

test("[MEM1] changes that may have been missed are told as that", async () => {
  const service = await startService({ settings: { DIRECTORY__MODE: "managed" } });
  const database = new Database(`${service.folder}/data/ws-service.db`);
  database.exec("PRAGMA busy_timeout = 5000");
  database.exec(
    "INSERT INTO users (user_id) VALUES ('anna'); INSERT INTO members (conversation_id, user_id) VALUES ('c1', 'anna')",
  );
  const anna = await Client.connect(service.url, { query: { user_id: "anna" } });
  await anna.ask("subscribe", { topics: ["conversation:c1"] });
  // More than is kept of changes.
  database.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
    INSERT INTO members (conversation_id, user_id) SELECT 'c1', 'user-' || i FROM n`);
  expect((await anna.next("members.changed")).payload).toEqual({ at: expect.any(String) });
  database.close();
  await anna.close();
  await service.stop();
});
