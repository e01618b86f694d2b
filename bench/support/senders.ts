/** A program of many senders: each sends a durable message, waits for its acknowledgement, and sends the next. */
import { quantile } from "./statistics.ts";

/** A round: how many of the senders take part, and for how long. */
export interface Round {
  senders: number;
  forMs: number;
}

export interface Sent {
  acked: number;
  tookMs: number;
  p50Ms: number;
  p99Ms: number;
  cpuSeconds: number;
}

const { port, connections } = JSON.parse(process.argv[2]!) as { port: number; connections: number };
const openingMax = 64;
const content = "hello ".repeat(20);
/** Of this run, so that no key was ever used before. */
const run = crypto.randomUUID().slice(0, 8);
let sends = 0;

const senders: Sender[] = [];
while (senders.length < connections) {
  const count = Math.min(openingMax, connections - senders.length);
  senders.push(...(await Promise.all(Array.from({ length: count }, (_, index) => open(senders.length + index)))));
}
console.log(JSON.stringify({ ready: senders.length }));

for await (const line of console) {
  const { senders: count, forMs } = JSON.parse(line) as Round;
  const latencies: number[] = [];
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const until = startedAt + forMs;
  await Promise.all(senders.slice(0, count).map((sender) => sender(until, latencies)));
  const tookMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  const [p50Ms, p99Ms] = [quantile(latencies, 0.5), quantile(latencies, 0.99)];
  const sent: Sent = { acked: latencies.length, tookMs, p50Ms, p99Ms, cpuSeconds: (user + system) / 1e6 };
  console.log(JSON.stringify(sent));
}

type Sender = (until: number, latencies: number[]) => Promise<void>;

/** Resolves once the connection has its own topics, so that none of its start falls into a round. */
function open(index: number): Promise<Sender> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user_id=user-${index}&device_id=device-${index}`);
  const conversation = `c${Math.floor(index / 10)}`;
  const { promise, resolve, reject } = Promise.withResolvers<Sender>();
  let onAck: () => void = () => {};
  socket.onclose = ({ code, reason }) => reject(new Error(`sender ${index} closed: ${code} ${reason}`));
  socket.onmessage = ({ data }) => {
    const text = data as string;
    if (text.includes('"type":"ack"')) onAck();
    else if (text.includes('"type":"subscribed"')) resolve(sendUntil);
    else if (text.includes('"type":"error"')) throw new Error(text);
  };
  return promise;

  function sendUntil(until: number, latencies: number[]): Promise<void> {
    return new Promise((done) => {
      let sentAt = performance.now();
      const send = () => {
        const id = `${run}-${++sends}`;
        sentAt = performance.now();
        socket.send(
          `{"id":"${id}","type":"message.send","payload":{"conversation_id":"${conversation}","client_message_id":"${id}","content":"${content}"}}`,
        );
      };
      onAck = () => {
        const now = performance.now();
        latencies.push(now - sentAt);
        if (now < until) send();
        else done();
      };
      send();
    });
  }
}
