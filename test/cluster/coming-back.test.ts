/** Two nodes on one log: whoever comes back is served out of a node's memory what the log has, whatever has changed meanwhile, and by whichever node [LOG5]. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "../support/client.ts";
import { laySharedFile, type SharedFile } from "../support/ground.ts";
import { createPeople, fresh } from "../support/people.ts";
import type { Service } from "../support/service.ts";

setDefaultTimeout(60_000);

let ground: SharedFile;
let one: Service;
let other: Service;
const startNode = (settings: Record<string, string> = {}) =>
  ground.startNode({ OPERATIONS__LISTEN: "127.0.0.1:0", ...settings });
beforeAll(async () => {
  ground = await laySharedFile();
  [one, other] = await Promise.all([startNode(), startNode()]);
});
afterAll(async () => {
  await Promise.all([one?.stop(), other?.stop()]);
  await ground?.stop();
});

const here = createPeople(() => one.url);
const there = createPeople(() => other.url);

const say = (from: Client, conversation_id: string, content: string) =>
  from.ask("message.send", { conversation_id, client_message_id: crypto.randomUUID(), content });

/** Comes to a conversation with a cursor. @returns what it was sent of it before it was live, and what was said of that */
async function comeBack(people: typeof here, c: string, cursor: string, seen?: Record<string, number>) {
  const client = await people.connect(fresh("carl"));
  const subscribed = await client.ask("subscribe", { topics: [`conversation:${c}`], since: { cursor, seen } });
  const events = client.received.filter(({ topic }) => topic === `conversation:${c}`);
  const { recovered, replayed, seq } = subscribed.topics[0] as Record<string, unknown>;
  return { client, events, place: { recovered, replayed, seq }, cursor: subscribed.cursor as string };
}

const shown = ({ events }: { events: Client["received"] }) =>
  events.map(({ seq, type, payload }) => [seq, type, payload.content]);

/** A conversation with somebody on it by each node, and the cursor before anything was said. */
async function scene() {
  const c = fresh("c");
  const [anna, ben] = [await here.connect(fresh("anna")), await there.connect(fresh("ben"))];
  const { cursor } = await anna.ask("subscribe", { topics: [`conversation:${c}`] });
  await ben.ask("subscribe", { topics: [`conversation:${c}`] });
  return { c, anna, ben, cursor: cursor as string };
}

async function replaysRead(service: Service): Promise<number> {
  const admin = await createPeople(() => service.url).connect(fresh("root"), { roles: "admin" });
  const { nodes } = (await admin.ask("admin.stats", {})) as {
    nodes: { node_id: string; figures: { subscriptions: { replays_read: number } } }[];
  };
  admin.close();
  return nodes.reduce((sum, { figures }) => sum + figures.subscriptions.replays_read, 0);
}

test("[LOG5] who comes back to what both nodes have published is given the same by each, and of the conversation nothing is read", async () => {
  const { c, anna, ben, cursor } = await scene();
  for (let at = 1; at <= 10; at++) await say(at % 2 ? anna : ben, c, `m${at}`);
  await ben.next("message.new", ({ content }) => content === "m9");
  await anna.next("message.new", ({ content }) => content === "m10");
  const before = await replaysRead(one);
  const all = Array.from({ length: 10 }, (_, at) => [at + 1, "message.new", `m${at + 1}`]);
  for (const people of [here, there, here, there]) {
    const back = await comeBack(people, c, cursor);
    expect(shown(back)).toEqual(all);
    expect(back.place).toEqual({ recovered: true, replayed: 10, seq: 10 });
  }
  expect(await replaysRead(one)).toBe(before);
});

test("[LOG3] [LOG5] who comes back while much is said has each message once, in order, by each node", async () => {
  const { c, anna, ben, cursor } = await scene();
  let saying = true;
  const talk = async (from: Client) => {
    for (let at = 0; saying; at++) await say(from, c, `${at}`);
  };
  const talking = [talk(anna), talk(ben)];
  const came = await Promise.all(Array.from({ length: 12 }, (_, at) => comeBack(at % 2 ? here : there, c, cursor)));
  saying = false;
  await Promise.all(talking);
  const last = await say(anna, c, "last");
  for (const { client } of came) {
    await client.next("message.new", ({ content }) => content === "last");
    const seqs = client.all("message.new").map(({ seq }) => seq);
    expect(seqs).toEqual(Array.from({ length: last.seq as number }, (_, at) => at + 1));
  }
});

test("[MSG2] [MSG3] what is edited, deleted and reacted to on one node is given as it is by the other", async () => {
  const { c, anna, ben, cursor } = await scene();
  const ids: string[] = [];
  for (const content of ["first", "secret", "third"]) ids.push((await say(anna, c, content)).message_id as string);
  await ben.next("message.new", ({ content }) => content === "third");
  expect(shown(await comeBack(there, c, cursor))).toHaveLength(3);
  const of = (at: number) => ({ conversation_id: c, message_id: ids[at] });
  await anna.ask("message.edit", { ...of(0), content: "edited" });
  await anna.ask("message.delete", of(1));
  await anna.ask("reaction.add", { ...of(2), reaction: "👍" });
  await ben.next("message.reaction");
  const asItIs = [
    [1, "message.new", "edited"],
    [2, "message.new", null],
    [3, "message.new", "third"],
    [4, "message.edited", "edited"],
    [5, "message.deleted", undefined],
    [6, "message.reaction", undefined],
  ];
  for (const people of [there, here, there]) {
    const back = await comeBack(people, c, cursor);
    expect(shown(back)).toEqual(asItIs);
    expect(back.events[2]!.payload.reactions).toMatchObject([{ reaction: "👍", count: 1 }]);
    expect(JSON.stringify(back.client.received)).not.toContain("secret");
  }
});

test("[LOG4] a cursor and numbers of one node are good on the other, also where that has heard less", async () => {
  const { c, anna, cursor } = await scene();
  for (let at = 1; at <= 5; at++) await say(anna, c, `m${at}`);
  const back = await comeBack(there, c, cursor, { [`conversation:${c}`]: 5 });
  expect(back.place).toEqual({ recovered: true, replayed: 0, seq: 5 });
  // It may be of before what the other node has last looked at: then it comes with what it has seen after that.
  const again = await comeBack(here, c, back.cursor, { [`conversation:${c}`]: 5 });
  expect(again.place).toEqual({ recovered: true, replayed: 0, seq: 5 });
});
