/** Proves that a backend hears of a call to somebody without a device in time to wake one, once, whichever nodes and engine there are [BAK3]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { SQL } from "bun";
import { subprotocols } from "../../src/protocol/limits.ts";
import { Client } from "../support/client.ts";
import { type Ground, layGround } from "../support/ground.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);

/** Where the caller is, and where the backend and the phone are. */
interface Stage {
  here: Service;
  there: Service;
  settings: Record<string, string>;
}

let ground: Ground;
beforeAll(async () => {
  ground = await layGround();
});
afterAll(() => ground?.stop());

const short = { PRESENCE__OFFLINE_GRACE: "300ms", CLUSTER__HEARTBEAT: "200ms", CLUSTER__DEAD_AFTER: "1500ms" };

async function startStage(settings: Record<string, string>, nodes: 1 | 2): Promise<Stage> {
  const here = await startService({ settings });
  return { here, there: nodes === 1 ? here : await startService({ settings }), settings };
}

const stages: Record<string, () => Promise<Stage>> = {
  "one node on SQLite": () => startStage({}, 1),
  "one node on PostgreSQL": () => startStage({ STORAGE__URL: ground.settings.STORAGE__URL! }, 1),
  "two nodes": () => startStage({ ...ground.settings, ...short }, 2),
};

const breakOff = (client: Client) => {
  (client.socket as unknown as { terminate(): void }).terminate();
  return client.closed;
};

/** All that the log has of a call that nobody heard. */
async function unreachedOf(backend: Client, call_id: string) {
  const { events } = await backend.ask("history", { topic: "missed", limit: 200 });
  return events.filter(({ type, payload }: any) => type === "call.unreached" && payload.call_id === call_id);
}

for (const [name, start] of Object.entries(stages)) {
  describe(name, () => {
    let stage: Stage;
    beforeAll(async () => {
      stage = await start();
    });
    afterAll(() => Promise.all(new Set([stage?.here, stage?.there]).values().map((node) => node?.stop())));
    const here = createPeople(() => stage.here.url);
    const there = createPeople(() => stage.there.url);

    /** A caller, and somebody of whom no device is here; a backend that wakes phones. */
    async function scene() {
      const [anna, ben] = [fresh("anna"), fresh("ben")];
      const [caller, last] = (await here.gather(fresh("c"), [anna, ben])) as [Client, Client];
      await caller.ask("subscribe", { topics: [`presence:${ben}`] });
      await last.close();
      await caller.next("presence.offline");
      const backend = await there.backend();
      await backend.ask("subscribe", { topics: ["missed"] });
      const call_id = crypto.randomUUID();
      const offer = () => caller.ask("call.offer", { call_id, to_user_id: ben, media: "video", sdp: "offer" });
      return { anna, ben, caller, backend, call_id, offer };
    }

    test("[BAK3] [CALL5] it is told at once; the phone that it wakes rings and answers", async () => {
      const { anna, ben, caller, backend, call_id, offer } = await scene();
      expect(await offer()).toEqual({});
      const pushed = await backend.next("call.unreached", (payload) => payload.call_id === call_id);
      const logged = await unreachedOf(backend, call_id);
      const { payload } = pushed;
      expect(payload).toEqual({
        call_id,
        from_user_id: anna,
        to_user_id: ben,
        media: "video",
        expires_at: expect.any(String),
      });
      expect(logged).toMatchObject([{ id: pushed.id, seq: pushed.seq, topic: "missed", payload }]);

      const phone = await there.connect(payload.to_user_id);
      const { topics } = (await phone.next("subscribed")).payload;
      const { calls } = topics.find(({ topic }: { topic: string }) => topic === `calls:${ben}`).snapshot;
      expect(calls).toMatchObject([{ call_id, state: "ringing", peer_user_id: anna, expires_at: payload.expires_at }]);
      expect((await phone.next("call.incoming")).payload).toMatchObject({ call_id, sdp: "offer" });
      await phone.ask("call.answer", { call_id, sdp: "answer" });
      expect((await caller.next("call.answer")).payload.sdp).toBe("answer");
      await caller.ask("call.hangup", { call_id });
      expect(await unreachedOf(backend, call_id)).toHaveLength(1);
    });

    test("[BAK3] an offer that is sent again, and a phone that comes and goes, tell nothing more", async () => {
      const { ben, caller, backend, call_id, offer } = await scene();
      await Promise.all([offer(), offer(), offer()]);
      await backend.next("call.unreached", (payload) => payload.call_id === call_id);
      const phone = await there.connect(ben);
      await phone.next("call.incoming");
      await phone.close();
      await caller.ask("call.hangup", { call_id });
      await caller.next("call.ended");
      expect(await unreachedOf(backend, call_id)).toHaveLength(1);
    });

    test("[BAK3] [PRE1] whoever is there is not told of; when the last device goes while it rings it is, though it may be back", async () => {
      const { ben, backend, call_id, offer } = await scene();
      const devices = [await there.connect(ben), await here.connect(ben)] as const;
      await offer();
      for (const device of devices) await device.next("call.incoming");
      expect(await unreachedOf(backend, call_id)).toEqual([]);
      await devices[0].close();
      await breakOff(devices[1]);
      await backend.next("call.unreached", (payload) => payload.call_id === call_id);
      expect(await unreachedOf(backend, call_id)).toHaveLength(1);
    });

    test("[BAK3] devices that go at the same moment, from whichever nodes, are told of once", async () => {
      const { ben, caller, backend, call_id, offer } = await scene();
      for (let round = 0; round < 5; round++) {
        const devices = await Promise.all([here, there, here, there].map((people) => people.connect(ben)));
        const id = round === 0 ? call_id : crypto.randomUUID();
        if (round === 0) await offer();
        else await caller.ask("call.offer", { call_id: id, to_user_id: ben, media: "audio", sdp: "offer" });
        for (const device of devices) await device.next("call.incoming", (payload) => payload.call_id === id);
        await Promise.all(devices.map((device, at) => (at % 2 ? device.close() : breakOff(device))));
        await backend.next("call.unreached", (payload) => payload.call_id === id);
        await caller.ask("call.hangup", { call_id: id });
        expect(await unreachedOf(backend, id)).toHaveLength(1);
      }
      const ids = backend.all("call.unreached").map(({ payload }) => payload.call_id);
      expect(new Set(ids).size).toBe(ids.length);
    });

    test("[BAK3] in protobuf", async () => {
      const { anna, call_id, offer } = await scene();
      const backend = await there.connect(
        fresh("backend"),
        { roles: "service" },
        { protocols: [subprotocols.protobuf] },
      );
      await backend.ask("subscribe", { topics: ["missed"] });
      await offer();
      const { payload } = await backend.next("call.unreached", (it) => it.call_id === call_id);
      expect(payload).toMatchObject({ from_user_id: anna, media: "video" });
    });
  });
}

