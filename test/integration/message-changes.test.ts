/** Proves editing, deleting and reacting over real sockets: on one node with SQLite, on two with PostgreSQL and Redis [MSG2] [MSG3]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import { migrateStorage } from "../../src/storage/migrate.ts";
import type { Client } from "../support/client.ts";
import { createPeople, fresh, type People } from "../support/people.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const moment = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);

async function send(client: Client, conversation_id: string, content: unknown = "text"): Promise<string> {
  const { message_id } = await client.ask("message.send", { conversation_id, client_message_id: fresh("m"), content });
  return message_id;
}

const historyOf = async (client: Client, c: string): Promise<any[]> =>
  (await client.ask("history", { topic: `conversation:${c}`, limit: 200 })).events;
const inHistory = async (client: Client, c: string, id: string) =>
  (await historyOf(client, c)).find((event) => event.id === id)?.payload;

async function allHistoryOf(client: Client, c: string): Promise<any[]> {
  const all: any[] = [];
  for (let more = true; more; ) {
    const page = await client.ask("history", {
      topic: `conversation:${c}`,
      after_seq: all.at(-1)?.seq ?? 0,
      limit: 200,
    });
    all.push(...page.events);
    more = page.has_more;
  }
  return all;
}

/** The conversation as a client has it that takes events as what is so from then on. */
function conversationOf(events: any[]): Map<string, { content: unknown; reactions: Set<string> }> {
  const messages = new Map<string, { content: unknown; reactions: Set<string> }>();
  for (const { type, payload } of events) {
    const { message_id, content = null, reactions = [] } = payload;
    const known = messages.get(message_id);
    if (type === "message.new") {
      const users = reactions.flatMap((it: any) => it.user_ids.map((user: string) => `${it.reaction} ${user}`));
      messages.set(message_id, { content, reactions: new Set(users) });
    } else if (type === "message.edited") known!.content = content;
    else if (type === "message.deleted") messages.set(message_id, { content: null, reactions: new Set() });
    else if (type === "message.reaction")
      known!.reactions[payload.added ? "add" : "delete"](`${payload.reaction} ${payload.user_id}`);
  }
  return messages;
}

function describeChanges(name: string, start: () => Promise<Service[]>, stop: () => Promise<void>): void {
  describe(name, () => {
    let services: Service[];
    beforeAll(async () => {
      services = await start();
    });
    afterAll(stop);
    const here = createPeople(() => services[0]!.url);
    /** On another node, where there is one. */
    const there = createPeople(() => services.at(-1)!.url);

    describeEditing(here, there);
    describeRights(here, there);
    describeReading(here, there);
    describeBackends(here, there);
  });
}

