/** Compression: CPU and bytes of a delivery, and memory of a connection, in each mode beside off. */
import { readOptions } from "./support/command-line.ts";
import { openListeners } from "./support/deflated.ts";
import { present, startMeasured } from "./support/measured.ts";

readOptions({});

const modes = ["off", "shared", "dedicated"] as const;
/** Bytes of an event's text. */
const sizes = [1_024, 4_096, 65_536];
const crowds = [1, 100, 1_000];
/** Fewer events where each is much work. */
const eventsOf = (receivers: number, bytes: number) =>
  Math.min(100, Math.max(5, Math.round((64 << 20) / (receivers * bytes))));
const words =
  `the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what
all were we when your can said there use an each which she do how their if will up other about out many then them these so some her
would make like him into time has look two more write go see number no way could people my than first water been call who oil its now
find long down day did get come made may part`.split(/\s/);

const rows = [];
for (const receivers of crowds) {
  for (const mode of modes) {
    const server = await startMeasured("service.ts", {
      WS__WEBSOCKET__COMPRESSION: mode,
      // All of it is measured, whatever it costs.
      WS__WEBSOCKET__COMPRESSION_WORK_MAX: "1GiB",
    });
    const before = await server.report("memory");
    const listeners = await openListeners(server.port, receivers);
    const connected = await server.report("memory");
    const publish = await openPublisher(server.port);
    const measured = [];
    for (const bytes of sizes) {
      await publish(textOf(bytes));
      await settle(listeners, publish);
      listeners.takeBytes();
      const events = eventsOf(receivers, bytes);
      const start = await server.report("cpu");
      for (let event = 0; event < events; event++) await publish(textOf(bytes));
      await settle(listeners, publish);
      const end = await server.report("cpu");
      measured.push({
        bytes,
        cpu: ((end.cpuSeconds - start.cpuSeconds) * 1e6) / (events * receivers),
        wire: listeners.takeBytes() / (events * receivers),
      });
    }
    const after = await server.report("memory");
    for (const { bytes, cpu, wire } of measured) {
      rows.push({
        receivers,
        "event bytes": bytes,
        mode,
        "µs/delivery": cpu.toFixed(1),
        "bytes/delivery": Math.round(wire),
        "KiB/connection": receivers < 1_000 ? "" : Math.round((connected.rss - before.rss) / receivers / 1_024),
        "KiB/connection, used": receivers < 1_000 ? "" : Math.round((after.rss - before.rss) / receivers / 1_024),
      });
    }
    listeners.stop();
    await server.stop();
  }
}
present("compression", rows);

/** Words in no order, with names and numbers between them, about as well compressed as people's talk. */
function textOf(bytes: number): string {
  let text = "";
  while (text.length < bytes) {
    const word = words[Math.floor(Math.random() * words.length)]!;
    text += Math.random() < 0.3 ? `${word}${Math.floor(Math.random() * 10_000)} ` : `${word} `;
  }
  return text.slice(0, bytes);
}

/** Waits until everything has been delivered. */
async function settle(listeners: Awaited<ReturnType<typeof openListeners>>, publish: (text: string) => Promise<void>) {
  const mark = crypto.randomUUID();
  await publish(mark);
  await listeners.heard(mark);
}

async function openPublisher(port: number): Promise<(text: string) => Promise<void>> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?roles=service&user_id=backend`);
  let onAck: () => void = () => {};
  await new Promise<void>((resolve) => {
    socket.onmessage = ({ data }) => {
      if (data.includes('"type":"subscribed"')) resolve();
      if (data.includes('"type":"ack"')) onAck();
      if (data.includes('"type":"error"')) throw new Error(data);
    };
  });
  let requests = 0;
  return async (text) => {
    const acked = new Promise<void>((resolve) => {
      onAck = resolve;
    });
    const payload = { conversation_id: "everybody", type: "note", payload: { text }, logged: false };
    socket.send(JSON.stringify({ id: `p${requests++}`, type: "publish", payload }));
    await acked;
  };
}
