/** Proves that of three nodes together each missed event is told once, whichever of them dies or stands still, and whatever is away meanwhile [BAK3]. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Client } from "../support/client.ts";
import { openStage, type Stage, type StageNode } from "../support/faults/stage.ts";
import { fresh } from "../support/people.ts";
import { until } from "../support/until.ts";

setDefaultTimeout(90_000);

const settings = { PUSH__AFTER: "300ms", DIRECTORY__MODE: "managed" };
const clients: Client[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
});

async function connect(node: StageNode, userId: string, query: Record<string, string> = {}): Promise<Client> {
  const client = await Client.connect(node.url, { query: { user_id: userId, ...query }, patienceMs: 60_000 });
  clients.push(client);
  return client;
}

/** The node that looks for what was missed, and the others. */
async function turnOf(stage: Stage): Promise<{ holder: StageNode; others: StageNode[] }> {
  const admin = await connect(stage.nodes[0]!, "root", { roles: "admin" });
  let holder: StageNode | undefined;
  await until(async () => {
    const { nodes } = await admin.ask("admin.stats");
    const name = nodes.find(({ figures }: any) => figures.push?.turn === 1)?.node_id;
    holder = stage.nodes.find((node) => node.name === name);
    return holder !== undefined;
  });
  return { holder: holder!, others: stage.nodes.filter((node) => node !== holder) };
}

/** Users of a new conversation. */
async function conversationOf(stage: Stage, ...names: string[]): Promise<{ c: string; ids: string[] }> {
  const [c, ids] = [fresh("room"), names.map(fresh)];
  await stage.sql(`INSERT INTO ws.users (user_id) VALUES ${ids.map((id) => `('${id}')`).join(",")}`);
  await stage.sql(`INSERT INTO ws.members VALUES ${ids.map((id) => `('${c}', '${id}')`).join(",")}`);
  return { c, ids };
}

/** A backend that is told of what is missed, from now on. */
async function listen(stage: Stage, node: StageNode): Promise<Client> {
  const id = fresh("backend");
  await stage.sql(`INSERT INTO ws.users (user_id) VALUES ('${id}')`);
  const client = await connect(node, id, { roles: "service" });
  await client.ask("subscribe", { topics: ["missed"] });
  return client;
}

/** Sends until each is taken, under the same key. @returns ids of the messages in the order of the log */
async function send(from: Client, c: string, count: number): Promise<string[]> {
  const sent = await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const message = { conversation_id: c, client_message_id: crypto.randomUUID(), content: `m${n}` };
      for (;;) {
        const { type, payload } = await from.request("message.send", message);
        if (type === "ack") return payload as { message_id: string; seq: number };
        expect(payload).toMatchObject({ code: "unavailable", retryable: true });
      }
    }),
  );
  return sent.toSorted((one, other) => one.seq - other.seq).map(({ message_id }) => message_id);
}

/** Ids of the messages that somebody has missed, in the order in which they were told of. */
const missedBy = (judge: Client, userId: string) =>
  judge
    .all("delivery.missed")
    .filter(({ payload }) => payload.user_ids.includes(userId))
    .map(({ payload }) => payload.event_id as string);
/** Waits until somebody is told of to have missed as many, and a message that comes after all of them as well. */
const missesOf = (judge: Client, userId: string, ids: string[]) =>
  judge.until(
    () => (missedBy(judge, userId).includes(ids.at(-1)!) ? missedBy(judge, userId) : undefined),
    `the last of what ${userId} has missed`,
  );
const lines = (node: StageNode, msg: string) => node.service().logs.filter((line) => line.msg === msg).length;

