/** Many small rooms: CPU of the server for a message and all its deliveries, at an even pace. */
import { count, time } from "./support/command-line.ts";
import { compare, parameters, published } from "./support/comparison.ts";
import { others } from "./support/contenders.ts";
import type { Published } from "./support/load.ts";

const { rooms, size, publishers, rate, seconds } = parameters({
  rooms: count(500),
  size: count(10, { says: "Members of a room." }),
  publishers: count(50),
  rate: count(1_000, { says: "Messages a second, over all rooms." }),
  seconds: time("seconds", 4),
});
const messages = Math.max(1, Math.round(rate * seconds));

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
    const told = await contender.load<Published>({
      do: "publish",
      mode,
      rooms,
      count: messages,
      pace: { perSecond: rate },
    });
    return { units: messages, ...published(told) };
  },
});
