/** A program of backends: service sockets that publish without waiting, each with so many publications unanswered. */
import { quantile } from "./statistics.ts";

/** A round: how many of the sockets take part, how many publications each has unanswered, and for how long. */
export interface PublishingRound {
  sockets: number;
  unanswered: number;
  forMs: number;
}

export interface Published {
  acked: number;
  tookMs: number;
  p50Ms: number;
  p99Ms: number;
  cpuSeconds: number;
}

const { port, connections } = JSON.parse(process.argv[2]!) as { port: number; connections: number };
const conversations = 100;
const text = "hello ".repeat(20);
let published = 0;

const publishers = await Promise.all(Array.from({ length: connections }, (_, index) => open(index)));
console.log(JSON.stringify({ ready: publishers.length }));

for await (const line of console) {
  const { sockets, unanswered, forMs } = JSON.parse(line) as PublishingRound;
  const latencies: number[] = [];
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const until = startedAt + forMs;
  await Promise.all(publishers.slice(0, sockets).map((publisher) => publisher({ unanswered, until, latencies })));
  const tookMs = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  const [p50Ms, p99Ms] = [quantile(latencies, 0.5), quantile(latencies, 0.99)];
  const done: Published = { acked: latencies.length, tookMs, p50Ms, p99Ms, cpuSeconds: (user + system) / 1e6 };
  console.log(JSON.stringify(done));
}

type Publisher = (round: { unanswered: number; until: number; latencies: number[] }) => Promise<void>;

/** Resolves once the connection has its own topics, so that none of its start falls into a round. */
function open(index: number): Promise<Publisher> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user_id=backend-${index}&roles=service`);
  const { promise, resolve, reject } = Promise.withResolvers<Publisher>();
  let onAck: (replyTo: string) => void = () => {};
  socket.onclose = ({ code, reason }) => reject(new Error(`publisher ${index} closed: ${code} ${reason}`));
  socket.onmessage = ({ data }) => {
    const reply = data as string;
    if (reply.includes('"type":"ack"')) onAck(/"reply_to":"(\d+)"/.exec(reply)![1]!);
    else if (reply.includes('"type":"subscribed"')) resolve(publishUntil);
    else if (reply.includes('"type":"error"')) throw new Error(reply);
  };
  return promise;

  function publishUntil({ unanswered, until, latencies }: Parameters<Publisher>[0]): Promise<void> {
    return new Promise((done) => {
      /** When each was sent, oldest first: replies come in the order of the requests [ENV7]. */
      const sent: { id: string; at: number }[] = [];
      const send = () => {
        const id = String(++published);
        sent.push({ id, at: performance.now() });
        const conversation = `c${published % conversations}`;
        socket.send(
          `{"id":"${id}","type":"publish","payload":{"conversation_id":"${conversation}","type":"poll.closed","payload":{"text":"${text}"}}}`,
        );
      };
      onAck = (replyTo) => {
        const { id, at } = sent.shift()!;
        if (id !== replyTo) throw new Error(`${replyTo} was answered before ${id}`);
        const now = performance.now();
        latencies.push(now - at);
        if (now < until) send();
        else if (sent.length === 0) done();
      };
      for (let count = 0; count < unanswered; count++) send();
    });
  }
}