test("[BAK3] [CALL5] where the node dies that has answered the caller and not told it yet, another tells it, once", async () => {
  const { here: one, there: other } = await startStage({ ...ground.settings, ...short }, 2);
  const connect = (node: Service, user_id: string, query = {}) =>
    Client.connect(node.url, { query: { user_id, ...query }, patienceMs: 40_000 });
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  const [caller, phone] = [await connect(one, anna), await connect(other, ben)];
  for (const client of [caller, phone]) await client.ask("subscribe", { topics: ["conversation:c2"] });
  await caller.ask("subscribe", { topics: [`presence:${ben}`] });
  await phone.close();
  await caller.next("presence.offline");
  const backend = await connect(other, fresh("backend"), { roles: "service" });
  await backend.ask("subscribe", { topics: ["missed"] });
  const call_id = crypto.randomUUID();
  const sql = new SQL(ground.settings.STORAGE__URL!, { max: 1 });
  try {
    await sql.begin(async (transaction) => {
      // The log can be read, and takes nothing.
      await transaction.unsafe("LOCK TABLE ws.events IN SHARE ROW EXCLUSIVE MODE");
      await caller.ask("call.offer", { call_id, to_user_id: ben, media: "audio", sdp: "offer" });
      expect(backend.all("call.unreached")).toEqual([]);
      await one.kill();
    });
    const { payload } = await backend.next("call.unreached", (it) => it.call_id === call_id);
    expect(payload).toMatchObject({ from_user_id: anna, to_user_id: ben });
    const tablet = await connect(other, ben);
    await tablet.next("call.incoming", (it) => it.call_id === call_id);
    expect(await unreachedOf(backend, call_id)).toHaveLength(1);
    await Promise.all([tablet, backend].map((client) => client.close()));
  } finally {
    await sql.end();
    await Promise.all([one, other].map((node) => node.stop()));
  }
});

test("[BAK3] [CALL5] of a callee whose node dies while it rings another node tells, in time to wake another device", async () => {
  const { here: one, there: other } = await startStage({ ...ground.settings, ...short }, 2);
  const connect = (node: Service, user_id: string, query = {}) =>
    Client.connect(node.url, { query: { user_id, ...query }, patienceMs: 40_000 });
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  const [caller, phone] = [await connect(one, anna), await connect(other, ben)];
  for (const client of [caller, phone]) await client.ask("subscribe", { topics: ["conversation:c1"] });
  const backend = await connect(one, fresh("backend"), { roles: "service" });
  await backend.ask("subscribe", { topics: ["missed"] });
  const call_id = crypto.randomUUID();
  await caller.ask("call.offer", { call_id, to_user_id: ben, media: "audio", sdp: "offer" });
  await phone.next("call.incoming");
  await other.kill();
  const { payload } = await backend.next("call.unreached");
  expect(payload).toMatchObject({ call_id, from_user_id: anna, to_user_id: ben });
  const tablet = await connect(one, ben);
  expect((await tablet.next("call.incoming")).payload.call_id).toBe(call_id);
  await tablet.ask("call.answer", { call_id, sdp: "answer" });
  await caller.next("call.answer");
  expect(await unreachedOf(backend, call_id)).toHaveLength(1);
  await Promise.all([caller, tablet, backend].map((client) => client.close()));
  await Promise.all([one, other].map((node) => node.stop()));
});
