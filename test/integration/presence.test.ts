/** Proves who is seen as online, away, busy or gone, and when, over real sockets. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Client, Received } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

const presenceOf = (client: Client, userId: string) =>
  client.received.filter(
    ({ type, payload, reply_to }) =>
      type.startsWith("presence.") && payload.user_id === userId && reply_to === undefined,
  );
const said = (events: Received[]) => events.map(({ type, payload }) => [type, payload.status]);
/** The client loses its network: the server sees 1006. */
const breakOff = (client: Client) => {
  (client.socket as unknown as { terminate(): void }).terminate();
  return client.closed;
};
const isOf = (userId: string) => (payload: any) => payload.user_id === userId;
/** Until the watcher holds that the user is so. */
const shows = (watcher: Client, userId: string, status: string) =>
  watcher.until(() => (presenceOf(watcher, userId).at(-1)?.payload.status === status ? true : undefined), status);

/** Two users of a conversation: the first watches the presence of the second, who is not here now. */
async function watchingIn({ gather }: Pick<ReturnType<typeof createPeople>, "gather">) {
  const c = fresh("c");
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  const [watcher, once] = (await gather(c, [anna, ben])) as [Client, Client];
  await watcher.ask("subscribe", { topics: ["presence"], filters: { user_ids: [ben] } });
  await once.close();
  await watcher.next("presence.offline", isOf(ben));
  watcher.received.length = 0;
  return { c, anna, ben, watcher };
}

