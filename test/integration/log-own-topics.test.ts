/** Proves that a backend's own topics and the feed of the whole log do not say the same twice, and leave nothing out [LOG3] [BAK2]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { createPeople, fresh, sendAll } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";

setDefaultTimeout(60_000);

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());
const { connect, backend } = createPeople(() => service.url);

const asService = { roles: "service" };
const placesOf = ({ received }: Client) =>
  received.filter(({ position }) => position !== undefined).map(({ topic, seq }) => `${topic} ${seq}`);

/** Somebody who publishes, and the cursor before any of it. */
async function start() {
  const user = fresh("robot");
  const shop = await backend();
  const { cursor } = await shop.ask("ping");
  const note = (from = shop, more: object = {}) =>
    from.ask("publish", { user_ids: [user], type: "app.note", payload: {}, ...more });
  const named = (...numbers: number[]) => numbers.map((seq) => `user:${user} ${seq}`);
  /** The feed is level with the log once it has the event that is logged last. */
  const isLevel = async (reader: Client) => {
    const [ack] = await sendAll(shop, fresh("c"), ["last"]);
    await reader.find(({ topic, seq }) => topic === ack.topic && seq === ack.seq);
    return placesOf(reader).filter((place) => !place.startsWith("conversation:"));
  };
  return { user, shop, cursor, note, named, isLevel };
}

test("[LOG3] [BAK2] what was replayed of a backend's own topics is not sent again by the feed from the same place", async () => {
  const { user, shop, cursor, note, named, isLevel } = await start();
  for (let n = 0; n < 3; n++) await note();
  const [ack] = await sendAll(shop, fresh("c"), ["between"]);
  await note();
  const reader = await connect(user, { ...asService, since: cursor });
  expect(placesOf(reader)).toEqual(named(1, 2, 3, 4));
  await reader.ask("subscribe", { topics: ["log"], since: { cursor } });
  await note();
  expect(await isLevel(reader)).toEqual(named(1, 2, 3, 4, 5));
  expect(placesOf(reader)).toContain(`${ack.topic} 1`);
});

test("[LOG3] [BAK2] what came live is not sent again, and what was before it is", async () => {
  const { user, cursor, note, named, isLevel } = await start();
  for (let n = 0; n < 3; n++) await note();
  const reader = await connect(user, asService);
  await note();
  await reader.find(({ seq }) => seq === 4);
  // It came before the feed began; what is older comes as the feed comes to it.
  await reader.ask("subscribe", { topics: ["log"], since: { cursor } });
  await note();
  expect(await isLevel(reader)).toEqual(named(4, 1, 2, 3, 5));
  // A reader that asks for it all anew is given it all.
  await reader.ask("unsubscribe", { topics: ["log"] });
  await reader.ask("subscribe", { topics: ["log"], since: { cursor } });
  expect(await isLevel(reader)).toEqual(named(4, 1, 2, 3, 5, 1, 2, 3, 4, 5));
});

test("[LOG3] [BAK2] what this connection or device was left out of comes by the feed", async () => {
  const { user, cursor, note, named, isLevel } = await start();
  const reader = await connect(user, { ...asService, device_id: "archive" });
  await note();
  await note(reader);
  await note(reader);
  await note();
  await reader.find(({ seq }) => seq === 4);
  const { published } = await note(undefined, { except_device: "archive" });
  expect(published[0].seq).toBe(5);
  expect(placesOf(reader)).toEqual(named(1, 4));
  await reader.ask("subscribe", { topics: ["log"], since: { cursor } });
  expect(await isLevel(reader)).toEqual(named(1, 4, 2, 3, 5));
});

test("[LOG3] [BAK2] what came while its own topic was left comes by the feed, and nothing else of it", async () => {
  const { user, cursor, note, named, isLevel } = await start();
  const reader = await connect(user, asService);
  await note();
  await reader.find(({ seq }) => seq === 1);
  await reader.ask("unsubscribe", { topics: ["user"] });
  await note();
  await reader.ask("subscribe", { topics: ["user"] });
  await note();
  await reader.find(({ seq }) => seq === 3);
  await reader.ask("unsubscribe", { topics: ["user"] });
  await note();
  await reader.ask("subscribe", { topics: ["log"], since: { cursor } });
  expect(await isLevel(reader)).toEqual(named(1, 3, 2, 4));
});

test("[LOG3] [BAK2] [SUB1] beside the log each name that is refused is told whole", async () => {
  const user = fresh("robot");
  const reader = await connect(user, asService);
  await reader.ask("subscribe", { topics: ["log"] });
  const refused = (...topics: string[]) => topics.map((topic) => ({ topic, code: "conflict" }));
  const own = await reader.ask("subscribe", { topics: ["user", "notifications", `user:${user}`] });
  expect(own).toMatchObject({ topics: [], rejected_count: 2 });
  expect(own.rejected).toEqual(refused(`user:${user}`, `notifications:${user}`));
  const filters = { conversation_ids: ["c1", "c2"], conversation_id: "c3" };
  const some = await reader.ask("subscribe", { topics: ["conversation", "typing"], filters });
  expect(some.rejected).toEqual(refused("conversation:c3", "conversation:c1", "conversation:c2"));
  expect(some.topics.map(({ topic }: any) => topic)).toEqual(["typing:c3", "typing:c1", "typing:c2"]);
  // All of one's own, now and later, have no whole name.
  expect((await reader.ask("subscribe", { topics: ["conversation"] })).rejected).toEqual(refused("conversation"));
});

test("[LOG3] [AUTH1] [BAK2] so it is after the `since` of authenticate", async () => {
  const guarded = await startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
  const token = await signToken({ sub: "robot", roles: ["service"], exp: Math.floor(Date.now() / 1_000) + 600 });
  const people = createPeople(() => guarded.url);
  const shop = await people.connect("robot", { token });
  const { cursor } = await shop.ask("ping");
  const note = () => shop.ask("publish", { user_ids: ["robot"], type: "app.note", payload: {} });
  await note();
  const reader = await Client.connect(guarded.url);
  await reader.ask("authenticate", { token, since: { cursor } });
  await reader.next("subscribed");
  expect(placesOf(reader)).toEqual(["user:robot 1"]);
  await reader.ask("subscribe", { topics: ["log"], since: { cursor } });
  await note();
  await reader.find(({ seq }) => seq === 2);
  expect(placesOf(reader)).toEqual(["user:robot 1", "user:robot 2"]);
  await reader.close();
  await shop.close();
  await guarded.stop();
});
