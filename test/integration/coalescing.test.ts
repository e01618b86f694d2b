/** Proves over real sockets that a busy conversation is written together, in fewer system calls, and that nothing promised bends by it [WIRE1]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "../support/client.ts";
import { createPeople, fresh } from "../support/people.ts";
import { type Service, startService } from "../support/service.ts";
import { canTrace, countSystemCalls } from "../support/system-calls.ts";

setDefaultTimeout(60_000);

/** Long enough that what is sent at once surely falls into it. */
const settings = { WEBSOCKET__COALESCE_WINDOW: "500ms", WEBSOCKET__COALESCE_FROM: "5" };
let service: Service;
beforeAll(async () => {
  service = await startService({ settings });
});
afterAll(() => service.stop());
const { connect, gather, backend } = createPeople(() => service.url);

const crowd = (c: string, size = 10) =>
  gather(
    c,
    Array.from({ length: size }, () => fresh("user")),
  );
const say = (sender: Client, c: string, content: string) =>
  sender.ask("message.send", { conversation_id: c, client_message_id: fresh("m"), content });
const contentsOf = (client: Client) => client.all("message.new").map(({ payload }) => payload.content);
const seqsOf = (client: Client) => client.all("message.new").map(({ seq }) => seq);
const untilHad = (client: Client, type: string, count: number) =>
  client.until(() => (client.all(type).length === count ? count : undefined), `${count} of ${type}`);
const numbers = (count: number) => Array.from({ length: count }, (_, at) => at + 1);

test("[WIRE1] [LOG3] the senders of a busy conversation are answered at once, and everybody has all of it in order", async () => {
  const c = fresh("c");
  const members = await crowd(c);
  // Each waits for its answers: none of them waits for the window.
  const own = await Promise.all(
    members.map(async (member, who) => {
      const seqs: number[] = [];
      for (const nth of numbers(5)) seqs.push((await say(member, c, `${who}/${nth}`)).seq);
      return seqs;
    }),
  );
  for (const [who, member] of members.entries()) {
    await untilHad(member, "message.new", 45);
    const seqs = seqsOf(member);
    expect(seqs).toEqual(numbers(50).filter((seq) => !own[who]!.includes(seq)));
  }
});

test("[WIRE1] [LOG4] [SUB3] a cursor, a snapshot and the answer to leaving come behind what was said before", async () => {
  const c = fresh("c");
  const [anna, ben, cleo] = (await crowd(c)) as [Client, Client, Client];
  for (const nth of numbers(3)) await say(anna, c, `${nth}`);
  const { cursor } = await ben.ask("ping");
  expect(seqsOf(ben)).toEqual([1, 2, 3]);
  const { topics } = await cleo.ask("subscribe", { topics: [`conversation:${c}`] });
  expect([topics[0].seq, seqsOf(cleo)]).toEqual([3, [1, 2, 3]]);
  await say(anna, c, "4");
  await cleo.ask("unsubscribe", { topics: [`conversation:${c}`] });
  expect(seqsOf(cleo)).toEqual([1, 2, 3, 4]);
  const late = await connect(fresh("user"));
  expect((await late.ask("subscribe", { topics: [`conversation:${c}`] })).topics[0].seq).toBe(4);
  await say(anna, c, "5");
  await untilHad(late, "message.new", 1);
  expect(seqsOf(late)).toEqual([5]);
  await ben.close();
  const back = await connect(fresh("user"));
  await back.ask("subscribe", { topics: [`conversation:${c}`], since: { cursor } });
  expect(seqsOf(back)).toEqual([4, 5]);
});

test("[WIRE1] [DRN] draining writes what waits before the close", async () => {
  const other = await startService({ settings });
  const people = createPeople(() => other.url);
  try {
    const c = fresh("c");
    const members = await people.gather(
      c,
      Array.from({ length: 6 }, () => fresh("user")),
    );
    const server = await people.backend();
    for (const nth of numbers(3)) {
      await say(members[0]!, c, `${nth}`);
      await server.ask("publish", { conversation_id: c, type: "note", payload: { nth }, logged: false });
    }
    other.signal("SIGTERM");
    for (const member of members.slice(1)) {
      expect((await member.closed).code).toBe(1012);
      expect(contentsOf(member)).toEqual(["1", "2", "3"]);
      expect(member.all("note").map(({ payload }) => payload.nth)).toEqual([1, 2, 3]);
    }
  } finally {
    await other.stop();
  }
});

test.skipIf(!canTrace())("[WIRE1] what is written together is one write a socket", async () => {
  const c = fresh("c");
  const members = await crowd(c);
  const server = await backend();
  const [rounds, together] = [5, 10];
  const calls = await countSystemCalls(service.pid, async () => {
    for (let round = 1; round <= rounds; round++) {
      for (let nth = 0; nth < together; nth++)
        await server.ask("publish", { conversation_id: c, type: "note", payload: { nth }, logged: false });
      await Promise.all(members.map((it) => untilHad(it, "note", round * together)));
    }
  });
  const answers = rounds * together;
  // By itself each event would be ten writes. The first of a round may go out alone.
  expect(calls.get("sendto")).toBeLessThanOrEqual(answers + rounds * members.length * 3);
});
