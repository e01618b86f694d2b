/** Proves what a cursor is on the wire: one opaque text in all places, good over restarts, and worth nothing where no log of ours wrote it. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { subprotocols } from "../../src/protocol/limits.ts";
import { Client } from "../support/client.ts";
import { cursorAt, partsOf, positionOf } from "../support/cursors.ts";
import { firstFile } from "../support/first-release.ts";
import { contentsOf, createPeople, fresh, sendAll } from "../support/people.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { type Service, startService } from "../support/service.ts";

setDefaultTimeout(60_000);
let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());
const { connect, gather, backend } = createPeople(() => service.url);

const isOpaque = expect.stringMatching(/^[\x21-\x7e]{1,64}$/);
const refusedFor = (field: string) => ({ type: "error", payload: { code: "invalid_payload", field } });

for (const [format, protocol] of Object.entries(subprotocols)) {
  test(`[LOG4] [LOG6] ${format}: each cursor is a text, and each leads back to where it was given out`, async () => {
    const c = fresh("c");
    const topic = `conversation:${c}`;
    const [anna, user, device_id] = [await connect(fresh("anna")), fresh("ben"), "phone"];
    const come = (query: Record<string, string> = {}) =>
      connect(user, { device_id, ...query }, { protocols: [protocol] });
    const ben = await come();
    const own = (await ben.next("subscribed")).payload.cursor;
    const { cursor: subscribed } = await ben.ask("subscribe", { topics: [topic] });
    await sendAll(anna, c, ["one"]);
    const { cursor: pong } = await ben.ask("ping");
    const acked = await ben.ask("ack", { cursor: pong });
    expect([own, subscribed, pong]).toEqual([isOpaque, isOpaque, isOpaque]);
    expect(acked).toEqual({ cursor: pong });
    await ben.close();
    await sendAll(anna, c, ["two"]);

    const missed: [since: unknown, contents: string[]][] = [
      [{ cursor: subscribed }, ["one", "two"]],
      [{ cursor: pong }, ["two"]],
      ["acked", ["two"]],
      [{ cursor: own, seen: { [topic]: 2 } }, []],
    ];
    for (const [since, contents] of missed) {
      const back = await come();
      const answer = await back.ask("subscribe", { topics: [topic], since });
      expect(contentsOf(back)).toEqual(contents);
      expect(answer.topics).toMatchObject([{ seq: 2, recovered: true, replayed: contents.length }]);
    }
    const told = { type: "notification", payload: {} };
    await (await backend()).ask("publish", { user_ids: [user], ...told });
    for (const since of [own, "acked"]) expect((await come({ since })).all("notification")).toHaveLength(1);
  });
}

test("[LOG4] [LOG6] a restart that lost nothing is another epoch, and what was given out before goes on holding", async () => {
  let one = await startService();
  try {
    const query = { user_id: "ben", device_id: "phone" };
    const send = async (content: string) => {
      const anna = await Client.connect(one.url, { query: { user_id: "anna" } });
      await sendAll(anna, "c1", [content]);
      await anna.close();
    };
    const ben = await Client.connect(one.url, { query });
    const { cursor: first } = await ben.ask("subscribe", { topics: ["conversation:c1"] });
    await send("one");
    const { cursor: second } = await ben.ask("ping");
    await ben.ask("ack", { cursor: first });
    const known = [first, second];
    // It is stopped, and it dies.
    for (const end of ["SIGTERM", "SIGKILL"] as const) {
      one.signal(end);
      await one.exited;
      one = await startService({ folder: one.folder });
      await send(end);
      const sent = ["one", "SIGTERM", "SIGKILL"].slice(0, known.length);
      let newest = "";
      for (const [index, cursor] of known.entries()) {
        const back = await Client.connect(one.url, { query: { ...query, since: cursor } });
        const answer = await back.ask("subscribe", { topics: ["conversation:c1"], since: { cursor } });
        expect(contentsOf(back)).toEqual(sent.slice(index));
        expect(answer.topics[0]).toMatchObject({ recovered: true, replayed: sent.length - index });
        expect((await back.next("subscribed")).payload.topics).toContainEqual(
          expect.objectContaining({ topic: "user:ben", recovered: true }),
        );
        expect(known.map((it) => partsOf(it).epoch)).not.toContain(partsOf(answer.cursor).epoch);
        newest = answer.cursor;
        await back.close();
      }
      known.push(newest);
    }
    // Each of them is before or after the others, whatever epoch it is of.
    const device = await Client.connect(one.url, { query });
    for (const cursor of known) expect(await device.ask("ack", { cursor })).toEqual({ cursor });
    for (const cursor of known) expect(await device.ask("ack", { cursor })).toEqual({ cursor: known.at(-1) });
    // A cursor that would come after the end of an epoch was never given out in it.
    for (const cursor of known.slice(0, -1)) {
      const above = cursorAt(cursor, positionOf(known.at(-1)!) + 1);
      expect(await device.request("ack", { cursor: above })).toMatchObject(refusedFor("payload.cursor"));
      const { topics } = await device.ask("subscribe", { topics: ["conversation:c1"], since: { cursor: above } });
      expect(topics[0]).toMatchObject({ recovered: false, replayed: 0 });
      await device.ask("unsubscribe", { topics: ["conversation:c1"] });
    }
    await device.close();
  } finally {
    await one.stop();
  }
});

test("[LOG4] [LOG6] what a device acknowledged as a number, in the first version, is where it goes on after the upgrade", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ws-cursors-"));
  mkdirSync(join(folder, "data"));
  const database = new Database(join(folder, "data/ws-service.db"));
  const payload = (seq: number) => JSON.stringify({ message_id: `m${seq}`, content: `m${seq}`, sender_id: "anna" });
  const events = [1, 2, 3].map((seq) => `(${seq}, 1, ${seq}, 'm${seq}', 'message.new', '${payload(seq)}', 0, 'anna')`);
  database.exec(`${firstFile}; UPDATE log_state SET position = 3, events = 3;
    INSERT INTO topics VALUES (1, 'conversation:c1', 3, 3, 0, 3);
    INSERT INTO events (position, topic_id, seq, id, type, payload, created_at, sender_id) VALUES ${events.join()};
    INSERT INTO cursors (user_id, device_id, cursor) VALUES ('ben', 'phone', 2)`);
  database.close();
  const upgraded = await startService({ folder, settings: { LOG__RETENTION: "36500d" } });
  try {
    const ben = await Client.connect(upgraded.url, { query: { user_id: "ben", device_id: "phone" } });
    const { topics, cursor } = await ben.ask("subscribe", { topics: ["conversation:c1"], since: "acked" });
    expect(topics[0]).toMatchObject({ seq: 3, recovered: true, replayed: 1 });
    expect(contentsOf(ben)).toEqual(["m3"]);
    expect(await ben.ask("ack", { cursor })).toEqual({ cursor });
  } finally {
    await upgraded.stop();
  }
});

test("[LOG4] [ENV4] a number, as cursors were once, is refused; in the URL it is a text that leads nowhere", async () => {
  const user = fresh("anna");
  // Ten that make no sense in a minute are too many for one connection.
  const [one, other] = [await connect(user), await connect(user)];
  for (const cursor of [0, 4711, null, [], {}, "", "a b", "ü", "x".repeat(65)]) {
    expect(await one.request("ack", { cursor })).toMatchObject(refusedFor("payload.cursor"));
    const refusal = await other.request("subscribe", { topics: ["user"], since: { cursor } });
    expect(refusal).toMatchObject(refusedFor("payload.since.cursor"));
  }
  const back = await connect(user, { since: "4711" });
  const { payload } = await back.next("subscribed");
  for (const { topic, recovered } of payload.topics)
    if (!topic.startsWith("calls:")) expect([topic, recovered]).toEqual([topic, false]);
  expect((await RawSocket.refused(service.url, { query: { user_id: user, since: "" } })).status).toBe(400);
});

test("[LOG4] [LOG6] forged and garbled cursors resume nothing but where they were given out, and keep nothing", async () => {
  const [c, user] = [fresh("c"), fresh("ben")];
  const [anna] = await gather(c, [fresh("anna")]);
  await sendAll(anna!, c, ["one", "two", "three"]);
  const { cursor } = await anna!.ask("ping");
  const end = positionOf(cursor);
  const { epoch } = partsOf(cursor);
  const device = await connect(user, { device_id: "phone" });
  const topics = [`conversation:${c}`];
  const word = fc.stringMatching(/^[\x21-\x7e]{1,64}$/);
  const number = fc.maxSafeNat().map((position) => position.toString(36));
  const forged = fc.oneof(
    word,
    number.map((position) => `${epoch}.${position}`),
    word.map((rest) => `${epoch}.${rest}`.slice(0, 64)),
    fc.stringMatching(/^[0-9a-z]{8}\.[0-9a-z]{1,11}$/),
    fc.constantFrom("acked", ".", `${epoch}`, `${epoch}.`, `.${end}`, `${epoch}.-1`, `${epoch}.1.1`, "__proto__.0"),
    fc.constantFrom(`${epoch}.${"z".repeat(11)}`, `${epoch.toUpperCase()}.0`, `${cursor}\\0`, `00${cursor}`),
    fc.nat({ max: cursor.length - 1 }).map((at) => cursor.slice(0, at) + cursor.slice(at + 1)),
  );
  await fc.assert(
    fc.asyncProperty(forged, async (text) => {
      const isOurs = text.startsWith(`${epoch}.`) && /^[0-9a-z]{1,11}$/.test(text.slice(9)) && positionOf(text) <= end;
      const answer = await device.ask("subscribe", { topics, since: { cursor: text } });
      expect([text, answer.topics[0].recovered]).toEqual([text, isOurs]);
      if (!isOurs) expect(answer.topics[0]).toMatchObject({ seq: 3, replayed: 0 });
      await device.ask("unsubscribe", { topics });
    }),
    { numRuns: 200 },
  );
  // Ten refusals a minute are too many for one connection.
  for (const text of fc.sample(
    forged.filter((it) => !it.startsWith(`${epoch}.`)),
    24,
  )) {
    const other = await connect(fresh("carl"), { device_id: "phone" });
    expect(await other.request("ack", { cursor: text })).toMatchObject(refusedFor("payload.cursor"));
    await other.ask("subscribe", { topics, since: "acked" });
    expect(contentsOf(other)).toEqual(["one", "two", "three"]);
  }
});
