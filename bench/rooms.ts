/** Many small rooms: CPU of the server for a message and all its deliveries, at an even pace. */
import { compare, parameters, published } from "./support/comparison.ts";
import { others } from "./support/contenders.ts";
import type { Published } from "./support/load.ts";

const given = { rooms: 500, size: 10, publishers: 50, rate: 1_000, seconds: 4 };
const { rooms, size, publishers, rate, seconds } = parameters(given);
const count = rate * seconds;

await compare({
  name: "rooms",
  unit: "message",
  contenders: [...others, "service, not logged", "service"],
  async prepare(contender) {
    await contender.load({ do: "connect", as: "subscriber", count: rooms * size, rooms: { each: 1, size } });
    await contender.connectPublishers(publishers);
  },
  async measure(contender) {
    const { mode } = contender;
    const told = await contender.load<Published>({ do: "publish", mode, rooms, count, pace: { perSecond: rate } });
    return { units: count, ...published(told) };
  },
});
