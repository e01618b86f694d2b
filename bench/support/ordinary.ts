/** A program of ordinary users: in pairs they send, hear each other and ping at a steady pace, whatever comes back when. */
import { quantile } from "./statistics.ts";

export interface Waited {
  answers: number;
  p50Ms: number;
  p99Ms: number;
  mostMs: number;
}

const { port, users } = JSON.parse(process.argv[2]!) as { port: number; users: number };
const content = "hello ".repeat(20);
/** Each sends and pings once in so long. */
const paceMs = 700;
/** Counts what is not answered by then as that long. */
const patienceMs = 6_000;
/** When each request was due, and each message to its receiver. */
const due = new Map<string, number>();
let waits: number[] = [];
let sends = 0;

const sockets = await Promise.all(Array.from({ length: users }, (_, index) => open(index)));
console.log(JSON.stringify({ ready: sockets.length }));

for await (const line of console) {
  const { forMs } = JSON.parse(line) as { forMs: number };
  waits = [];
  const startedAt = performance.now();
  const steps = Math.floor((forMs / paceMs) * users);
  for (let step = 0; step < steps; step++) {
    const at = startedAt + (step * paceMs) / users;
    const early = at - performance.now();
    if (early > 0) await Bun.sleep(early);
    sendBoth(step % users, at);
  }
  const until = performance.now() + patienceMs;
  while (due.size > 0 && performance.now() < until) await Bun.sleep(20);
  for (const at of due.values()) waits.push(performance.now() - at);
  due.clear();
  const [p50Ms, p99Ms, mostMs] = [quantile(waits, 0.5), quantile(waits, 0.99), quantile(waits, 1)];
  console.log(JSON.stringify({ answers: waits.length, p50Ms, p99Ms, mostMs } satisfies Waited));
}

function sendBoth(index: number, at: number): void {
  const id = `${++sends}`;
  for (const key of [`ack ${id}`, `heard ${id}`, `pong ${id}`]) due.set(key, at);
  const payload = { conversation_id: `pair-${index >> 1}`, client_message_id: `s${id}-`, content };
  sockets[index]!.send(JSON.stringify({ id: `s${id}-`, type: "message.send", payload }));
  sockets[index]!.send(JSON.stringify({ id: `p${id}-`, type: "ping", payload: {} }));
}

function note(key: string): void {
  const at = due.get(key);
  if (at === undefined) return;
  due.delete(key);
  waits.push(performance.now() - at);
}

function open(index: number): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user_id=user-${index}&device_id=device-${index}`);
  const { promise, resolve, reject } = Promise.withResolvers<WebSocket>();
  socket.onclose = ({ code, reason }) => reject(new Error(`user ${index} closed: ${code} ${reason}`));
  socket.onmessage = ({ data }) => {
    const text = data as string;
    const answered = /"reply_to":"([sp])(\d+)-"/.exec(text);
    const heard = /"client_message_id":"s(\d+)-"/.exec(text);
    if (heard) note(`heard ${heard[1]}`);
    else if (answered) note(`${answered[1] === "s" ? "ack" : "pong"} ${answered[2]}`);
    else if (text.includes('"type":"connected"')) {
      const payload = { topics: [`conversation:pair-${index >> 1}`] };
      socket.send(JSON.stringify({ id: "all", type: "subscribe", payload }));
    } else if (text.includes('"reply_to":"all"')) resolve(socket);
  };
  return promise;
}
