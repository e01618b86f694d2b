/**
 * A program of groups whose members mark each message of the others as delivered: messages come at an even pace, whoever is late, or so
 * many at once as may be unanswered.
 */
import { type GroupDialect, type Heard, joining, type Member } from "./group-members.ts";
import { quantile } from "./statistics.ts";

export interface MarkersJob {
  port: number;
  dialect: GroupDialect;
  groups: number;
  members: number;
  /** Messages a second, over all groups; or as fast as it goes with so many unanswered. */
  pace: { rate: number } | { unanswered: number };
  /** Otherwise they only hear it. */
  isMarking: boolean;
  /** Topics of each group. */
  topics: number;
}

/** How long those took who came back. */
export interface ReturnedRound {
  members: number;
  p50Ms: number;
  p99Ms: number;
}

export interface MarkedRound {
  messages: number;
  /** Until the last one was answered. */
  tookMs: number;
  /** Messages that members heard of others, and marked where they mark. */
  heard: number;
  /** Receipts, each counted once. */
  receipts: number;
  sendP50Ms: number;
  sendP99Ms: number;
  /** From when a message was sent until another member had it: of a group's last one, where several are on their way. */
  heardP50Ms: number;
  heardP99Ms: number;
}

const job = JSON.parse(process.argv[2]!) as MarkersJob;
const openingMax = 50;
/** Of this run, so that no key was ever used before. */
const run = crypto.randomUUID().slice(0, 8);
const content = "hello ".repeat(20);
let sent = 0;
let heard = 0;
let receipts = 0;
const sends: number[] = [];
const hears: number[] = [];
/** When the last message of a group was sent. */
const lastSent = new Map<string, number>();
/** Sent and not answered. */
const waiting = new Map<string, number>();
let onAnswered: (() => void) | null = null;

const groups: Member[][] = Array.from({ length: job.groups }, () => []);
const places = Array.from({ length: job.groups * job.members }, (_, index) => index);
for (let at = 0; at < places.length; at += openingMax) await Promise.all(places.slice(at, at + openingMax).map(join));
console.log(JSON.stringify({ ready: places.length }));

for await (const line of console) {
  const [word, missed] = line.split(" ");
  if (word === "leave" || word === "return") {
    const returned = word === "leave" ? await leave(Number(missed)) : await comeBack(Number(missed));
    console.log(JSON.stringify(returned));
    continue;
  }
  heard = receipts = sends.length = hears.length = 0;
  const startedAt = performance.now();
  const messages = await ("rate" in job.pace
    ? sendEvenly(Number(line), job.pace.rate)
    : sendUnanswered(Number(line), job.pace.unanswered));
  while (waiting.size > 0) await Bun.sleep(1);
  const tookMs = performance.now() - startedAt;
  // All are answered and heard, and all receipts of the last window told.
  while (heard < messages * (job.members - 1)) await Bun.sleep(50);
  await Bun.sleep(1_000);
  const round: MarkedRound = {
    messages,
    tookMs,
    heard,
    receipts,
    sendP50Ms: quantile(sends, 0.5),
    sendP99Ms: quantile(sends, 0.99),
    heardP50Ms: quantile(hears, 0.5),
    heardP99Ms: quantile(hears, 0.99),
  };
  console.log(JSON.stringify(round));
}

/** Each in another group than the one before, and of one group each by another member. */
function sendNext(message: number): void {
  const group = message % job.groups;
  const turn = Math.floor(message / job.groups);
  const id = `${run}-${++sent}`;
  waiting.set(id, performance.now());
  lastSent.set(`g${group}`, performance.now());
  groups[group]![turn % job.members]!.send(id, content);
}

/** @returns how many */
async function sendEvenly(seconds: number, rate: number): Promise<number> {
  const messages = Math.round(seconds * rate);
  const startedAt = performance.now();
  for (let message = 0; message < messages; message++) {
    const dueIn = startedAt + (message * 1_000) / rate - performance.now();
    if (dueIn > 0) await Bun.sleep(dueIn);
    sendNext(message);
  }
  return messages;
}

/** @returns how many */
function sendUnanswered(seconds: number, unanswered: number): Promise<number> {
  const end = performance.now() + seconds * 1_000;
  let messages = 0;
  const { promise, resolve } = Promise.withResolvers<number>();
  onAnswered = () => {
    if (performance.now() < end) return sendNext(messages++);
    onAnswered = null;
    resolve(messages);
  };
  while (messages < unanswered) sendNext(messages++);
  return promise;
}

/** All leave but the first of each group, who sends so many messages to each of its topics. */
async function leave(missed: number): Promise<object> {
  await Promise.all(groups.flatMap((members) => members.slice(1).map((member) => member.leave())));
  for (let message = 0; message < missed * job.topics; message++) {
    for (const [first] of groups) {
      const id = `${run}-${++sent}`;
      waiting.set(id, performance.now());
      first!.send(id, content, message % job.topics);
    }
    while (waiting.size > 0) await Bun.sleep(1);
  }
  return {};
}

async function comeBack(missed: number): Promise<ReturnedRound> {
  const away = groups.flatMap((members) => members.slice(1));
  const took: number[] = [];
  let next = 0;
  const comeOneByOne = async () => {
    for (let member = away[next++]; member !== undefined; member = away[next++]) {
      const from = performance.now();
      await member.comeBack(missed * job.topics);
      took.push(performance.now() - from);
    }
  };
  await Promise.all(Array.from({ length: openingMax }, comeOneByOne));
  return { members: away.length, p50Ms: quantile(took, 0.5), p99Ms: quantile(took, 0.99) };
}

async function join(index: number): Promise<void> {
  const group = `g${index % job.groups}`;
  const place = Math.floor(index / job.groups);
  const told: Heard = {
    onMessage(mark) {
      heard++;
      hears.push(performance.now() - lastSent.get(group)!);
      if (job.isMarking) mark();
    },
    onReceipt() {
      if (place === 0) receipts++;
    },
    onAnswer(id) {
      const sentAt = waiting.get(id);
      if (sentAt === undefined) return;
      waiting.delete(id);
      sends.push(performance.now() - sentAt);
      onAnswered?.();
    },
    onFailure(why) {
      console.error(why);
      process.exit(1);
    },
  };
  const { port, dialect, topics } = job;
  groups[index % job.groups]![place] = await joining[dialect]({
    port,
    user: `user-${index}`,
    group,
    topics,
    heard: told,
  });
}
