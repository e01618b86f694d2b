/** Proves receipts over real sockets: watermarks, what others are told of them, and one's own place. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());
const { connect, gather } = createPeople(() => service.url);

const userOf = async (client: Client): Promise<string> => (await client.next("connected")).payload.user_id;
const receiptsIn = (client: Client) => [...client.all("message.delivered"), ...client.all("message.read")];

/** One's own place; the rest of the snapshot is the list's. */
async function placeIn(client: Client, conversationId: string) {
  const { topics } = await client.ask("subscribe", { topics: [`conversation:${conversationId}`] });
  const { read_seq, delivered_seq, unread } = topics[0].snapshot;
  return { read_seq, delivered_seq, unread };
}

/** A conversation with messages of the first to the second and third. */
async function conversationWith(count: number) {
  const c = fresh("c");
  const [anna, ben, carl] = (await gather(c, [fresh("anna"), fresh("ben"), fresh("carl")])) as [Client, Client, Client];
  const acks = await sendAll(anna, c, Array(count).fill("hello"));
  return { c, anna, ben, carl, ids: acks.map(({ message_id }) => message_id as string) };
}

describe("marking", () => {
  test("[REC1] [REC2] by ids or by number: the watermark is acknowledged, and everybody else is told", async () => {
    const { c, anna, ben, carl, ids } = await conversationWith(4);
    expect(await ben.ask("mark.delivered", { conversation_id: c, message_ids: ids.slice(0, 2) })).toEqual({
      up_to_seq: 2,
      unread: 4,
      as_of_seq: 4,
    });
    const user_id = await userOf(ben);
    for (const other of [anna, carl]) {
      expect(await other.next("message.delivered")).toMatchObject({
        topic: `conversation:${c}`,
        seq: 5,
        position: expect.any(Number),
        payload: { conversation_id: c, user_id, message_ids: ids.slice(0, 2), up_to_seq: 2, at: expect.any(String) },
      });
    }
    expect(await ben.ask("mark.read", { conversation_id: c, up_to_seq: 3 })).toMatchObject({ up_to_seq: 3 });
    // The newly covered ones only, and read implies delivered: there is no event for that.
    const { payload } = await anna.next("message.read");
    expect(payload).toMatchObject({ user_id, message_ids: ids.slice(0, 3), up_to_seq: 3 });
    await ben.settled();
    expect(receiptsIn(ben)).toEqual([]);
    expect(await placeIn(ben, c)).toEqual({ read_seq: 3, delivered_seq: 3, unread: 1 });
    expect(anna.all("message.delivered")).toHaveLength(1);
  });

  test("[REC1] forward only: unknown, own and older ids are ignored; a no-op emits nothing and is acknowledged", async () => {
    const { c, anna, ben, carl, ids } = await conversationWith(3);
    const [own] = await sendAll(ben, c, ["mine"]);
    const mark = (marks: object) => ben.ask("mark.read", { conversation_id: c, ...marks });
    expect(await mark({ message_ids: ["unknown", own.message_id] })).toMatchObject({ up_to_seq: 0 });
    expect(await mark({ message_ids: [ids[1]] })).toMatchObject({ up_to_seq: 2 });
    await carl.next("message.read");
    expect(await mark({ message_ids: [ids[0], own.message_id, "unknown"] })).toMatchObject({ up_to_seq: 2 });
    expect(await mark({ up_to_seq: 1 })).toMatchObject({ up_to_seq: 2 });
    expect(await mark({ up_to_seq: 0 })).toMatchObject({ up_to_seq: 2 });
    expect(await ben.ask("mark.delivered", { conversation_id: c, message_ids: [ids[0]] })).toMatchObject({
      up_to_seq: 2,
    });
    // Another receipt of the same user comes after whatever those would have caused.
    await mark({ message_ids: [ids[2]] });
    await carl.next("message.read", ({ up_to_seq }) => up_to_seq === 3);
    expect(receiptsIn(carl).map(({ payload }) => payload.message_ids)).toEqual([ids.slice(0, 2), ids.slice(2)]);
    await anna.settled();
    expect(receiptsIn(anna)).toHaveLength(2);
  });

  test("[REC1] a number beyond the end is cut to it; what covers nobody's message tells nobody", async () => {
    const { c, anna, ben, carl, ids } = await conversationWith(1);
    expect(await ben.ask("mark.read", { conversation_id: c, up_to_seq: 1_000 })).toMatchObject({ up_to_seq: 1 });
    await anna.next("message.read");
    // The receipt itself is an event of the conversation; marking it read must not cause another one, and so on.
    expect(await ben.ask("mark.read", { conversation_id: c, up_to_seq: 2 })).toMatchObject({ up_to_seq: 2 });
    expect(await anna.ask("mark.read", { conversation_id: c, up_to_seq: 2 })).toMatchObject({ up_to_seq: 2 });
    // Its window opens last, so that it is the last to be told.
    await carl.ask("mark.read", { conversation_id: c, up_to_seq: 1 });
    const user_id = await userOf(carl);
    for (const other of [anna, ben]) await other.next("message.read", (it) => it.user_id === user_id);
    expect(receiptsIn(anna).map(({ payload }) => payload.message_ids)).toEqual([ids, ids]);
    expect(receiptsIn(ben).map(({ seq }) => seq)).toEqual([3]);
    expect(await placeIn(ben, c)).toMatchObject({ read_seq: 2, unread: 0 });
  });

  test("[REC1] at most 500 ids, and either ids or a number", async () => {
    const { c, ben } = await conversationWith(1);
    const many = (count: number) => Array.from({ length: count }, (_, n) => `m${n}`);
    expect(await ben.ask("mark.read", { conversation_id: c, message_ids: many(500) })).toMatchObject({ up_to_seq: 0 });
    for (const marks of [
      { message_ids: many(501) },
      { message_ids: [] },
      {},
      { message_ids: ["m"], up_to_seq: 1 },
      { up_to_seq: -1 },
      { up_to_seq: 1.5 },
    ]) {
      const { payload } = await ben.request("mark.delivered", { conversation_id: c, ...marks });
      expect(payload.code).toBe("invalid_payload");
    }
  });
});