function describeEditing(here: People, there: People): void {
  test("[MSG2] an edit comes to the others and to one's own other devices, and not to the one that made it", async () => {
    const c = fresh("c");
    const anna = fresh("anna");
    const [phone] = await here.gather(c, [anna]);
    const [laptop, ben] = await there.gather(c, [anna, fresh("ben")]);
    const message_id = await send(phone!, c);
    for (const content of ["new text", { blocks: ["ü 👋 \u0000"] }]) {
      const ack = await phone!.ask("message.edit", { conversation_id: c, message_id, content });
      expect(ack).toEqual({
        message_id,
        topic: `conversation:${c}`,
        seq: expect.any(Number),
        position: expect.any(Number),
        at: moment,
        duplicate: false,
      });
      for (const client of [laptop!, ben!]) {
        const event = await client.next("message.edited", (_, { seq }) => seq === ack.seq);
        expect(event.payload).toEqual({ conversation_id: c, message_id, content, edited_at: ack.at, edited_by: anna });
        expect(event.position).toBe(ack.position);
      }
      expect(await inHistory(ben!, c, message_id)).toMatchObject({ content, edited_at: ack.at, sender_id: anna });
    }
    expect(
      await phone!.ask("message.edit", { conversation_id: c, message_id, content: { blocks: ["ü 👋 \u0000"] } }),
    ).toEqual({ message_id, topic: `conversation:${c}`, duplicate: true });
    await phone!.settled();
    expect(phone!.all("message.edited")).toEqual([]);
  });

  test("[MSG2] a deleted message is without its text wherever it is read, and deleting it again tells nobody", async () => {
    const c = fresh("c");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const [ben] = await there.gather(c, [fresh("ben")]);
    const message_id = await send(anna!, c, "the secret");
    await anna!.ask("message.edit", { conversation_id: c, message_id, content: "the other secret" });
    await ben!.ask("reaction.add", { conversation_id: c, message_id, reaction: "👍" });
    const ack = await anna!.ask("message.delete", { conversation_id: c, message_id });
    const { payload } = await ben!.next("message.deleted");
    expect(payload).toMatchObject({ conversation_id: c, message_id, deleted_at: ack.at });
    expect(await anna!.ask("message.delete", { conversation_id: c, message_id })).toEqual({
      message_id,
      topic: `conversation:${c}`,
      duplicate: true,
    });
    const events = await historyOf(ben!, c);
    expect(JSON.stringify(events)).not.toContain("secret");
    expect(events.find(({ id }) => id === message_id)!.payload).toMatchObject({ content: null, deleted_at: ack.at });
    const newcomer = await there.connect(fresh("carl"));
    const subscribed = await newcomer.ask("subscribe", { topics: [`conversation:${c}`] });
    expect(subscribed.rejected).toEqual([]);
    const edit = await anna!.request("message.edit", { conversation_id: c, message_id, content: "again" });
    expect(edit.payload).toMatchObject({ code: "conflict", field: "payload.message_id" });
    const reaction = await ben!.request("reaction.add", { conversation_id: c, message_id, reaction: "👍" });
    expect(reaction.payload).toMatchObject({ code: "conflict" });
    await ben!.settled();
    expect(ben!.all("message.deleted")).toHaveLength(1);
  });

  test("[MSG3] reactions come to all others, each once, and are on the message", async () => {
    const c = fresh("c");
    const [ann, bob] = [fresh("ann"), fresh("bob")];
    const [anna] = await here.gather(c, [ann]);
    const [ben] = await there.gather(c, [bob]);
    const message_id = await send(anna!, c);
    const react = (client: Client, type: string, reaction: string) =>
      client.ask(type, { conversation_id: c, message_id, reaction });
    const ack = await react(ben!, "reaction.add", "👍");
    const { payload } = await anna!.next("message.reaction");
    expect(payload).toEqual({ conversation_id: c, message_id, user_id: bob, reaction: "👍", added: true, at: ack.at });
    expect(await react(ben!, "reaction.add", "👍")).toMatchObject({ duplicate: true });
    await react(anna!, "reaction.add", "👍");
    await react(anna!, "reaction.add", ":party:");
    expect((await inHistory(ben!, c, message_id)).reactions).toEqual([
      { reaction: "👍", count: 2, user_ids: [bob, ann] },
      { reaction: ":party:", count: 1, user_ids: [ann] },
    ]);
    await react(ben!, "reaction.remove", "👍");
    expect((await anna!.next("message.reaction", ({ added }) => !added)).payload).toMatchObject({ user_id: bob });
    expect(await react(ben!, "reaction.remove", "👍")).toMatchObject({ duplicate: true });
    expect((await inHistory(ben!, c, message_id)).reactions).toEqual([
      { reaction: "👍", count: 1, user_ids: [ann] },
      { reaction: ":party:", count: 1, user_ids: [ann] },
    ]);
    await anna!.settled();
    expect(anna!.all("message.reaction")).toHaveLength(2);
  });

  test("[MSG2] [MSG3] the protobuf form says the same", async () => {
    const c = fresh("c");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const ben = await there.connect(fresh("ben"), {}, { protocols: [subprotocols.protobuf] });
    await ben.ask("subscribe", { topics: [`conversation:${c}`] });
    const [first, second] = [await send(anna!, c, "one"), await send(anna!, c, "two")];
    await ben.ask("reaction.add", { conversation_id: c, message_id: first, reaction: "👍" });
    await anna!.ask("message.edit", { conversation_id: c, message_id: first, content: { text: "edit" } });
    await anna!.ask("message.delete", { conversation_id: c, message_id: second });
    expect((await ben.next("message.edited")).payload.content).toEqual({ text: "edit" });
    expect((await ben.next("message.deleted")).payload.message_id).toBe(second);
    expect((await anna!.next("message.reaction")).payload.reaction).toBe("👍");
    expect(await inHistory(ben, c, first)).toEqual(await inHistory(anna!, c, first));
    expect(await inHistory(ben, c, second)).toEqual(await inHistory(anna!, c, second));
    expect((await inHistory(ben, c, second)).content).toBe(null);
  });
}