describe("the usual grace", () => {
  let service: Service;
  beforeAll(async () => {
    // So that what follows each other is told of one by one.
    service = await startService({ settings: { PRESENCE__UPDATE_INTERVAL: "50ms" } });
  });
  afterAll(() => service.stop());
  const { connect, gather } = createPeople(() => service.url);

  const watching = () => watchingIn({ gather });

  test("[PRE1] online with the first device, offline after the last one, each told once", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben);
    await shows(watcher, ben, "online");
    const laptop = await connect(ben);
    await phone.close(1000);
    await laptop.close(1001);
    const gone = await watcher.next("presence.offline", isOf(ben));
    expect(presenceOf(watcher, ben).map(({ payload }) => payload)).toEqual([
      { user_id: ben, status: "online", at: expect.any(String) },
      { user_id: ben, last_seen: expect.any(String) },
    ]);
    expect(gone.topic).toBeUndefined();
    expect(gone.seq).toBeUndefined();
  });

  test("[PRE1] a close with 1000 counts at once, whoever breaks off and comes back is not seen to be gone", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben, { device_id: "phone" });
    await shows(watcher, ben, "online");
    await breakOff(phone);
    const back = await connect(ben, { device_id: "phone" });
    await back.ask("presence.update", { status: "busy" });
    await watcher.next("presence.update", isOf(ben));
    await breakOff(back);
    const [view] = (await watcher.ask("presence.query", { user_ids: [ben] })).users;
    expect(view).toMatchObject({ status: "busy" });
    const again = await connect(ben, { device_id: "phone" });
    // The status by hand outlives the connection.
    await again.ask("presence.update", { status: "online" });
    await again.close(1000);
    await watcher.next("presence.offline", isOf(ben));
    expect(said(presenceOf(watcher, ben)).filter(([type]) => type !== "presence.update")).toEqual([
      ["presence.online", "online"],
      ["presence.offline", undefined],
    ]);
  });

  test("[PRE1] a close without a code is as final as one with 1000", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben);
    await shows(watcher, ben, "online");
    phone.socket.close();
    const { payload } = await watcher.next("presence.offline", isOf(ben));
    expect(Date.now() - Date.parse(payload.last_seen)).toBeLessThan(9_000);
  });

  test("[PRE1] [ENV5] a close with a code of the client's own says that it comes back, and it is not seen to be gone", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben, { device_id: "phone" });
    await shows(watcher, ben, "online");
    await phone.close(4000);
    const view = async () => (await watcher.ask("presence.query", { user_ids: [ben] })).users[0];
    expect((await eventually(view, ({ devices }) => devices !== 1)).status).toBe("online");
    const back = await connect(ben, { device_id: "phone" });
    await back.close(1000);
    await watcher.next("presence.offline", isOf(ben));
    expect(said(presenceOf(watcher, ben))).toEqual([
      ["presence.online", "online"],
      ["presence.offline", undefined],
    ]);
  });

  test("[PRE1] a connection that is replaced by the same device is no absence", async () => {
    const { ben, watcher } = await watching();
    const first = await connect(ben, { device_id: "phone" });
    await shows(watcher, ben, "online");
    const second = await connect(ben, { device_id: "phone" });
    expect((await first.closed).code).toBe(4010);
    await second.close(1000);
    await watcher.next("presence.offline", isOf(ben));
    expect(presenceOf(watcher, ben)).toHaveLength(2);
  });

  test("[PRE2] devices combine: busy before online before away", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben);
    const laptop = await connect(ben);
    const statusOf = async () => (await watcher.ask("presence.query", { user_ids: [ben] })).users[0].status;
    const auto = (client: Client, status: string) => client.ask("presence.update", { status, automatic: true });
    await auto(phone, "away");
    expect(await statusOf()).toBe("online");
    await auto(laptop, "away");
    expect(await statusOf()).toBe("away");
    await auto(phone, "busy");
    expect(await statusOf()).toBe("busy");
    await auto(phone, "online");
    expect(await statusOf()).toBe("online");
    await phone.close();
    await eventually(statusOf, (status) => status === "away");
    const refused = await laptop.request("presence.update", { status: "invisible", automatic: true });
    expect(refused.payload).toMatchObject({ code: "invalid_payload", field: "payload.status" });
  });

  test("[PRE2] a status set by hand is the user's, on every device, text and emoji with it", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben);
    const laptop = await connect(ben);
    await shows(watcher, ben, "online");
    await phone.ask("presence.update", { status: "away", status_text: "at lunch", status_emoji: "🍜" });
    const told = { user_id: ben, status: "away", status_text: "at lunch", status_emoji: "🍜", at: expect.any(String) };
    expect((await watcher.next("presence.update", isOf(ben))).payload).toEqual(told);
    expect((await laptop.next("presence.update", isOf(ben))).payload).toEqual(told);
    await laptop.ask("presence.update", { status: "online", automatic: true });
    const [view] = (await watcher.ask("presence.query", { user_ids: [ben] })).users;
    expect(view).toEqual({ user_id: ben, status: "away", status_text: "at lunch", status_emoji: "🍜" });
    await phone.settled();
    expect(presenceOf(phone, ben)).toEqual([]);
  });

  test("[PRE2] each field is checked", async () => {
    const anna = await connect(fresh("anna"));
    for (const [field, value] of [
      ["status", "offline"],
      ["status_text", "x".repeat(101)],
      ["status_text", "nothing\0that can be stored"],
      ["status_emoji", "\0"],
      ["status_emoji", 7],
      ["expires_at", "2020-01-01T00:00:00.000Z"],
    ]) {
      const payload = { status: "away", [field as string]: value };
      const refused = await anna.request("presence.update", payload);
      expect(refused.payload).toMatchObject({ code: "invalid_payload", field: `payload.${field}` });
    }
    await anna.ask("presence.update", { status: "away", status_text: "x".repeat(100) });
  });

  test("[PRE2] invisible looks like offline to others and is told truly to one's own devices", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben);
    const laptop = await connect(ben);
    await shows(watcher, ben, "online");
    await phone.ask("presence.update", { status: "invisible", status_text: "hiding" });
    expect((await watcher.next("presence.offline", isOf(ben))).payload.last_seen).toBeString();
    expect((await laptop.next("presence.update", isOf(ben))).payload).toMatchObject({
      status: "invisible",
      status_text: "hiding",
    });
    const seen = (await watcher.ask("presence.query", { user_ids: [ben] })).users[0];
    expect(seen).toEqual({ user_id: ben, status: "offline", last_seen: expect.any(String) });
    const own = (await laptop.ask("presence.query", { user_ids: [ben] })).users[0];
    expect(own).toEqual({ user_id: ben, status: "invisible", status_text: "hiding", devices: 2 });
    // Nothing that an invisible user does is seen: neither a device that goes nor one that comes.
    await laptop.close(1000);
    const tablet = await connect(ben);
    await tablet.ask("presence.update", { status: "online", status_text: null });
    await watcher.until(() => (presenceOf(watcher, ben).length === 3 ? true : undefined));
    await watcher.settled();
    expect(said(presenceOf(watcher, ben)).slice(-2)).toEqual([
      ["presence.offline", undefined],
      ["presence.online", "online"],
    ]);
    expect(presenceOf(watcher, ben)).toHaveLength(3);
  });

  test("[PRE2] a status expires by itself, once", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben);
    await shows(watcher, ben, "online");
    const expires_at = new Date(Date.now() + 1_000).toISOString();
    await phone.ask("presence.update", { status: "busy", status_text: "in a meeting", expires_at });
    const [own] = (await phone.ask("presence.query", { user_ids: [ben] })).users;
    expect(own).toEqual({ user_id: ben, status: "busy", status_text: "in a meeting", expires_at, devices: 1 });
    const isOver = (payload: any) => payload.user_id === ben && payload.status === "online";
    const [over] = await Promise.all([watcher.next("presence.update", isOver), phone.next("presence.update", isOver)]);
    expect(over.payload).toMatchObject({ status: "online", status_text: null, status_emoji: null });
    await phone.close();
    await watcher.next("presence.offline", isOf(ben));
    expect(said(presenceOf(watcher, ben))).toEqual([
      ["presence.online", "online"],
      ["presence.update", "busy"],
      ["presence.update", "online"],
      ["presence.offline", undefined],
    ]);
  });

  test("[PRE4] a query answers for each user; who may not be seen reads as offline without last_seen", async () => {
    const { anna, ben, watcher } = await watching();
    const stranger = await connect(fresh("stranger"));
    await stranger.ask("presence.update", { status: "busy", status_text: "secret" });
    const strangerId = (await stranger.next("connected")).payload.user_id;
    const reply = await watcher.request("presence.query", { user_ids: [ben, anna, strangerId, "nobody"] });
    expect(reply).toMatchObject({ type: "presence.update", reply_to: expect.any(String) });
    expect(reply.payload).toEqual({
      users: [
        { user_id: ben, status: "offline", last_seen: expect.any(String) },
        { user_id: anna, status: "online", devices: 1 },
        { user_id: strangerId, status: "offline" },
        { user_id: "nobody", status: "offline" },
      ],
    });
    const many = (count: number) => Array.from({ length: count }, (_, n) => `u${n}`);
    expect((await watcher.ask("presence.query", { user_ids: many(500) })).users).toHaveLength(500);
    expect((await watcher.request("presence.query", { user_ids: many(501) })).payload.code).toBe("invalid_payload");
  });

  test("[PRE5] subscribing gives a snapshot", async () => {
    const { c, anna, ben, watcher } = await watching();
    const phone = await connect(ben);
    await phone.ask("presence.update", { status: "away", status_text: "back soon" });
    await shows(watcher, ben, "away");
    await watcher.ask("unsubscribe", { topics: [`presence:${ben}`] });
    for (const request of [
      { topics: [`presence:${ben}`] },
      { topics: ["presence"], filters: { conversation_id: c } },
      { topics: ["presence"] },
    ]) {
      expect((await watcher.ask("subscribe", request)).topics).toEqual([
        {
          topic: `presence:${ben}`,
          snapshot: { presence: { user_id: ben, status: "away", status_text: "back soon" } },
        },
      ]);
    }
    const own = await watcher.ask("subscribe", { topics: [`presence:${anna}`] });
    expect(own.topics[0].snapshot.presence).toEqual({ user_id: anna, status: "online", devices: 1 });
  });
});

