/** Memory of a connection that shows a token and has one room, beside others: what the second half of many adds to the first, once all are quiet. */
import { compare, parameters } from "./support/comparison.ts";
import type { Contender } from "./support/contenders.ts";
import type { Connected } from "./support/load.ts";

const { clients, settle } = parameters({ clients: 10_000, settle: 6 });

await compare({
  name: "connections",
  unit: "connection",
  gauge: { name: "memory KiB", read: (contender) => contender.memoryBytes() / 1_024 },
  contenders: ["bare", "ws", "socket.io", "centrifugo", "centrifugo, history", "anycable", "service"],
  isFresh: true,
  prepare: async (contender) => void (await connectHalf(contender)),
  async measure(contender) {
    const { ready, cpuSeconds } = await connectHalf(contender);
    return { units: clients / 2, latencies: { ready }, cpuSeconds };
  },
});

/** Waits until the collector has had its time. */
async function connectHalf(contender: Contender): Promise<Connected> {
  const rooms = { each: 1, size: 10 };
  const connected = await contender.load<Connected>({ do: "connect", as: "subscriber", count: clients / 2, rooms });
  await Bun.sleep(settle * 1_000);
  return connected;
}