describe("telling", () => {
  test("[REC2] receipts of one conversation and user are coalesced", async () => {
    const { c, anna, ben, carl, ids } = await conversationWith(50);
    await Promise.all(ids.map((id) => ben.ask("mark.delivered", { conversation_id: c, message_ids: [id] })));
    await Promise.all(ids.map((id) => carl.ask("mark.read", { conversation_id: c, message_ids: [id] })));
    const delivered = await anna.next("message.delivered", ({ up_to_seq }) => up_to_seq === 50);
    const read = await anna.next("message.read", ({ up_to_seq }) => up_to_seq === 50);
    // On a busy machine they may take longer than one window; there are still fewer events than requests.
    expect(receiptsIn(anna).length).toBeLessThan(50);
    expect(read.payload.user_id).toBe(await userOf(carl));
    expect(delivered.payload.user_id).toBe(await userOf(ben));
    const told = anna.all("message.read").flatMap(({ payload }) => payload.message_ids);
    expect(told).toEqual(ids);
  });

  test("[REC2] read within the window after delivered is the only event", async () => {
    const { c, anna, ben, ids } = await conversationWith(2);
    await ben.ask("mark.delivered", { conversation_id: c, message_ids: ids });
    await ben.ask("mark.read", { conversation_id: c, message_ids: ids });
    await anna.next("message.read");
    await anna.settled();
    expect(anna.all("message.delivered")).toEqual([]);
  });

  test("[REC2] a private read reaches only the reader's own devices", async () => {
    const { c, anna, ben, carl, ids } = await conversationWith(2);
    const user = await userOf(ben);
    const laptop = await connect(user);
    await ben.ask("mark.read", { conversation_id: c, message_ids: [ids[0]], private: true });
    const told = await laptop.next("message.read");
    expect(told).toMatchObject({
      topic: `user:${user}`,
      payload: { conversation_id: c, user_id: user, message_ids: [ids[0]], up_to_seq: 1, private: true },
    });
    expect(await placeIn(laptop, c)).toEqual({ read_seq: 1, delivered_seq: 1, unread: 1 });
    // A public one later tells the others of everything that they do not know yet.
    await ben.ask("mark.read", { conversation_id: c, message_ids: [ids[1]] });
    for (const other of [anna, carl]) {
      expect((await other.next("message.read")).payload).toMatchObject({ message_ids: ids, up_to_seq: 2 });
      expect(other.all("message.read")).toHaveLength(1);
    }
    expect(receiptsIn(ben)).toEqual([]);
  });

  test("[REC2] a receipt that a crash left untold is told by the next start", async () => {
    const first = await startService({ settings: { MESSAGES__RECEIPT_WINDOW: "60s" } });
    let second: Service | undefined;
    try {
      const at = (url: string, user_id: string) => Client.connect(url, { query: { user_id } });
      const [anna, ben] = [await at(first.url, "anna"), await at(first.url, "ben")];
      await ben.ask("subscribe", { topics: ["conversation:c1"] });
      const [{ message_id }] = await sendAll(anna, "c1", ["hello"]);
      expect(await ben.ask("mark.read", { conversation_id: "c1", up_to_seq: 1 })).toMatchObject({ up_to_seq: 1 });
      await first.kill();
      second = await startService({ folder: first.folder });
      const back = await at(second.url, "anna");
      await back.ask("subscribe", { topics: ["conversation:c1"], since: "acked" });
      expect((await back.next("message.read")).payload).toMatchObject({ user_id: "ben", message_ids: [message_id] });
    } finally {
      await (second ?? first).stop();
    }
  });
});