describe("one change in half a second", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({ settings: { PRESENCE__UPDATE_INTERVAL: "500ms" } });
  });
  afterAll(() => service.stop());
  const { connect, gather } = createPeople(() => service.url);
  const watching = () => watchingIn({ gather });

  test("[PRE1] [PRE3] others are told of at most one change in an interval, the last one, and of nothing where it is as it was", async () => {
    const { ben, watcher } = await watching();
    const offlineAt = Date.now();
    const phone = await connect(ben);
    await shows(watcher, ben, "online");
    expect(Date.now() - offlineAt).toBeGreaterThan(400);
    await phone.ask("presence.update", { status: "away" });
    for (let n = 0; n < 5; n++) await phone.ask("presence.update", { status: "busy", status_text: `text ${n}` });
    await watcher.next("presence.update", ({ status_text }) => status_text === "text 4");
    // The same again says nothing, nor does a device that goes and is back within the interval.
    await phone.ask("presence.update", { status: "busy", status_text: "text 4" });
    await phone.close(1000);
    const back = await connect(ben);
    await back.ask("presence.update", { status: "away" });
    await back.close(1000);
    await watcher.next("presence.offline", isOf(ben));
    const told = presenceOf(watcher, ben);
    expect(said(told)).toEqual([
      ["presence.online", "online"],
      ["presence.update", "busy"],
      ["presence.offline", undefined],
    ]);
    const times = told.map(({ timestamp }) => Date.parse(timestamp));
    for (const [index, time] of times.slice(1).entries()) expect(time - times[index]!).toBeGreaterThanOrEqual(490);
  });

  test("[PRE3] [PRE5] a snapshot shows what all who watch hold, and what is held back comes at its time", async () => {
    const { c, ben, watcher } = await watching();
    const phone = await connect(ben);
    await shows(watcher, ben, "online");
    await phone.ask("presence.update", { status: "busy" });
    const [late] = (await gather(c, [fresh("cleo")])) as [Client];
    const { topics } = await late.ask("subscribe", { topics: [`presence:${ben}`] });
    expect(topics[0].snapshot.presence.status).toBe("online");
    await Promise.all([shows(late, ben, "busy"), shows(watcher, ben, "busy")]);
  });

  test("[PRE1] [PRE4] who is answered what is held back from the others is told at its end that it is over", async () => {
    const { ben, watcher } = await watching();
    const phone = await connect(ben);
    await shows(watcher, ben, "online");
    await phone.close(1000);
    const statusOf = async () => (await watcher.ask("presence.query", { user_ids: [ben] })).users[0].status;
    await eventually(statusOf, (status) => status === "offline");
    watcher.received.length = 0;
    await connect(ben);
    await shows(watcher, ben, "online");
  });
});

