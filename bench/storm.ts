/** A storm: all clients come back, some at once, each to the events of its rooms that it has missed; the platform sends as many. */
import { count } from "./support/command-line.ts";
import { come, compare, parameters } from "./support/comparison.ts";

const {
  clients,
  rooms,
  missed,
  "at-once": atOnce,
} = parameters({
  clients: count(2_000),
  rooms: count(3, { says: "Of each client." }),
  missed: count(7, { says: "In each of its rooms." }),
  "at-once": count(256),
});
const size = 10;

await compare({
  name: "storm",
  unit: "client",
  contenders: ["bare", "centrifugo, history", "service, published"],
  isFresh: true,
  async prepare(contender) {
    const everyRoom = Math.ceil(clients / size) * rooms;
    await contender.load({ do: "connect", as: "subscriber", count: clients, rooms: { each: rooms, size } });
    await contender.load({ do: "leave" });
    await contender.connectPublishers(50);
    const messages = everyRoom * missed;
    const { mode } = contender;
    await contender.load({ do: "publish", mode, rooms: everyRoom, count: messages, pace: { unanswered: 1 } });
  },
  measure: (contender) =>
    come(contender, { count: clients, atOnce, rooms: { each: rooms, size }, missed: rooms * missed }),
});