describe("one's own place", () => {
  test("[REC3] subscribed carries read_seq, delivered_seq and how many messages of others are unread", async () => {
    const { c, anna, ben, ids } = await conversationWith(5);
    await sendAll(ben, c, ["mine"]);
    expect(await placeIn(ben, c)).toEqual({ read_seq: 0, delivered_seq: 0, unread: 5 });
    expect(await placeIn(anna, c)).toEqual({ read_seq: 0, delivered_seq: 0, unread: 1 });
    await ben.ask("mark.delivered", { conversation_id: c, message_ids: ids });
    await ben.ask("mark.read", { conversation_id: c, message_ids: ids.slice(0, 2) });
    // Receipts are events of the conversation, but nobody has to read them.
    await anna.next("message.read");
    const laptop = await connect(await userOf(ben));
    expect(await placeIn(laptop, c)).toEqual({ read_seq: 2, delivered_seq: 5, unread: 3 });
    expect(await placeIn(laptop, fresh("c"))).toEqual({ read_seq: 0, delivered_seq: 0, unread: 0 });
  });

  test("[REC3] every reply to a mark says what is unread then", async () => {
    const { c, ben, ids } = await conversationWith(4);
    const mark = async (type: string, payload: object) =>
      (await ben.ask(type, { conversation_id: c, ...payload })).unread;
    expect(await mark("mark.delivered", { up_to_seq: 4 })).toBe(4);
    expect(await mark("mark.read", { message_ids: [ids[0]] })).toBe(3);
    expect(await mark("mark.read", { message_ids: [ids[2]], private: true })).toBe(1);
    expect(await mark("mark.read", { up_to_seq: 1 })).toBe(1);
    expect(await mark("mark.read", { up_to_seq: 4 })).toBe(0);
  });

  test("[REC3] who joins by first use, or is added, has read what was there before", async () => {
    const { c, anna } = await conversationWith(3);
    const late = await connect(fresh("late"));
    expect(await placeIn(late, c)).toEqual({ read_seq: 3, delivered_seq: 3, unread: 0 });
    await sendAll(anna, c, ["welcome"]);
    expect(await placeIn(late, c)).toEqual({ read_seq: 3, delivered_seq: 3, unread: 1 });
  });
});
