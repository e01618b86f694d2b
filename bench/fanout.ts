/** Fan-out: CPU of the server for each delivery to the subscribers of one room, one message at a time or some at once. */
import { compare, parameters, published } from "./support/comparison.ts";
import { others } from "./support/contenders.ts";
import type { Published } from "./support/load.ts";

const given = { subscribers: 1_000, deliveries: 20_000, "at-once": 1, seconds: 3 };
/** Deliveries: of each second. */
const { subscribers, deliveries, "at-once": atOnce, seconds } = parameters(given);
const perSecond = deliveries / subscribers;
const count = Math.max(20, Math.round(perSecond * seconds));

await compare({
  name: atOnce === 1 ? "fanout" : "fanout-at-once",
  unit: "delivery",
  contenders: [...others, "service, not logged", "service"],
  async prepare(contender) {
    const rooms = { each: 1, size: subscribers };
    await contender.load({ do: "connect", as: "subscriber", count: subscribers, rooms });
    await contender.connectPublishers(10);
  },
  async measure(contender) {
    const { mode } = contender;
    const told = await contender.load<Published>({ do: "publish", mode, rooms: 1, count, pace: { perSecond, atOnce } });
    return { units: told.delivered, ...published(told) };
  },
});
