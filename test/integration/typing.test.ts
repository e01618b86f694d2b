/** Proves who is seen typing, and that nobody is ever left typing, over real sockets. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

const typingIn = (client: Client) =>
  client.received.filter(({ type }) => type.startsWith("typing.")).map(({ type, payload }) => [type, payload.user_id]);

describe("the usual times", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService();
  });
  afterAll(() => service.stop());
  const { connect } = createPeople(() => service.url);

  /** Two users and a second device of the first, all on the conversation's typing topic. */
  async function scene() {
    const c = fresh("c");
    const [anna, ben] = [fresh("anna"), fresh("ben")];
    const clients = await Promise.all([connect(anna), connect(anna), connect(ben)]);
    for (const client of clients) await client.ask("subscribe", { topics: [`typing:${c}`, `conversation:${c}`] });
    const [phone, laptop, other] = clients as [Client, Client, Client];
    return { c, anna, ben, phone, laptop, other };
  }

  test("[TYP1] start and stop go to the conversation's typing subscribers but the sender's connection", async () => {
    const { c, anna, phone, laptop, other } = await scene();
    const bystander = await connect(fresh("carl"));
    await bystander.ask("subscribe", { topics: [`conversation:${c}`] });
    const before = Date.now();
    expect(await phone.ask("typing.start", { conversation_id: c })).toEqual({});
    expect(await phone.ask("typing.stop", { conversation_id: c })).toEqual({});
    for (const client of [laptop, other]) {
      const { payload, topic, seq } = await client.next("typing.start");
      expect(payload).toEqual({ user_id: anna, conversation_id: c, expires_at: expect.any(String) });
      expect(Date.parse(payload.expires_at)).toBeGreaterThanOrEqual(before + 10_000);
      expect([topic, seq]).toEqual([undefined, undefined]);
      expect((await client.next("typing.stop")).payload).toMatchObject({ user_id: anna, conversation_id: c });
    }
    await Promise.all([phone.settled(), bystander.settled()]);
    expect([typingIn(phone), typingIn(bystander)]).toEqual([[], []]);
    // Stopping what was not started says nothing.
    await phone.ask("typing.stop", { conversation_id: c });
    await other.settled();
    expect(typingIn(other)).toHaveLength(2);
  });

  test("[TYP2] repeats renew it and are relayed sparingly", async () => {
    const { c, anna, phone, other } = await scene();
    for (let n = 0; n < 20; n++) await phone.ask("typing.start", { conversation_id: c });
    await phone.ask("typing.stop", { conversation_id: c });
    await phone.ask("typing.start", { conversation_id: c });
    await other.settled();
    expect(typingIn(other)).toEqual([
      ["typing.start", anna],
      ["typing.stop", anna],
      ["typing.start", anna],
    ]);
  });

  test("[TYP2] message.send, unsubscribe and disconnect end it", async () => {
    for (const end of [
      async (client: Client, c: string) => void (await sendAll(client, c, ["done"])),
      async (client: Client, c: string) => void (await client.ask("unsubscribe", { topics: [`typing:${c}`] })),
      async (client: Client) => void (await client.close(1000)),
      async (client: Client) => (client.socket as unknown as { terminate(): void }).terminate(),
    ]) {
      const { c, anna, phone, other } = await scene();
      await phone.ask("typing.start", { conversation_id: c });
      await end(phone, c);
      await other.next("typing.stop");
      expect(typingIn(other)).toEqual([
        ["typing.start", anna],
        ["typing.stop", anna],
      ]);
    }
  });

  test("[TYP2] what one device ends, it does not end for another that typed after it", async () => {
    const { c, anna, phone, laptop, other } = await scene();
    await phone.ask("typing.start", { conversation_id: c });
    await laptop.ask("typing.start", { conversation_id: c });
    await phone.close();
    const ben = await connect(fresh("late"));
    const { topics } = await ben.ask("subscribe", { topics: [`typing:${c}`] });
    expect(topics[0].snapshot.typing).toMatchObject([{ user_id: anna }]);
    await laptop.close();
    await other.next("typing.stop");
    expect(typingIn(other)).toHaveLength(2);
  });

  test("[TYP2] a device that takes over from another one of its user is told of the end, as it was of the start", async () => {
    const { c, anna, phone, laptop } = await scene();
    await phone.ask("typing.start", { conversation_id: c });
    await laptop.next("typing.start");
    await laptop.ask("typing.start", { conversation_id: c });
    await laptop.ask("typing.stop", { conversation_id: c });
    expect(typingIn(laptop)).toEqual([
      ["typing.start", anna],
      ["typing.stop", anna],
    ]);
  });

  test("[TYP2] subscribed carries a snapshot of those who type, without oneself", async () => {
    const { c, anna, phone, laptop, other } = await scene();
    await phone.ask("typing.start", { conversation_id: c });
    const snapshotFor = async (client: Client) => {
      await client.ask("unsubscribe", { topics: [`typing:${c}`] });
      return (await client.ask("subscribe", { topics: [`typing:${c}`] })).topics;
    };
    const entry = { user_id: anna, conversation_id: c, expires_at: expect.any(String) };
    expect(await snapshotFor(other)).toEqual([{ topic: `typing:${c}`, snapshot: { typing: [entry] } }]);
    expect(await snapshotFor(laptop)).toEqual([{ topic: `typing:${c}`, snapshot: { typing: [] } }]);
    await phone.ask("typing.stop", { conversation_id: c });
    expect((await snapshotFor(other))[0].snapshot).toEqual({ typing: [] });
  });
});

describe("short times", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { TYPING__TIMEOUT: "600ms", TYPING__RELAY_INTERVAL: "200ms" } });
  });
  afterAll(() => service.stop());
  const { connect } = createPeople(() => service.url);

  test("[TYP2] the server ends it by itself, a while after the last start", async () => {
    const c = fresh("c");
    const [anna, ben] = await Promise.all([connect(fresh("anna")), connect(fresh("ben"))]);
    await ben.ask("subscribe", { topics: [`typing:${c}`] });
    await anna.ask("typing.start", { conversation_id: c });
    // Renewed without a pause until it has been relayed three times more: longer than it would last by itself.
    while (ben.all("typing.start").length < 4) await anna.ask("typing.start", { conversation_id: c });
    expect(ben.all("typing.stop")).toEqual([]);
    await ben.next("typing.stop");
    expect(ben.all("typing.stop")).toHaveLength(1);
    const { topics } = await ben.ask("subscribe", { topics: [`typing:${c}`] });
    expect(topics[0].snapshot).toEqual({ typing: [] });
  });
});
