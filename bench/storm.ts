/** A storm: all clients come back, some at once, each to the events of its rooms that it has missed; the platform sends as many. */
import { come, compare, parameters } from "./support/comparison.ts";

const given = { clients: 2_000, rooms: 3, missed: 7, "at-once": 256 };
/** Missed: in each of its rooms. */
const { clients, rooms, missed, "at-once": atOnce } = parameters(given);
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
    const count = everyRoom * missed;
    await contender.load({ do: "publish", mode: contender.mode, rooms: everyRoom, count, pace: { unanswered: 1 } });
  },
  measure: (contender) =>
    come(contender, { count: clients, atOnce, rooms: { each: rooms, size }, missed: rooms * missed }),
});
