/** Connecting: CPU of the server for a client that comes, shows a token, and subscribes to its rooms. */
import { compare, parameters } from "./support/comparison.ts";
import type { Connected } from "./support/load.ts";

const { clients, rooms, "at-once": atOnce } = parameters({ clients: 1_500, rooms: 1, "at-once": 64 });

await compare({
  name: rooms === 1 ? "connect" : `connect-${rooms}`,
  unit: "connection",
  contenders: ["bare", "ws", "socket.io", "centrifugo", "centrifugo, history", "anycable", "service"],
  async prepare() {},
  async measure(contender) {
    const { ready, cpuSeconds } = await contender.load<Connected>({
      do: "connect",
      as: "subscriber",
      count: clients,
      atOnce,
      rooms: { each: rooms, size: 10 },
    });
    return { units: clients, latencies: { ready }, cpuSeconds };
  },
  /** Gone, and known to be gone, before the next comes: that is not what is measured. */
  async after(contender) {
    await contender.load({ do: "leave" });
  },
});