test("[PRE1] who was here when the only node stopped stays for the grace", async () => {
  const first = await startService();
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  await createPeople(() => first.url).gather(fresh("c"), [anna, ben]);
  first.signal("SIGTERM");
  await first.exited;
  const second = await startService({ folder: first.folder });
  try {
    const watcher = await createPeople(() => second.url).connect(anna);
    const { topics } = await watcher.ask("subscribe", { topics: ["presence"] });
    expect(topics.map(({ snapshot }: any) => snapshot.presence)).toEqual([{ user_id: ben, status: "online" }]);
  } finally {
    await second.stop();
  }
});

describe("a short grace", () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService({
      settings: {
        PRESENCE__OFFLINE_GRACE: "100ms",
        PRESENCE__UPDATE_INTERVAL: "10ms",
        PRESENCE__VISIBLE_TO: "everyone",
      },
    });
  });
  afterAll(() => service.stop());
  const { connect } = createPeople(() => service.url);

  test("[PRE1] who breaks off and stays away is offline after the grace, once; the policy may let everyone see", async () => {
    const [anna, ben] = [fresh("anna"), fresh("ben")];
    const watcher = await connect(anna);
    expect(await watcher.ask("subscribe", { topics: [`presence:${ben}`] })).toMatchObject({ rejected: [] });
    const phone = await connect(ben);
    const laptop = await connect(ben);
    await Promise.all([breakOff(phone), breakOff(laptop)]);
    const gone = await watcher.next("presence.offline", isOf(ben));
    expect(Date.parse(gone.payload.last_seen)).toBeLessThanOrEqual(Date.now());
    const back = await connect(ben);
    await shows(watcher, ben, "online");
    await back.close(1000);
    const offlines = () => presenceOf(watcher, ben).filter(({ type }) => type === "presence.offline");
    await watcher.until(() => (offlines().length === 2 ? true : undefined));
    expect(said(presenceOf(watcher, ben))).toEqual([
      ["presence.online", "online"],
      ["presence.offline", undefined],
      ["presence.online", "online"],
      ["presence.offline", undefined],
    ]);
  });
});