function describeRights(here: People, there: People): void {
  test("[MSG2] [MSG3] others' messages, unknown ones and other conversations' are forbidden, and look the same", async () => {
    const [c, other] = [fresh("c"), fresh("c")];
    const [anna, ben] = await here.gather(c, [fresh("anna"), fresh("ben")]);
    const [carl] = await there.gather(other, [fresh("carl")]);
    const message_id = await send(anna!, c);
    const elsewhere = await send(carl!, other);
    const deleted = await send(anna!, c);
    await anna!.ask("message.delete", { conversation_id: c, message_id: deleted });
    const refused = async (client: Client, type: string, payload: object) => {
      const reply = await client.request(type, { conversation_id: c, ...payload });
      return [reply.payload.code, reply.payload.message, reply.payload.field];
    };
    const [unknown] = await Promise.all([refused(ben!, "message.edit", { message_id: "unknown", content: "x" })]);
    expect(unknown).toEqual(["forbidden", expect.any(String), "payload.message_id"]);
    for (const id of [message_id, elsewhere, deleted]) {
      expect(await refused(ben!, "message.edit", { message_id: id, content: "x" })).toEqual(unknown!);
      expect(await refused(ben!, "message.delete", { message_id: id })).toEqual(unknown!);
    }
    for (const id of ["unknown", elsewhere])
      expect(await refused(ben!, "reaction.add", { message_id: id, reaction: "👍" })).toEqual(unknown!);
    const dora = await there.connect(fresh("dora"));
    for (const id of [message_id, "unknown"]) {
      expect((await refused(dora, "message.edit", { message_id: id, content: "x" }))[0]).toBe("forbidden");
      expect((await refused(dora, "message.delete", { message_id: id }))[0]).toBe("forbidden");
      expect((await refused(dora, "reaction.add", { message_id: id, reaction: "👍" }))[0]).toBe("forbidden");
      expect((await refused(dora, "reaction.remove", { message_id: id, reaction: "👍" }))[0]).toBe("forbidden");
    }
    expect(await inHistory(anna!, c, message_id)).toMatchObject({ content: "text" });
    expect(await inHistory(anna!, c, message_id)).not.toHaveProperty("edited_at");
  });

  test("[MSG2] a service edits and deletes anybody's messages, an admin deletes them", async () => {
    const c = fresh("c");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const service = await there.backend();
    const admin = await there.connect(fresh("root"), { roles: "admin" });
    const [first, second] = [await send(anna!, c), await send(anna!, c)];
    await service.ask("message.edit", { conversation_id: c, message_id: first, content: "moderated" });
    expect((await anna!.next("message.edited")).payload).toMatchObject({ content: "moderated" });
    const edit = await admin.request("message.edit", { conversation_id: c, message_id: first, content: "x" });
    expect(edit.payload.code).toBe("forbidden");
    await admin.ask("message.delete", { conversation_id: c, message_id: first });
    await service.ask("message.delete", { conversation_id: c, message_id: second });
    await service.ask("reaction.add", { conversation_id: c, message_id: await send(anna!, c), reaction: "👍" });
    await anna!.next("message.reaction");
    expect(anna!.all("message.deleted").map(({ payload }) => payload.message_id)).toEqual([first, second]);
    const unknown = await service.request("message.delete", { conversation_id: c, message_id: "unknown" });
    expect(unknown.payload.code).toBe("forbidden");
  });

  test("[MSG2] [MSG3] each field is checked", async () => {
    const c = fresh("c");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const message_id = await send(anna!, c);
    const good = { conversation_id: c, message_id, content: "x", reaction: "👍" };
    const ids = [undefined, "", "with space", "x".repeat(129), 7, null, ["list"]];
    const faults: [string, string, unknown[]][] = [
      ...["message.edit", "message.delete", "reaction.add", "reaction.remove"].flatMap(
        (type): [string, string, unknown[]][] => [
          [type, "conversation_id", ids],
          [type, "message_id", ids],
        ],
      ),
      ["message.edit", "content", [undefined, 7, null, ["list"], true]],
      ["reaction.add", "reaction", [undefined, "", 7, null, {}, "x".repeat(65), "ü".repeat(33), "a\u0000b", "\ud800"]],
      ["reaction.remove", "reaction", [undefined, "", "x".repeat(60_000)]],
    ];
    for (const [type, field, values] of faults) {
      const client = await here.connect((await anna!.next("connected")).payload.user_id);
      for (const value of values) {
        const { payload } = await client.request(type, { ...good, [field]: value });
        expect([type, payload.code, payload.field]).toEqual([type, "invalid_payload", `payload.${field}`]);
      }
      await client.close();
    }
    const large = await anna!.request("reaction.add", { ...good, reaction: "x".repeat(70_000) });
    expect(large.payload.code).toBe("message_too_large");
    await anna!.ask("message.edit", { ...good, content: "x".repeat(300_000) });
    expect((await inHistory(anna!, c, message_id)).content).toHaveLength(300_000);
    await anna!.ask("reaction.add", { ...good, reaction: "ü".repeat(32) });
  });

  test("[MSG3] twenty different reactions are a user's on a message, the next is limit_exceeded", async () => {
    const c = fresh("c");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const message_id = await send(anna!, c);
    for (let at = 0; at < 20; at++)
      await anna!.ask("reaction.add", { conversation_id: c, message_id, reaction: `r${at}` });
    const more = await anna!.request("reaction.add", { conversation_id: c, message_id, reaction: "r20" });
    expect(more.payload).toMatchObject({ code: "limit_exceeded", field: "payload.reaction" });
    expect(await anna!.ask("reaction.add", { conversation_id: c, message_id, reaction: "r3" })).toMatchObject({
      duplicate: true,
    });
  });
}

