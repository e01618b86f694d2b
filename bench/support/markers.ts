/** A program of groups whose members mark each message of the others as delivered: messages come at an even pace, whoever is late. */
import { quantile } from "./statistics.ts";

export interface MarkersJob {
  port: number;
  groups: number;
  members: number;
  /** Messages a second, over all groups. */
  rate: number;
}

export interface MarkedRound {
  messages: number;
  marks: number;
  /** Receipts, each counted once. */
  receipts: number;
  sendP50Ms: number;
  sendP99Ms: number;
  markP50Ms: number;
  markP99Ms: number;
}

const job = JSON.parse(process.argv[2]!) as MarkersJob;
const openingMax = 50;
/** Of this run, so that no key was ever used before. */
const run = crypto.randomUUID().slice(0, 8);
const content = "hello ".repeat(20);
let requests = 0;
let marks = 0;
let receipts = 0;
const sends: number[] = [];
const markings: number[] = [];
/** Asked and not answered. */
const waiting = new Map<string, { askedAt: number; latencies: number[] }>();

const groups: WebSocket[][] = Array.from({ length: job.groups }, () => []);
const places = Array.from({ length: job.groups * job.members }, (_, index) => index);
for (let at = 0; at < places.length; at += openingMax) await Promise.all(places.slice(at, at + openingMax).map(open));
console.log(JSON.stringify({ ready: places.length }));

for await (const line of console) {
  marks = receipts = sends.length = markings.length = 0;
  const messages = Math.round(Number(line) * job.rate);
  const startedAt = performance.now();
  for (let message = 0; message < messages; message++) {
    const dueIn = startedAt + (message * 1_000) / job.rate - performance.now();
    if (dueIn > 0) await Bun.sleep(dueIn);
    const group = message % job.groups;
    const turn = Math.floor(message / job.groups);
    ask(groups[group]![turn % job.members]!, sends, (id) => ({
      type: "message.send",
      payload: { conversation_id: `g${group}`, client_message_id: id, content },
    }));
  }
  // All marks are answered, and all receipts of the last window told.
  const marksAtAll = messages * (job.members - 1);
  while (waiting.size > 0 || marks < marksAtAll) await Bun.sleep(50);
  await Bun.sleep(1_000);
  const round: MarkedRound = {
    messages,
    marks,
    receipts,
    sendP50Ms: quantile(sends, 0.5),
    sendP99Ms: quantile(sends, 0.99),
    markP50Ms: quantile(markings, 0.5),
    markP99Ms: quantile(markings, 0.99),
  };
  console.log(JSON.stringify(round));
}

function ask(socket: WebSocket, latencies: number[], request: (id: string) => { type: string; payload: object }): void {
  const id = `${run}-${++requests}`;
  waiting.set(id, { askedAt: performance.now(), latencies });
  socket.send(JSON.stringify({ id, ...request(id) }));
}

/** Resolves once it has joined its group, as who says something does, and hears of it. */
async function open(index: number): Promise<void> {
  const group = index % job.groups;
  const socket = new WebSocket(`ws://127.0.0.1:${job.port}/ws?user_id=user-${index}&device_id=device-${index}`);
  const { promise, resolve } = Promise.withResolvers<void>();
  const conversation = `g${group}`;
  const place = groups[group]!.push(socket) - 1;
  socket.onmessage = ({ data }) => {
    const text = data as string;
    const type = /"type":"([\w.]+)"/.exec(text)?.[1];
    if (type === "error") {
      console.error(text);
      process.exit(1);
    }
    if (type === "message.delivered" && place === 0) receipts++;
    const answered = /"reply_to":"([\w-]+)"/.exec(text)?.[1];
    const asked = answered === undefined ? undefined : waiting.get(answered);
    if (asked !== undefined) {
      waiting.delete(answered!);
      asked.latencies.push(performance.now() - asked.askedAt);
    }
    if (type === "subscribed" && text.includes(`conversation:${conversation}`)) resolve();
    if (type !== "message.new") return;
    const { message_id: messageId } = (JSON.parse(text) as { payload: { message_id: string } }).payload;
    marks++;
    ask(socket, markings, () => ({
      type: "mark.delivered",
      payload: { conversation_id: conversation, message_ids: [messageId] },
    }));
  };
  await new Promise((opened) => socket.addEventListener("open", opened));
  socket.send(
    JSON.stringify({ id: `s${index}`, type: "subscribe", payload: { topics: [`conversation:${conversation}`] } }),
  );
  await promise;
}
