/** Judges both ways in: a subscriber and the history have everything once, in order, whoever dies [PUB2]. */
import { expect } from "bun:test";
import { resolve } from "node:path";
import { Client, type Received } from "./client.ts";
import { fresh } from "./people.ts";
import type { Service } from "./service.ts";

/** The events of a type on a topic as a connected client got them, once `count` are there. */
export function arrived(client: Client, topic: string, count: number): Promise<Received[]> {
  return client.until(() => {
    const events = client.received.filter((message) => message.topic === topic);
    return events.length >= count ? events : undefined;
  }, `${count} events of ${topic}`);
}

/** All of a topic's history, oldest first. */
export async function historyOf(client: Client, topic: string): Promise<Received[]> {
  const all: Received[] = [];
  for (;;) {
    const { events, has_more } = await client.ask("history", { topic, after_seq: all.at(-1)?.seq ?? 0, limit: 200 });
    all.push(...events);
    if (!has_more) return all;
  }
}

/** Events with `payload.n` from 1 to `count`, with `seq` from 1 on: none missing, none twice, none out of place. */
export function expectCounted(events: Received[], count: number): void {
  const counted = Array.from({ length: count }, (_, index) => index + 1);
  expect(events.map(({ payload }) => payload.n)).toEqual(counted);
  expect(events.map(({ seq }) => seq)).toEqual(counted);
}

/** The examples of a language under a heading of `docs/operating.md`, each block as it stands. */
export async function examplesOf(language: string, heading: string): Promise<string[]> {
  const doc = await Bun.file(resolve(import.meta.dir, "../../docs/operating.md")).text();
  const section = doc.split(/^## /m).find((it) => it.startsWith(`${heading}\n`)) ?? "";
  const blocks = [...section.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, "gm"))];
  return blocks.map((match) => match[1]!);
}

/** One of the ways in, with two nodes that take turns to drain it. */
export interface InboxScene {
  /** As log lines call it. */
  inbox: "outbox" | "stream";
  nodes(): Service[];
  /** Puts new nodes in place of those that are dead. */
  renewNodes(): Promise<void>;
  /** A node that shows what is published and has no part in it. */
  startBystander(): Promise<Service>;
  /** Hands in `order.changed` with `n` from 1 on for as long as it should. @returns how many */
  handInWhile(topic: string, isWanted: (count: number) => boolean): Promise<number>;
  emptied(): Promise<void>;
}

/** Resolves with the node that is alive and drains. */
export function drainerOf({ inbox, nodes }: InboxScene, among = nodes()): Promise<Service> {
  return Promise.any(
    among.map(async (node) => {
      await node.logged((line) => line.msg === "ingest is here now" && line.inbox === inbox);
      const alive = fetch(`${node.http}/live`).then(({ ok }) => ok);
      if (!(await Promise.race([node.exited.then(() => false), alive]))) throw new Error("it is dead");
      return node;
    }),
  );
}

/** `kill -9` of every node that drains, amid thousands of events on some topics: each is published once, in order. */
export async function killEveryDrainer(scene: InboxScene): Promise<void> {
  const topics = [1, 2, 3].map(() => `conversation:${fresh("c")}`);
  const bystander = await scene.startBystander();
  try {
    const watcher = await Client.connect(bystander.url, { query: { user_id: fresh("watcher") }, patienceMs: 40_000 });
    await watcher.ask("subscribe", { topics });
    let deaths = 0;
    const handedIn = Promise.all(
      topics.map((topic) => scene.handInWhile(topic, (count) => deaths < scene.nodes().length || count < 1_000)),
    );
    const published = () => watcher.received.filter(({ type }) => type === "order.changed").length;
    for (; deaths < scene.nodes().length; deaths++) {
      const before = published();
      await watcher.until(() => (published() > before + 300 ? true : undefined));
      await (await drainerOf(scene)).kill();
    }
    await scene.renewNodes();
    for (const [index, count] of (await handedIn).entries()) await expectAllOnce(watcher, topics[index]!, count);
    await scene.emptied();
    await watcher.close();
  } finally {
    await bystander.stop();
  }
}

/** The node that drains stands still for longer than it may have the turn, and wakes: it changes nothing then. */
export async function freezeTheDrainer(scene: InboxScene, { topic, clients }: { topic: string; clients: Client[] }) {
  const frozen = await drainerOf(scene);
  const awake = scene.nodes().filter((node) => node !== frozen);
  const client = clients[scene.nodes().indexOf(awake[0]!)]!;
  let hasWoken = false;
  const handedIn = scene.handInWhile(topic, (count) => !hasWoken || count < 500);
  await client.until(() => (client.received.length > 50 ? true : undefined));
  frozen.signal("SIGSTOP");
  await drainerOf(scene, awake);
  const seen = client.received.length;
  await client.until(() => (client.received.length > seen + 300 ? true : undefined));
  frozen.signal("SIGCONT");
  hasWoken = true;
  const count = await handedIn;
  await arrived(client, topic, count);
  await scene.emptied();
  await expectAllOnce(client, topic, count);
}

async function expectAllOnce(client: Client, topic: string, count: number): Promise<void> {
  await arrived(client, topic, count);
  await client.settled();
  expectCounted(await arrived(client, topic, count), count);
  expectCounted(await historyOf(client, topic), count);
}
