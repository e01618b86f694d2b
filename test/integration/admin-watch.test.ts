/** Proves that an operator sees the last hour, and what one connection receives and sends, and nothing that it may not see [ADM1]. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { secret, signToken } from "../support/tokens.ts";
import { eventually } from "../support/until.ts";

setDefaultTimeout(60_000);

let service: Service;
let open: Service;
beforeAll(async () => {
  [service, open] = await Promise.all([
    startService({ settings: { OPERATIONS__SAMPLE_INTERVAL: "1s", CLUSTER__NODE_ID: "the-node" } }),
    startService({ settings: { OPERATIONS__SHOW_PAYLOADS: "true" } }),
  ]);
});
afterAll(() => Promise.all([service?.stop(), open?.stop()]));
const { connect, gather } = createPeople(() => service.url);
const there = createPeople(() => open.url);
const operator = () => connect(fresh("root"), { roles: "admin" });
const idOf = async (client: Client): Promise<string> => (await client.next("connected")).payload.connection_id;
const seenBy = (client: Client): any[] => client.all("admin.watched").flatMap(({ payload }) => payload.messages);
const sees = (client: Client, isIt: (message: any) => boolean) => client.until(() => seenBy(client).find(isIt));
const ended = (client: Client) => client.next("admin.watched", (payload) => payload.ended !== undefined);
async function refusal(client: Client, type: string, payload: object) {
  const reply = await client.request(type, payload);
  expect(reply.type).toBe("error");
  return reply.payload;
}

describe("one connection, live", () => {
  test("[ADM1] what a connection receives and is sent is shown with type, topic, seq and bytes, in order", async () => {
    const admin = await operator();
    const c = fresh("c");
    const [anna, ben] = await gather(c, [fresh("anna"), fresh("ben")]);
    const watch = await admin.ask("admin.watch", { connection_id: await idOf(anna!) });
    expect(watch).toMatchObject({
      node_id: "the-node",
      payloads: false,
      missing_nodes: [],
      user_id: expect.any(String),
    });
    const said = await ben!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content: "hi" });
    await ben!.ask("typing.start", { conversation_id: c });
    await anna!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content: "a secret" });
    anna!.socket.send("no JSON");
    await anna!.settled();
    await sees(admin, ({ type }) => type === "pong");
    const seen = seenBy(admin).filter(({ type }) => !/^(message.delivered|presence|member)/.test(type));
    expect(seen.map(({ direction, type, topic, seq }) => ({ direction, type, topic, seq }))).toEqual([
      { direction: "sent", type: "message.new", topic: `conversation:${c}`, seq: said.seq },
      { direction: "received", type: "message.send", topic: undefined, seq: undefined },
      { direction: "sent", type: "ack", topic: undefined, seq: undefined },
      { direction: "received", type: "?", topic: undefined, seq: undefined },
      { direction: "sent", type: "error", topic: undefined, seq: undefined },
      { direction: "received", type: "ping", topic: undefined, seq: undefined },
      { direction: "sent", type: "pong", topic: undefined, seq: undefined },
    ]);
    const frame = JSON.stringify(anna!.all("message.new")[0]);
    expect(seen[0].bytes).toBeGreaterThanOrEqual(frame.length);
    expect(JSON.stringify(admin.all("admin.watched"))).not.toMatch(/payload":\{"(?!watch_id)|secret/);
    for (const { payload } of admin.all("admin.watched")) expect(payload.watch_id).toBe(watch.watch_id);
  });

  test("[ADM1] [SUB6] what its own sender is not sent is not shown of it, what its own topics bring is", async () => {
    const admin = await operator();
    const user = fresh("anna");
    const [one, backend] = [await connect(user), await connect(fresh("backend"), { roles: "service" })];
    await admin.ask("admin.watch", { connection_id: await idOf(one) });
    await backend.ask("publish", { user_ids: [user], type: "news", payload: {} });
    await sees(admin, ({ type, topic }) => type === "news" && topic === `user:${user}`);
    await backend.ask("publish", { user_ids: [user], type: "passing", payload: {}, logged: false });
    await sees(admin, ({ type, topic, seq }) => type === "passing" && topic === `user:${user}` && seq === undefined);
  });

  test("[ADM1] payloads are shown only where the configuration lets them, and a token never", async () => {
    const admin = await operator();
    const anna = await connect(fresh("anna"));
    const connection_id = await idOf(anna);
    expect(await refusal(admin, "admin.watch", { connection_id, payloads: true })).toMatchObject({
      code: "forbidden",
      field: "payload.payloads",
    });
    const c = fresh("c");
    const [ben] = await there.gather(c, [fresh("ben")]);
    const chief = await there.connect(fresh("root"), { roles: "admin" });
    await chief.ask("admin.watch", { connection_id: await idOf(ben!), payloads: true });
    await ben!.ask("message.send", { conversation_id: c, client_message_id: "m1", content: "shown" });
    await ben!.ask("message.send", { conversation_id: c, client_message_id: "m2", content: "x".repeat(5_000) });
    await ben!.request("authenticate", { token: "a-token" });
    await sees(chief, ({ type }) => type === "auth.success");
    const sent = seenBy(chief).filter(({ type }) => type === "message.send");
    expect(sent.map(({ payload }) => payload?.content)).toEqual(["shown", undefined]);
    expect(sent[1].bytes).toBeGreaterThan(5_000);
    expect(seenBy(chief).find(({ type }) => type === "authenticate").payload).toBeUndefined();
    expect(JSON.stringify(chief.received)).not.toContain("a-token");
  });

  test("[ADM1] of what a client writes only that is shown which its type has: a token at the wrong place is not", async () => {
    const ben = await there.connect(fresh("ben"));
    const chief = await there.connect(fresh("root"), { roles: "admin" });
    await chief.ask("admin.watch", { connection_id: await idOf(ben), payloads: true });
    const token = "eyJh-a-token";
    for (const [type, payload] of [
      ["ping", { token }],
      ["ping", [token]],
      ["authenticate ", { token }],
      ["auth", { access_token: token }],
      [`auth.${token}`, {}],
      ["history", { topic: "user", token }],
      ["history", { topic: 1, token }],
    ] as const)
      await ben.request(type, payload as object);
    await ben.request("typing.start", { conversation_id: fresh("c") });
    await sees(chief, ({ type }) => type === "typing.start");
    const received = seenBy(chief).filter(({ direction }) => direction === "received");
    expect(received.slice(0, -1).map(({ type, payload }) => [type, payload])).toEqual([
      ["ping", {}],
      ["ping", {}],
      ["?", undefined],
      ["?", undefined],
      ["?", undefined],
      ["history", { topic: "user", limit: 50 }],
      ["history", undefined],
    ]);
    expect(received.at(-1).payload).toEqual({ conversation_id: expect.any(String) });
    expect(JSON.stringify(chief.received)).not.toContain(token);
  });

  test("[ADM1] it ends with whoever is watched, with the watcher, and when it is asked to; each is logged with who it was", async () => {
    const admin = await operator();
    const [anna, ben] = [await connect(fresh("anna")), await connect(fresh("ben"))];
    const first = await admin.ask("admin.watch", { connection_id: await idOf(anna) });
    const second = await admin.ask("admin.watch", { connection_id: await idOf(ben) });
    await anna.close(4_999);
    expect((await ended(admin)).payload).toMatchObject({ watch_id: first.watch_id, ended: "closed", code: 4_999 });
    expect(await refusal(await operator(), "admin.unwatch", { watch_id: second.watch_id })).toMatchObject({
      code: "not_found",
    });
    await admin.ask("admin.unwatch", { watch_id: second.watch_id });
    const isOf = (id: string, msg: string) => (line: any) => line.msg === msg && line.watch_id === id;
    const begun = await service.logged(isOf(second.watch_id, "a connection is watched"));
    const { user_id: by } = (await admin.next("connected")).payload;
    expect(begun).toMatchObject({ by, connection_id: second.connection_id, shows_payloads: false });
    await service.logged(isOf(second.watch_id, "a connection is watched no more"));
    await ben.settled();
    const third = await admin.ask("admin.watch", { connection_id: await idOf(ben) });
    await admin.close();
    await service.logged(isOf(third.watch_id, "a connection is watched no more"));
    expect(JSON.stringify(seenBy(admin))).not.toContain("pong");
  });

  test("[ADM1] one that is not there is not found; at most ten at once; others may not, and nobody subscribes to it", async () => {
    const admin = await operator();
    expect(await refusal(admin, "admin.watch", { connection_id: "none" })).toMatchObject({ code: "not_found" });
    const anna = await connect(fresh("anna"));
    const connection_id = await idOf(anna);
    const ids: string[] = [];
    for (let count = 0; count < 10; count++) ids.push((await admin.ask("admin.watch", { connection_id })).watch_id);
    expect(await refusal(admin, "admin.watch", { connection_id })).toMatchObject({ code: "limit_exceeded" });
    expect(await refusal(anna, "admin.watch", { connection_id })).toMatchObject({ code: "forbidden" });
    expect((await anna.ask("subscribe", { topics: [`watch:${ids[0]}`] })).rejected).toMatchObject([
      { code: "unknown_topic" },
    ]);
    const { connection } = await admin.ask("admin.connection", { connection_id: await idOf(admin) });
    expect(connection.topics.filter((name: string) => name.startsWith("watch:"))).toEqual([]);
    // Watching oneself shows what one asks, and not what one is shown.
    const self = await operator();
    await self.ask("admin.watch", { connection_id: await idOf(self) });
    await self.settled();
    await sees(self, ({ type }) => type === "pong");
    expect(seenBy(self).map(({ type }) => type)).not.toContain("admin.watched");
  });

  test("[ADM1] [AUTH3] a watch ends with the role", async () => {
    const strict = await startService({ settings: { AUTH__MODE: "token", AUTH__SECRET: secret } });
    try {
      const token = (claims: object) =>
        signToken({ sub: "root", exp: Math.round(Date.now() / 1_000) + 600, ...claims });
      const admin = await Client.connect(strict.url, { query: { token: await token({ roles: ["admin"] }) } });
      await admin.ask("admin.watch", { connection_id: await idOf(admin) });
      await admin.ask("authenticate", { token: await token({}) });
      expect((await ended(admin)).payload.ended).toBe("forbidden");
      await admin.close();
    } finally {
      await strict.stop();
    }
  });

  test("[ADM1] [CON4] a protobuf connection is seen as any other", async () => {
    const admin = await operator();
    const c = fresh("c");
    const [ben] = await gather(c, [fresh("ben")]);
    const anna = await connect(fresh("anna"), {}, { protocols: ["ws-service.v1.protobuf"] });
    await anna.ask("subscribe", { topics: [`conversation:${c}`] });
    await admin.ask("admin.watch", { connection_id: await idOf(anna) });
    await ben!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content: "hi" });
    await anna.settled();
    await sees(admin, ({ type, topic }) => type === "message.new" && topic === `conversation:${c}`);
    await sees(admin, ({ type, direction }) => type === "ping" && direction === "received");
  });

  test("[ADM1] a flood is counted, not shown", async () => {
    const admin = await operator();
    const anna = await connect(fresh("anna"));
    await admin.ask("admin.watch", { connection_id: await idOf(anna) });
    await Promise.all(Array.from({ length: 1_000 }, () => anna.ask("ping")));
    const total = () =>
      admin.all("admin.watched").reduce((sum, { payload }) => sum + payload.messages.length + payload.left_out, 0);
    await admin.until(() => total() === 2_000 || undefined);
    expect(admin.all("admin.watched").reduce((sum, { payload }) => sum + payload.left_out, 0)).toBeGreaterThan(0);
  });
});

describe("the last hour", () => {
  test("[ADM1] admin.samples has what happened, and goes on after the last one that is known", async () => {
    const admin = await operator();
    const c = fresh("c");
    const [anna] = await gather(c, [fresh("anna"), fresh("ben")]);
    await anna!.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content: "hi" });
    await anna!.request("history", { topic: "user:another" });
    await Client.open(service.url).catch(() => {});
    const ask = (payload = {}) => admin.ask("admin.samples", payload);
    const total = (samples: any[], name: string) => samples.reduce((sum, it) => sum + it[name], 0);
    const refused = (samples: any[], name: string) => samples.some(({ refusals }) => refusals[name] > 0);
    const { samples, step_ms } = await eventually(
      ask,
      (it) => total(it.samples, "deliveries") > 0 && refused(it.samples, "401") && refused(it.samples, "forbidden"),
    );
    expect(step_ms).toBe(1_000);
    expect(total(samples, "appends")).toBeGreaterThan(0);
    expect(total(samples, "messages_out")).toBeGreaterThan(total(samples, "events"));
    expect(Math.max(...samples.map((it: any) => it.append_ms_max))).toBeGreaterThan(0);
    const last = samples.at(-1);
    const { samples: later } = await eventually(
      () => ask({ after: last.at }),
      (it) => it.samples.length > 0,
    );
    expect(Date.parse(later[0].at) - Date.parse(last.at)).toBe(1_000);
    expect((await ask({ node_id: "the-node" })).samples.length).toBeGreaterThan(0);
    expect(await refusal(admin, "admin.samples", { node_id: "another" })).toMatchObject({ field: "payload.node_id" });
  });
});

describe("how often", () => {
  test("[LIM] [ADM1] admins ask at a rate of their own, others are refused within that of everything else", async () => {
    const settings = {
      RATE_LIMITS__ENABLED: "true",
      RATE_LIMITS__ADMIN__BURST: "7",
      RATE_LIMITS__DEFAULT__BURST: "3",
      RATE_LIMITS__ADMIN__PER_MINUTE: "1",
      RATE_LIMITS__DEFAULT__PER_MINUTE: "1",
    };
    const limited = await startService({ settings });
    try {
      for (const [roles, answer, served] of [
        ["admin", "admin.nodes", 7],
        ["service", "error", 3],
      ] as const) {
        const client = await Client.connect(limited.url, { query: { user_id: fresh("root"), roles } });
        const replies = await Promise.all(Array.from({ length: 9 }, () => client.request("admin.nodes")));
        const kinds = replies.map(({ type, payload }) => (type === "error" ? payload.code : type));
        const usual = answer === "error" ? "forbidden" : answer;
        expect(kinds).toEqual([...Array(served).fill(usual), ...Array(9 - served).fill("rate_limited")]);
        await client.close();
      }
    } finally {
      await limited.stop();
    }
  });
});

describe("finding", () => {
  test("[ADM1] connections are found by device, of one user or of all", async () => {
    const admin = await operator();
    const [anna, ben, device_id] = [fresh("anna"), fresh("ben"), fresh("tablet")];
    await Promise.all([connect(anna, { device_id }), connect(anna), connect(ben, { device_id })]);
    const users = async (payload: object) =>
      (await admin.ask("admin.connections", payload)).connections.map((it: any) => it.user_id).sort();
    expect(await users({ device_id })).toEqual([anna, ben].sort());
    expect(await users({ device_id, user_id: ben })).toEqual([ben]);
    expect(await users({ device_id, address: "192.0.2.1" })).toEqual([]);
  });

  test("[ADM1] [MEM1] admin.members lists who is in a conversation, a page at a time, to admins who are not", async () => {
    const admin = await operator();
    const c = fresh("c");
    const users = Array.from({ length: 5 }, () => fresh("member")).sort();
    await admin.ask("admin.members.add", { conversation_id: c, user_ids: users });
    await admin.ask("admin.members.update", { conversation_id: c, user_id: users[1], may_write: false });
    const first = await admin.ask("admin.members", { conversation_id: c, limit: 3 });
    const rest = await admin.ask("admin.members", { conversation_id: c, limit: 3, after: first.next });
    const all = [...first.members, ...rest.members];
    expect(all.map((it: any) => it.user_id).sort()).toEqual(users);
    expect(all.filter((it: any) => !it.may_write)).toEqual([{ user_id: users[1], may_write: false }]);
    expect(rest.next).toBeNull();
    expect(await admin.ask("admin.members", { conversation_id: fresh("c") })).toMatchObject({
      members: [],
      next: null,
    });
    expect(await refusal(await connect(fresh("anna")), "admin.members", { conversation_id: c })).toMatchObject({
      code: "forbidden",
    });
  });
});
