/** A program of users that each ask for all that they may, as fast as they may, over all devices that they may have. */
import { demands } from "./demands.ts";

export interface Demanded {
  asked: number;
  answered: number;
  refused: Record<string, number>;
}

const { port } = JSON.parse(process.argv[2]!) as { port: number };
const devices = 10;
const triesMax = 40;
/** Paces requests at what the rate of a minute lets through once the burst is spent. */
const afterBurstMs = 500;
console.log(JSON.stringify({ ready: true }));

for await (const line of console) {
  const { demand: index, forMs } = JSON.parse(line) as { demand: number; forMs: number };
  const demand = demands[index]!;
  const result: Demanded = { asked: 0, answered: 0, refused: {} };
  const url = (device: number) => `ws://127.0.0.1:${port}/ws?user_id=demanding-${index}&device_id=d${device}`;
  const coming = demand.comesAnew ? 0 : devices;
  const sockets = await Promise.all(Array.from({ length: coming }, (_, device) => comeIn(url(device))));
  const frame = (n: number) => JSON.stringify({ id: `n${n}`, ...demand.request(n) });
  const frames = demand.comesAnew ? [] : Array.from({ length: demand.burst }, (_, n) => frame(n));
  console.log(JSON.stringify({ ready: true }));
  const until = performance.now() + forMs;
  // In turns by pairs, so that what takes back comes to the device that has asked.
  const send = (text: string) => sockets[(result.asked++ >> 1) % devices]?.send(text);
  for (const text of frames) send(text);
  while (performance.now() < until) {
    if (demand.comesAnew) {
      result.asked++;
      void open(url(result.asked % devices), true).then(
        () => result.answered++,
        () => {},
      );
      await Bun.sleep(1_000 / demand.burst);
      continue;
    }
    await Bun.sleep(afterBurstMs);
    if (demand.burst > devices) send(frame(result.asked));
  }
  for (const socket of sockets) socket.close();
  console.log(JSON.stringify(result));

  /** Tries again: what the one before has asked for may still be worked on. */
  async function comeIn(address: string): Promise<WebSocket> {
    for (let tries = 0; tries < triesMax; tries++) {
      const socket = await open(address).catch(() => null);
      if (socket !== null) return socket;
      await Bun.sleep(afterBurstMs);
    }
    throw new Error("nobody is let in");
  }

  function open(address: string, leaves = false): Promise<WebSocket> {
    const socket = new WebSocket(address);
    const { promise, resolve, reject } = Promise.withResolvers<WebSocket>();
    socket.onerror = () => reject(new Error("refused"));
    socket.onclose = ({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`));
    socket.onmessage = ({ data }) => {
      // Only the ends of what is large: reading it must not cost more than answering it.
      const text = (data as string).slice(0, 400);
      if (text.includes('"type":"subscribed"') && !text.includes('"reply_to"')) {
        resolve(socket);
        if (leaves) socket.close();
      }
      if (!text.includes('"reply_to"')) return;
      const code = /"type":"error".*"code":"(\w+)"/.exec(text)?.[1];
      if (code === undefined) result.answered++;
      else result.refused[code] = (result.refused[code] ?? 0) + 1;
    };
    return promise;
  }
}
