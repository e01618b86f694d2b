/** A hot room: CPU of the server for each delivery to many subscribers where messages follow each other closely, also written together. */
import { compare, parameters, published } from "./support/comparison.ts";
import type { Published } from "./support/load.ts";

const given = { subscribers: 1_000, rate: 100, seconds: 3 };
const { subscribers, rate, seconds } = parameters(given);
const count = rate * seconds;

await compare({
  name: "hot-room",
  unit: "delivery",
  // Centrifugo cuts its clients off at this pace, on two cores that it shares with them; others were not tried.
  contenders: ["bare", "service", "service, 25 ms", "service, 50 ms"],
  async prepare(contender) {
    const rooms = { each: 1, size: subscribers };
    await contender.load({ do: "connect", as: "subscriber", count: subscribers, rooms });
    await contender.connectPublishers(10);
  },
  async measure(contender) {
    const { mode } = contender;
    const told = await contender.load<Published>({ do: "publish", mode, rooms: 1, count, pace: { perSecond: rate } });
    return { units: told.delivered, ...published(told) };
  },
});