describe("three nodes", () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await openStage({ settings });
  });
  afterAll(() => stage?.stop());

  /** A backend and a sender on nodes that stay, and a conversation with somebody on each node, and with somebody who is nowhere. */
  async function scene() {
    // It may be the first that anybody asks.
    await listen(stage, stage.nodes[0]!);
    const { holder, others } = await turnOf(stage);
    const [one, other] = others as [StageNode, StageNode];
    const { c, ids } = await conversationOf(stage, "sender", "here", "held", "away");
    const [senderId, hereId, heldId, away] = ids as [string, string, string, string];
    const judge = await listen(stage, one);
    const [sender, here, held] = [
      await connect(one, senderId),
      await connect(other, hereId),
      await connect(holder, heldId),
    ];
    for (const client of [here, held]) await client.ask("subscribe", { topics: [`conversation:${c}`] });
    return {
      holder,
      others,
      c,
      judge,
      sender,
      here: hereId,
      held: heldId,
      away,
      clientOfHere: here,
      clientOfHeld: held,
    };
  }

  test("[BAK3] the node that looks for them is killed in the middle: another goes on, nobody is told of twice, and who was on it is not forgotten", async () => {
    const { holder, c, judge, sender, here, held, away } = await scene();
    const before = await send(sender, c, 300);
    // The first half was looked for while everybody was there.
    await judge.until(() => (missedBy(judge, away).length >= before.length / 2 ? true : undefined));
    const meanwhile = send(sender, c, 300);
    await holder.kill();
    const ids = [...before, ...(await meanwhile)];
    const after = await send(sender, c, 50);
    ids.push(...after);
    expect(await missesOf(judge, away, ids)).toEqual(ids);
    expect(missedBy(judge, here)).toEqual([]);
    // Its device was gone, whatever the registry said at first.
    const missed = await missesOf(judge, held, after);
    expect(missed.slice(-after.length)).toEqual(after);
    expect(new Set(missed).size).toBe(missed.length);
    expect(missed.filter((id) => before.includes(id) && before.indexOf(id) < before.length / 2)).toEqual([]);
    await holder.restart();
    await stage.whole();
  });

  test("[BAK3] a node that stands still and wakes with the work of before tells nothing twice", async () => {
    const { holder, c, judge, sender, here, away } = await scene();
    const ids = await send(sender, c, 200);
    await judge.until(() => (missedBy(judge, away).length > 0 ? true : undefined));
    const meanwhile = send(sender, c, 200);
    holder.service().signal("SIGSTOP");
    ids.push(...(await meanwhile));
    expect(await missesOf(judge, away, ids)).toEqual(ids);
    holder.service().signal("SIGCONT");
    await stage.whole();
    ids.push(...(await send(sender, c, 20)));
    expect(await missesOf(judge, away, ids)).toEqual(ids);
    expect(missedBy(judge, here)).toEqual([]);
  });

  test("[BAK3] while Redis is away nobody knows who is here: it waits, says so once, and tells all of it afterwards", async () => {
    const { holder, c, judge, sender, here, held, away } = await scene();
    const waits = lines(holder, "missed events wait");
    await stage.redis[0]!.kill();
    await until(async () => !(await Promise.all(stage.nodes.map((it) => it.isWhole()))).some(Boolean));
    const ids = await send(sender, c, 100);
    await until(async () => lines(holder, "missed events wait") > waits);
    expect(missedBy(judge, away)).toEqual([]);
    await stage.redis[0]!.restart();
    await stage.whole();
    expect(await missesOf(judge, away, ids)).toEqual(ids);
    for (const userId of [here, held]) expect(missedBy(judge, userId)).toEqual([]);
    expect(lines(holder, "missed events wait")).toBe(waits + 1);
    await holder.service().logged(({ msg }) => msg === "missed events are told again");
  });

  test("[BAK3] who leaves while Redis cannot be reached has missed what is said after that, whichever node looks for it", async () => {
    const { c, judge, sender, here, held, clientOfHeld, clientOfHere } = await scene();
    const links = stage.nodes.flatMap(({ toRedis }) => toRedis.map(({ link }) => link));
    for (const link of links) link.cut();
    await until(async () => !(await Promise.all(stage.nodes.map((it) => it.isWhole()))).some(Boolean));
    await Promise.all([clientOfHere.close(), clientOfHeld.close()]);
    const ids = await send(sender, c, 10);
    for (const link of links) link.heal();
    await stage.whole();
    for (const userId of [here, held]) expect(await missesOf(judge, userId, ids)).toEqual(ids);
  });

  test("[BAK3] a node that alone cannot reach Redis leaves it to another one, and says so once", async () => {
    const { holder, c, judge, sender, here, away } = await scene();
    const waits = lines(holder, "missed events wait");
    for (const { link } of holder.toRedis) link.cut();
    const ids = await send(sender, c, 100);
    expect(await missesOf(judge, away, ids)).toEqual(ids);
    ids.push(...(await send(sender, c, 100)));
    expect(await missesOf(judge, away, ids)).toEqual(ids);
    for (const { link } of holder.toRedis) link.heal();
    await stage.whole();
    expect(missedBy(judge, here)).toEqual([]);
    expect(lines(holder, "missed events wait") - waits).toBeLessThanOrEqual(1);
  });

  test("[BAK3] Redis comes back empty: whoever is here has missed nothing, whoever is not is told of once", async () => {
    const { c, judge, sender, here, held, away } = await scene();
    const before = send(sender, c, 50);
    await stage.flushRedis();
    const ids = [...(await before), ...(await send(sender, c, 50))];
    expect(await missesOf(judge, away, ids)).toEqual(ids);
    for (const userId of [here, held]) expect(missedBy(judge, userId)).toEqual([]);
  });

  test("[BAK3] PostgreSQL stands still and goes on: what was acknowledged is told of once", async () => {
    const { c, judge, sender, here, away } = await scene();
    const ids = await send(sender, c, 100);
    stage.postgres.halt();
    const meanwhile = send(sender, c, 100);
    await until(async () => !(await Promise.all(stage.nodes.map((it) => it.isWhole()))).some(Boolean));
    stage.postgres.resume();
    await stage.whole();
    ids.push(...(await meanwhile), ...(await send(sender, c, 10)));
    expect(await missesOf(judge, away, ids)).toEqual(ids);
    expect(missedBy(judge, here)).toEqual([]);
  });
});

test("[BAK3] [LOG4] a standby that lacks the last commits: it goes on from the break, and what was told of is not told again", async () => {
  const stage = await openStage({ settings, nodes: 2, replication: "asynchronous" });
  try {
    const { c, ids } = await conversationOf(stage, "sender", "away");
    const [senderId, away] = ids as [string, string];
    const judge = await listen(stage, stage.nodes[0]!);
    const sender = await connect(stage.nodes[1]!, senderId);
    const before = await send(sender, c, 50);
    expect(await missesOf(judge, away, before)).toEqual(before);
    await until(async () => (await stage.sql(level)).length > 0);
    stage.failover!.fallBehind();
    // Acknowledged, told of, and lost.
    const lost = await send(sender, c, 20);
    await missesOf(judge, away, lost);
    await stage.failover!.run({ how: "at once", pause: async () => {} });
    await stage.whole();
    const after = await send(sender, c, 50);
    const all = await missesOf(judge, away, after);
    expect(all).toEqual([...before, ...lost, ...after]);
    const rows = await stage.sql(
      `SELECT e.payload::jsonb ->> 'event_id' AS id FROM ws.events AS e JOIN ws.topics AS t USING (topic_id)
       WHERE t.name = 'missed' AND e.payload LIKE '%"conversation:${c}"%' ORDER BY e.seq`,
    );
    expect(rows.map(({ id }) => id)).toEqual([...before, ...after]);
  } finally {
    await stage.stop();
  }
});

const level = "SELECT 1 FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()";
