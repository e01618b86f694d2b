/** A program of many clients: opens connections, lets one of them publish, and says when everything has been delivered. */

interface Job {
  /** `logged`: durable messages of a user; `ephemeral`: what a backend publishes without logging it. */
  kind: "logged" | "ephemeral" | "bare";
  port: number;
  connections: number;
  /** Topics for each connection beyond those of its own. */
  topics: number;
}

const job = JSON.parse(process.argv[2]!) as Job;
/** Connections that are being opened at once. */
const openingMax = 64;
/** The pace: a message every so many microseconds for each of its deliveries, about twice what a bare server needs. */
const microsecondsPerDelivery = 20;
const sockets: WebSocket[] = [];
let delivered = 0;
let frameBytes = 0;
let onDelivered: () => void = () => {};
let onAck: () => void = () => {};

for (let opened = 0; opened < job.connections; opened += openingMax) {
  const count = Math.min(openingMax, job.connections - opened);
  sockets.push(...(await Promise.all(Array.from({ length: count }, (_, index) => open(opened + index)))));
}
console.log(JSON.stringify({ ready: sockets.length }));

for await (const line of console) {
  const messages = Number(line);
  const expected = messages * (job.connections - (job.kind === "bare" ? 0 : 1));
  delivered = 0;
  const all = new Promise<void>((resolve) => {
    onDelivered = () => {
      if (delivered === expected) resolve();
    };
  });
  // At an even pace: whoever answers later would otherwise meet clients that sleep, and pay the kernel for waking them.
  for (let message = 0; message < messages; message++) {
    const pause = Bun.sleep(job.connections * microsecondsPerDelivery * 1e-3);
    const acked = new Promise<void>((resolve) => {
      onAck = resolve;
    });
    const content = "hello ".repeat(20);
    sockets[0]!.send(job.kind === "bare" ? "publish" : JSON.stringify({ id: `m${message}`, ...request(content) }));
    await Promise.all([acked, pause]);
  }
  await all;
  console.log(JSON.stringify({ delivered, frameBytes }));
}

/** Payloads that end as frames of about the same size. */
function request(content: string) {
  if (job.kind === "logged") {
    const client_message_id = crypto.randomUUID();
    return { type: "message.send", payload: { conversation_id: "everybody", client_message_id, content } };
  }
  const payload = { note: content.padEnd(400, ".") };
  return { type: "publish", payload: { conversation_id: "everybody", type: "note", payload, logged: false } };
}

function open(index: number): Promise<WebSocket> {
  const query =
    job.kind === "bare" ? `topics=${job.topics}` : `roles=service&user_id=user-${index}&device_id=device-${index}`;
  const socket = new WebSocket(`ws://127.0.0.1:${job.port}/ws?${query}`);
  const topics = ["everybody", ...Array.from({ length: job.topics }, (_, topic) => `c${topic}`)];
  const { promise, resolve, reject } = Promise.withResolvers<WebSocket>();
  socket.onclose = ({ code, reason }) => reject(new Error(`connection ${index} closed: ${code} ${reason}`));
  socket.onmessage = ({ data }) => {
    const text = data as string;
    // The hot path: an event is recognised by its length and start, nothing is parsed.
    if (text.length > 250 && !text.includes('"type":"subscribed"') && !text.includes('"type":"connected"'))
      return count(text);
    if (job.kind === "bare") {
      if (text === "ready") resolve(socket);
      else if (text === "ack") onAck();
      return;
    }
    if (text.includes('"type":"ack"')) onAck();
    else if (text.includes('"type":"connected"')) {
      socket.send(
        JSON.stringify({ id: "s", type: "subscribe", payload: { topics: topics.map((key) => `conversation:${key}`) } }),
      );
    } else if (text.includes('"reply_to":"s"')) resolve(socket);
  };
  return promise;

  function count(text: string): void {
    if (text.includes('"type":"ack"')) return onAck();
    frameBytes = text.length;
    delivered++;
    onDelivered();
  }
}
