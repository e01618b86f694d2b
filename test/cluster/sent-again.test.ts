/** Proves that what was taken is answered as the first time when it is sent again, also where its sender may not send it any more [LOG2] [MSG5]. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { subprotocols } from "../../src/protocol/limits.ts";
import type { Client } from "../support/client.ts";
import { grounds, standFor } from "../support/grounds.ts";
import { fresh, sendAll } from "../support/people.ts";

setDefaultTimeout(60_000);

const settings = { DIRECTORY__MODE: "managed", EVENTS: "poll.vote=logged,poll.closed=logged,recording=passing" };

describe.each(grounds)("%s", (_, stand) => {
  const { connect } = standFor(stand, settings);

  /** Anna, who sends, and Ben, who listens, both members; and what an operator may take from Anna. */
  async function scene() {
    const [c, anna, ben] = [fresh("c"), fresh("anna"), fresh("ben")];
    const admin = await connect("root", { roles: "admin" });
    await admin.ask("admin.users.upsert", { user_ids: [anna, ben] });
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: [anna, ben] });
    const [phone, other] = [await connect(anna), await connect(ben)];
    for (const client of [phone, other]) await client.ask("subscribe", { topics: [`conversation:${c}`] });
    const taken = {
      "the right to write": async () => {
        await admin.ask("admin.members.update", { conversation_id: c, user_id: anna, may_write: false });
        await phone.next("member.updated", ({ may_write }) => !may_write);
      },
      membership: async () => {
        await admin.ask("admin.members.remove", { conversation_id: c, user_ids: [anna] });
        await phone.next("unsubscribed");
      },
    };
    return { c, anna, phone, other, taken };
  }

  const requests = (c: string): [type: string, payload: Record<string, unknown>, otherwise: object[]][] => [
    [
      "message.send",
      { conversation_id: c, client_message_id: fresh("m"), content: { text: "hello", n: 1 } },
      [{ content: "something else" }],
    ],
    [
      "event.send",
      { conversation_id: c, type: "poll.vote", client_event_id: fresh("v"), payload: { option: 2 } },
      [{ payload: { option: 3 } }, { type: "poll.closed" }],
    ],
  ];
  const keyOf = (payload: object) => ("client_event_id" in payload ? "client_event_id" : "client_message_id");
  /** All that a client can be told of a refusal. */
  const refusalOf = async (client: Client, type: string, payload: object) => {
    const answer = await client.request(type, payload);
    expect(answer.payload).toMatchObject({ code: "forbidden", retryable: false });
    return answer.payload;
  };

  describe.each(["the right to write", "membership"] as const)("whoever has lost %s", (right) => {
    test("[LOG2] [MSG5] is answered as the first time on every node and in every format, and nobody hears of it", async () => {
      const { c, anna, phone, other, taken } = await scene();
      const sent: { type: string; payload: object; first: Record<string, unknown> }[] = [];
      for (const [type, payload] of requests(c)) sent.push({ type, payload, first: await phone.ask(type, payload) });
      await taken[right]();
      const laptops = [await connect(anna), await connect(anna, {}, { protocols: [subprotocols.protobuf] })];
      for (const { type, payload, first } of sent) {
        expect(first.duplicate).toBe(false);
        for (const client of [phone, ...laptops])
          expect(await client.ask(type, payload)).toEqual({ ...first, duplicate: true });
      }
      await other.settled();
      expect(other.received.filter(({ seq }) => seq !== undefined).map(({ seq }) => seq)).toEqual([1, 2]);
    });

    test("[LOG2] [MSG5] is told of something else under the key, and refused what it has not sent", async () => {
      const { c, phone, other, taken } = await scene();
      const sent = requests(c);
      for (const [type, payload] of sent) await phone.ask(type, payload);
      const bens = requests(c);
      for (const [type, payload] of bens) await other.ask(type, payload);
      await taken[right]();
      for (const [type, payload, otherwise] of sent)
        for (const change of otherwise)
          expect((await phone.request(type, { ...payload, ...change })).payload).toMatchObject({
            code: "conflict",
            field: `payload.${keyOf(payload)}`,
          });
      // Neither under a key that nobody has used, nor under one of somebody else's there: they all look the same; nor elsewhere.
      for (const [index, [type, payload]] of sent.entries()) {
        const refusal = await refusalOf(phone, type, { ...payload, [keyOf(payload)]: fresh("k") });
        const [, theirs] = bens[index]!;
        expect(await refusalOf(phone, type, theirs)).toEqual(refusal);
        await refusalOf(phone, type, { ...payload, conversation_id: fresh("c") });
      }
      await refusalOf(phone, "event.send", { conversation_id: c, type: "poll.vote", payload: {} });
      const passing = { conversation_id: c, type: "recording", payload: {}, client_event_id: fresh("v") };
      await refusalOf(phone, "event.send", passing);
      await other.settled();
      expect(other.all("poll.vote")).toHaveLength(1);
      expect(other.all("message.new")).toHaveLength(1);
    });

    test("[LOG2] [ENV7] has both in their places among what is sent without waiting", async () => {
      const { c, phone, taken } = await scene();
      const [[type, payload]] = requests(c) as [[string, object, object[]]];
      const first = await phone.ask(type, payload);
      await taken[right]();
      const never = { ...payload, client_message_id: fresh("m") };
      const replies = await Promise.all([payload, never, payload, never].map((it) => phone.request(type, it)));
      expect(replies.map((reply) => reply.type)).toEqual(["ack", "error", "ack", "error"]);
      expect(phone.received.filter((it) => replies.includes(it))).toEqual(replies);
      for (const reply of [replies[0], replies[2]]) expect(reply!.payload).toEqual({ ...first, duplicate: true });
    });
  });

  test("[LOG2] [MSG2] a message that was deleted meanwhile is the same one still, whatever is said under its key", async () => {
    const { c, phone, taken } = await scene();
    const [[type, payload]] = requests(c) as [[string, object, object[]]];
    const first = await phone.ask(type, payload);
    await phone.ask("message.delete", { conversation_id: c, message_id: first.message_id });
    await taken.membership();
    for (const content of ["hello", "else"])
      expect(await phone.ask(type, { ...payload, content })).toEqual({ ...first, duplicate: true });
  });

  test("[MSG5] [MSG2] edits and reactions have no key, and are refused whether they were made or not", async () => {
    const { c, phone, taken } = await scene();
    const [{ message_id }] = (await sendAll(phone, c, ["mine"])) as [{ message_id: string }];
    const changes: [string, object][] = [
      ["message.edit", { content: "changed" }],
      ["reaction.add", { reaction: "👍" }],
    ];
    for (const [type, change] of changes) await phone.ask(type, { conversation_id: c, message_id, ...change });
    await taken["the right to write"]();
    for (const [type, change] of changes) await refusalOf(phone, type, { conversation_id: c, message_id, ...change });
  });
});