function describeReading(here: People, there: People): void {
  test("[MSG2] [LOG4] who comes back has what was changed meanwhile, once, and its messages as they are now", async () => {
    const c = fresh("c");
    const ben = fresh("ben");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const [away] = await there.gather(c, [ben]);
    const kept = await send(anna!, c, "before");
    await away!.next("message.new");
    const { cursor } = await away!.ask("ping");
    await away!.close();
    const [edited, deleted] = [await send(anna!, c, "first"), await send(anna!, c, "secret")];
    for (const content of ["second", "third"])
      await anna!.ask("message.edit", { conversation_id: c, message_id: edited, content });
    await anna!.ask("message.edit", { conversation_id: c, message_id: deleted, content: "other secret" });
    await anna!.ask("message.edit", { conversation_id: c, message_id: kept, content: "after" });
    await anna!.ask("reaction.add", { conversation_id: c, message_id: edited, reaction: "👍" });
    await anna!.ask("message.delete", { conversation_id: c, message_id: deleted });
    const back = await there.connect(ben);
    const { topics } = await back.ask("subscribe", { topics: [`conversation:${c}`], since: { cursor } });
    expect(topics[0]).toMatchObject({ recovered: true });
    // The cursor may be of before the first one, of which another node has told.
    const events = back.received.filter(
      ({ topic, type, payload }) =>
        topic === `conversation:${c}` && (type !== "message.new" || payload.message_id !== kept),
    );
    expect(events.map(({ type, payload }) => [type, payload.message_id, payload.content])).toEqual([
      ["message.new", edited, "third"],
      ["message.new", deleted, null],
      ["message.edited", edited, "third"],
      ["message.edited", kept, "after"],
      ["message.reaction", edited, undefined],
      ["message.deleted", deleted, undefined],
    ]);
    expect(events[0]!.payload.reactions).toMatchObject([{ reaction: "👍", count: 1 }]);
    expect(JSON.stringify(back.received)).not.toContain("secret");
  });

  test("[MSG2] of two who edit at once everybody ends with what the log has", async () => {
    const c = fresh("c");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const [ben] = await there.gather(c, [fresh("ben")]);
    const [one, other] = [await here.backend(), await there.backend()];
    const message_id = await send(anna!, c);
    const edits = Array.from({ length: 30 }, (_, at) =>
      (at % 2 === 0 ? one : other).ask("message.edit", { conversation_id: c, message_id, content: `edit ${at}` }),
    );
    const acks = await Promise.all(edits);
    expect(acks.map(({ seq }) => seq).toSorted((a, b) => a - b)).toEqual(edits.map((_, at) => at + 2));
    const last = `edit ${acks.findIndex(({ seq }) => seq === edits.length + 1)}`;
    for (const client of [anna!, ben!]) {
      await client.next("message.edited", (_, { seq }) => seq === edits.length + 1);
      expect(client.all("message.edited").at(-1)!.payload.content).toBe(last);
      expect(await inHistory(client, c, message_id)).toMatchObject({ content: last });
    }
    expect((await historyOf(ben!, c)).map(({ type }) => type)).toEqual(["message.new", "message.edited"]);
  });

  test("[MSG2] [MSG3] [LOG5] what changes while a client comes back leaves it with what the log has", async () => {
    const c = fresh("c");
    const ben = fresh("ben");
    const [anna, eve] = await here.gather(c, [fresh("anna"), fresh("eve")]);
    const [away] = await there.gather(c, [ben]);
    const { cursor } = await away!.ask("ping");
    await away!.close();
    // More than a page of a replay has, and of large ones less.
    const ids = await Promise.all(
      Array.from({ length: 260 }, (_, at) => send(anna!, c, `first ${at} ${"x".repeat(at % 10 === 0 ? 20_000 : 10)}`)),
    );
    const back = await there.connect(ben);
    const changes = ids.flatMap((message_id, at) => {
      const of = { conversation_id: c, message_id };
      if (at % 7 === 0) return [anna!.ask("message.delete", of)];
      if (at % 3 === 0) return [anna!.ask("message.edit", { ...of, content: `second ${at}` })];
      return at % 5 === 0 ? [eve!.ask("reaction.add", { ...of, reaction: "👍" })] : [];
    });
    await back.ask("subscribe", { topics: [`conversation:${c}`], since: { cursor } });
    await Promise.all(changes);
    const { message_id } = await anna!.ask("message.send", {
      conversation_id: c,
      client_message_id: "last",
      content: "last",
    });
    await back.next("message.new", (payload) => payload.message_id === message_id);
    const events = back.received.filter(({ topic }) => topic === `conversation:${c}`);
    const seqs = events.map(({ seq }) => seq!);
    expect(seqs).toEqual([...new Set(seqs)].toSorted((a, b) => a - b));
    expect(conversationOf(events)).toEqual(conversationOf(await allHistoryOf(back, c)));
  });

  test("[MSG2] [REC3] a deleted message is not unread", async () => {
    const c = fresh("c");
    const ben = fresh("ben");
    const [anna] = await here.gather(c, [fresh("anna")]);
    await there.gather(c, [ben]);
    const ids = [await send(anna!, c), await send(anna!, c)];
    await anna!.ask("message.delete", { conversation_id: c, message_id: ids[0] });
    const laptop = await there.connect(ben);
    const { topics } = await laptop.ask("subscribe", { topics: [`conversation:${c}`] });
    expect(topics[0].snapshot).toMatchObject({ unread: 1 });
    const { unread, up_to_seq } = await laptop.ask("mark.read", { conversation_id: c, message_ids: [ids[1]] });
    expect([unread, up_to_seq]).toEqual([0, 2]);
  });

  test("[MSG2] [BAK2] the feed of the whole log has the events, and messages as they are when they are read", async () => {
    const c = fresh("c");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const feed = await there.backend();
    const { cursor } = await feed.ask("ping");
    const message_id = await send(anna!, c, "secret");
    await anna!.ask("message.edit", { conversation_id: c, message_id, content: "text" });
    await anna!.ask("message.delete", { conversation_id: c, message_id });
    await feed.ask("subscribe", { topics: ["log"], since: { cursor } });
    await feed.next("message.deleted", (payload) => payload.message_id === message_id);
    const events = feed.received.filter(({ topic }) => topic === `conversation:${c}`);
    expect(events.map(({ type, payload }) => [type, payload.content])).toEqual([
      ["message.new", null],
      ["message.deleted", undefined],
    ]);
    expect((await feed.next("message.new", (payload) => payload.message_id === message_id)).payload.content).toBe(null);
  });
}

