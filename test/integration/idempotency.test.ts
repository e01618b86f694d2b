/** Proves that what is appended once under a key never stands for what somebody else says under theirs [LOG2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(30_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());
const { connect, gather, backend } = createPeople(() => service.url);

test("[LOG2] [MSG1] users whose names go on where another's ends send messages of their own", async () => {
  const [c, name] = [fresh("c"), fresh("anna")];
  const [anna, other] = await gather(c, [name, `${name}:phone`]);
  const send = (client: typeof anna, client_message_id: string) =>
    client!.ask("message.send", { conversation_id: c, client_message_id, content: "hello" });
  const first = await send(anna, "phone:1");
  expect(await send(other, "1")).toMatchObject({ duplicate: false });
  expect(await send(anna, "phone:1")).toEqual({ ...first, duplicate: true });
});

test("[LOG2] [PUB1] so do events of topics, and of publishers", async () => {
  const [name, publisher] = [fresh("ben"), fresh("shop")];
  const ben = await connect(name);
  const phone = await connect(`${name}:phone`);
  const shop = await backend({ user_id: publisher });
  const send = (user: string, event_key: string) =>
    shop.ask("publish", { user_ids: [user], type: "order.paid", payload: {}, event_key });
  for (const [user, key] of [
    [name, "phone:1"],
    [`${name}:phone`, "1"],
  ] as const) {
    expect((await send(user, key)).published).toMatchObject([{ duplicate: false }]);
    expect((await send(user, key)).published).toMatchObject([{ duplicate: true }]);
  }
  for (const client of [ben, phone]) expect(await client.next("order.paid")).toMatchObject({ seq: 1 });
});

test("[LOG2] [REC2] so do receipts", async () => {
  const [c, user] = [fresh("c"), fresh("carl")];
  for (const [conversation, reader] of [
    [c, `x:${user}`],
    [`${c}:x`, user],
  ] as const) {
    const [anna, carl] = await gather(conversation, [fresh("anna"), reader]);
    await anna!.ask("message.send", { conversation_id: conversation, client_message_id: fresh("m"), content: "hello" });
    await carl!.ask("mark.read", { conversation_id: conversation, up_to_seq: 1 });
    expect(await anna!.next("message.read")).toMatchObject({ payload: { user_id: reader, up_to_seq: 1 } });
  }
});
