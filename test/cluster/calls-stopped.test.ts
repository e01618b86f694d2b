/** Proves what becomes of calls where every node of a cluster is stopped: Redis has them, and the first node that is back goes on with them. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { type Ground, layGround } from "../support/ground.ts";
import { fresh } from "../support/people.ts";
import { startService } from "../support/service.ts";

setDefaultTimeout(60_000);

let ground: Ground;
beforeAll(async () => {
  ground = await layGround();
});
afterAll(() => ground?.stop());

/** A node by itself, and how its devices come in. */
async function startNode(settings: Record<string, string> = {}) {
  const service = await startService({
    settings: { ...ground.settings, CALLS__ALLOWED_BETWEEN: "everyone", ...settings },
  });
  const come = (user_id: string, device_id: string, query = {}) =>
    Client.connect(service.url, { query: { user_id, device_id, ...query } });
  return { service, come };
}

async function callTo(caller: Client, to_user_id: string): Promise<string> {
  const call_id = crypto.randomUUID();
  await caller.ask("call.offer", { call_id, to_user_id, media: "audio", sdp: "offer" });
  return call_id;
}

test("[CALL5] [CALL7] [DRN] whoever is back in time goes on, also where the only node was stopped", async () => {
  const before = await startNode();
  const [anna, ben] = [fresh("anna"), fresh("ben")];
  const devices = [await before.come(anna, "a"), await before.come(ben, "b")] as const;
  const call_id = await callTo(devices[0], ben);
  await devices[1].ask("call.answer", { call_id, sdp: "answer" });
  before.service.signal("SIGTERM");
  for (const device of devices) expect((await device.closed).code).toBe(1012);
  await before.service.exited;
  for (const device of devices) expect(device.all("call.ended")).toEqual([]);
  const after = await startNode();
  const [caller, callee] = [await after.come(anna, "a"), await after.come(ben, "b")];
  await caller.ask("call.offer", { call_id, sdp: "restart" });
  await callee.next("call.offer");
  await callee.ask("call.hangup", { call_id });
  await caller.next("call.ended");
  await Promise.all([before.service.stop(), after.service.stop()]);
});

test("[CALL5] [CALL6] [DRN] what nobody came back to is ended by the next node, and missed where it rang", async () => {
  const short = { CALLS__RECONNECT_TIMEOUT: "300ms", PRESENCE__OFFLINE_GRACE: "100ms" };
  const before = await startNode(short);
  const [anna, ben, carl] = [fresh("anna"), fresh("ben"), fresh("carl")];
  const [caller, other] = [await before.come(anna, "a"), await before.come(ben, "b")];
  // Somebody whom the service knows, and who is not here.
  await (await before.come(carl, "c")).close();
  const [answered, rang] = [await callTo(caller, ben), await callTo(caller, carl)];
  await other.ask("call.answer", { call_id: answered, sdp: "answer" });
  before.service.signal("SIGTERM");
  await before.service.exited;
  const after = await startNode(short);
  const late = await after.come(carl, "c", { since: "acked" });
  const missed = await late.find(({ topic }) => topic === `user:${carl}`);
  expect(missed.payload).toEqual({ call_id: rang, reason: "cancelled", from_user_id: anna, media: "audio" });
  const back = await after.come(ben, "b");
  expect((await back.next("call.ended")).payload).toMatchObject({ call_id: answered, reason: "connection_lost" });
  await Promise.all([before.service.stop(), after.service.stop()]);
});
