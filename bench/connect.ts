/** Connecting: CPU of the server for a client that comes, shows a token, and subscribes to its rooms. */
import { count } from "./support/command-line.ts";
import { come, compare, parameters } from "./support/comparison.ts";
import { others } from "./support/contenders.ts";

const {
  clients,
  rooms,
  "at-once": atOnce,
} = parameters({ clients: count(1_500), rooms: count(1), "at-once": count(64) });

await compare({
  name: rooms === 1 ? "connect" : `connect-${rooms}`,
  unit: "connection",
  contenders: [...others, "service"],
  async prepare() {},
  measure: (contender) => come(contender, { count: clients, atOnce, rooms: { each: rooms, size: 10 } }),
  /** Gone, and known to be gone, before the next comes: that is not what is measured. */
  async after(contender) {
    await contender.load({ do: "leave" });
  },
});