function describeBackends(here: People, there: People): void {
  test("[MSG2] [MSG3] [PUB1] what a backend publishes changes the message as the requests do", async () => {
    const c = fresh("c");
    const [anna] = await here.gather(c, [fresh("anna")]);
    const backend = await there.backend();
    const message_id = await send(anna!, c, "secret");
    const publish = (type: string, payload: object, rest: object = {}) =>
      backend.request("publish", { conversation_id: c, type, payload: { message_id, ...payload }, ...rest });
    const edit = await publish("message.edited", { content: "moderated" }, { event_key: "e1" });
    expect(edit.payload.published).toEqual([
      { topic: `conversation:${c}`, seq: 2, position: expect.any(Number), duplicate: false },
    ]);
    expect((await anna!.next("message.edited")).payload).toEqual({
      conversation_id: c,
      message_id,
      content: "moderated",
      edited_at: moment,
    });
    expect(await inHistory(anna!, c, message_id)).toMatchObject({ content: "moderated", edited_at: moment });
    const again = await publish("message.edited", { content: "moderated" }, { event_key: "e1" });
    expect(again.payload.published).toMatchObject([{ seq: 2, duplicate: true }]);
    expect((await publish("message.edited", { content: "other" }, { event_key: "e1" })).payload.code).toBe("conflict");
    expect((await publish("message.edited", { content: "moderated" })).payload.published).toEqual([
      { topic: `conversation:${c}`, duplicate: true },
    ]);
    await publish("message.reaction", { user_id: "bot", reaction: "👍", added: true });
    expect((await anna!.next("message.reaction")).payload).toMatchObject({ user_id: "bot", at: moment });
    await publish("message.deleted", { deleted_by: "moderator" });
    expect((await anna!.next("message.deleted")).payload).toMatchObject({
      deleted_by: "moderator",
      deleted_at: moment,
    });
    expect(await inHistory(anna!, c, message_id)).toMatchObject({ content: null });
    expect((await publish("message.edited", { content: "x" })).payload).toMatchObject({
      code: "conflict",
      field: "payload.payload.message_id",
    });
    expect((await publish("message.deleted", { message_id: "unknown" })).payload.code).toBe("forbidden");
  });

  test("[MSG2] [PUB1] it goes to a conversation and is logged; a new message says nothing of what becomes of it", async () => {
    const c = fresh("c");
    const message_id = fresh("own");
    const backend = await here.backend();
    const refused = async (payload: object) => {
      const client = await there.backend();
      const { payload: error } = await client.request("publish", payload);
      return [error.code, error.field];
    };
    const deletion = { type: "message.deleted", payload: { message_id, conversation_id: c } };
    expect(await refused({ ...deletion, user_ids: ["anna"] })).toEqual(["invalid_payload", "payload.type"]);
    expect(await refused({ ...deletion, topic: "user:anna" })).toEqual(["invalid_payload", "payload.type"]);
    expect(await refused({ ...deletion, all: true })).toEqual(["invalid_payload", "payload.type"]);
    expect(await refused({ ...deletion, conversation_id: c, logged: false })).toEqual([
      "invalid_payload",
      "payload.logged",
    ]);
    const reaction = { conversation_id: c, type: "message.reaction" };
    expect(
      await refused({ ...reaction, payload: { message_id, user_id: "a", reaction: "x".repeat(65), added: true } }),
    ).toEqual(["invalid_payload", "payload.payload.reaction"]);
    const own = { sender_id: "shop", content: "text" };
    for (const [field, value] of Object.entries({
      content: null,
      deleted_at: "2026-01-02T03:04:05.678Z",
      reactions: [],
    }))
      expect(await refused({ conversation_id: c, type: "message.new", payload: { ...own, [field]: value } })).toEqual([
        "invalid_payload",
        `payload.payload.${field}`,
      ]);
    // Sent without waiting: both are in one batch.
    const requests = [
      { type: "message.new", payload: { ...own, message_id } },
      { type: "message.edited", payload: { message_id, content: "edit" } },
      { type: "message.reaction", payload: { message_id, user_id: "bot", reaction: "👍", added: true } },
    ].map((request) => backend.ask("publish", { conversation_id: c, ...request }));
    await Promise.all(requests);
    const [anna] = await here.gather(c, [fresh("anna")]);
    expect(await inHistory(anna!, c, message_id)).toMatchObject({ content: "edit", reactions: [{ count: 1 }] });
  });
}

let alone: Service;
describeChanges(
  "on SQLite",
  async () => {
    alone = await startService();
    return [alone];
  },
  () => alone?.stop(),
);

let server: PostgresServer;
let redis: RedisServer;
let nodes: Service[] = [];
describeChanges(
  "on PostgreSQL, on two nodes",
  async () => {
    [server, redis] = await Promise.all([startPostgres(), startRedis()]);
    const url = await server.newDatabase();
    await migrateStorage({ url, lockTimeoutMs: 10_000 });
    const settings = { STORAGE__URL: url, CLUSTER__URL: redis.url };
    nodes = await Promise.all([startService({ settings }), startService({ settings })]);
    return nodes;
  },
  async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await Promise.all([server?.stop(), redis?.stop()]);
  },
);
